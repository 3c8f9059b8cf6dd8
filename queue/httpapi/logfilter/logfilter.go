// Package logfilter sets, while a program runs, which of its diagnostics are logged: a level for all, and others for parts of the program.
//
//	logs := logfilter.New("kumod", slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logfilter.Trace}))
//	q, err := queue.New(queue.Config{Log: logs.Logger("queue")})
//	err = logs.Set("info,queue=debug")
//
// A filter is a list of directives, separated by commas:
//
//	info                    everything from that level on
//	kumod=info              the same: everything is a part of the program, which is called kumod here
//	queue=debug             that part, from that level on
//	kumod::queue=debug      the same
//	queue                   all that this part has to say
//
// What is said of a part goes before what is said of the program, and that before a level alone. What no directive is about is logged if it is an
// error. Levels are trace, debug, info, warn, error and off, in any case.
//
// A level is read as an atomic; nothing is locked when something is logged.
package logfilter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
)

// Trace is the level below slog.LevelDebug.
const Trace = slog.LevelDebug - 4

const off = slog.Level(math.MaxInt)

// Filter makes loggers and says what they let pass. Make one with New. It is safe for concurrent use.
type Filter struct {
	program string
	out     slog.Handler

	mu    sync.Mutex
	rules rules
	parts map[string]*slog.LevelVar
}

// rules are what directives say.
type rules struct {
	all   slog.Level
	parts map[string]slog.Level
}

// New makes a filter for a program of that name, whose loggers write to out. It begins with "info".
func New(program string, out slog.Handler) *Filter {
	return &Filter{program: program, out: out, rules: rules{all: slog.LevelInfo}, parts: make(map[string]*slog.LevelVar)}
}

// Logger is for a part of the program; its records have the part as the attribute target. "" is for what belongs to no part.
func (f *Filter) Logger(part string) *slog.Logger {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.parts[part]
	if v == nil {
		v = &slog.LevelVar{}
		v.Set(f.rules.level(part))
		f.parts[part] = v
	}
	l := slog.New(&handler{f.out, v})
	if part != "" {
		l = l.With("target", part)
	}
	return l
}

// Set puts another filter in force, for the loggers that there are and those to come. If it has an error, the old one stays. A directive about a part
// that no logger was made for is one.
func (f *Filter) Set(filter string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.parse(filter)
	if err != nil {
		return err
	}
	f.rules = r
	for part, v := range f.parts {
		v.Set(r.level(part))
	}
	return nil
}

func (r *rules) level(part string) slog.Level {
	if l, ok := r.parts[part]; ok {
		return l
	}
	return r.all
}

func (f *Filter) parse(filter string) (rules, error) {
	r := rules{all: slog.LevelError, parts: make(map[string]slog.Level)}
	program, named := slog.Level(0), false
	for directive := range strings.SplitSeq(filter, ",") {
		directive = strings.TrimSpace(directive)
		if directive == "" {
			continue
		}
		if strings.Contains(directive, "[") {
			return r, errors.New("spans and fields are not supported")
		}
		name, level, ok := strings.Cut(directive, "=")
		l, known := parseLevel(level)
		if !ok {
			if l, known = parseLevel(name); known {
				r.all = l
				continue
			}
			l, known = Trace, true
		}
		if !known {
			return r, fmt.Errorf("%q is not a level: expected trace, debug, info, warn, error or off", level)
		}
		name = strings.TrimPrefix(strings.TrimSpace(name), f.program+"::")
		switch {
		case name == f.program:
			program, named = l, true
		case name == "" || f.parts[name] == nil:
			known := slices.Sorted(maps.Keys(f.parts))
			known = slices.DeleteFunc(known, func(s string) bool { return s == "" })
			return r, fmt.Errorf("there is no target %q: expected %s", name, strings.Join(append([]string{f.program}, known...), ", "))
		default:
			r.parts[name] = l
		}
	}
	if named {
		r.all = program
	}
	return r, nil
}

func parseLevel(s string) (slog.Level, bool) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "trace":
		return Trace, true
	case "debug":
		return slog.LevelDebug, true
	case "info":
		return slog.LevelInfo, true
	case "warn":
		return slog.LevelWarn, true
	case "error":
		return slog.LevelError, true
	case "off":
		return off, true
	}
	return 0, false
}

// handler passes on what its level allows.
type handler struct {
	slog.Handler
	level *slog.LevelVar
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level.Level() && h.Handler.Enabled(ctx, l)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.Handler.WithAttrs(attrs), h.level}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.Handler.WithGroup(name), h.level}
}
