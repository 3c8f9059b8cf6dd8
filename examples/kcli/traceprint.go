package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// traceEvent is a frame of a trace.
type traceEvent struct {
	Meta    map[string]json.RawMessage `json:"conn_meta"`
	Payload json.RawMessage            `json:"payload"`
	When    time.Time                  `json:"when"`
}

// traceSide is what differs between the traces: the daemon as client of destinations, and as server of clients.
type traceSide struct {
	opening    string // the event that begins a session
	key        func(meta func(string) string) string
	read       string // before a line that came in
	write      string // before one that went out
	readColor  color
	writeColor color
}

type color string

const (
	plain color = ""
	red   color = "\x1b[31m"
	green color = "\x1b[32m"
	cyan  color = "\x1b[36m"
	reset       = "\x1b[0m"
)

var (
	clientSide = traceSide{"BeginSession", func(meta func(string) string) string { return meta("id") }, " <- ", "->  ", cyan, green}
	serverSide = traceSide{"Connected", func(meta func(string) string) string {
		return meta("received_from") + "->" + meta("received_via")
	}, " -> ", "<-  ", green, cyan}
)

const (
	maxTraced   = 1 << 16 // sessions at a time; beyond it some are forgotten
	maxHeldBack = 64 << 10
)

// tracePrinter writes events as lines.
type tracePrinter struct {
	out      io.Writer
	side     traceSide
	flags    traceFlags
	colors   bool
	required []requirement      // what makes certain that filters chose a session
	sessions map[string]*traced // by key
	only     string             // the session that is followed, where only one is
}

// traced is a session that is under way.
type traced struct {
	first   time.Time
	meta    map[string]json.RawMessage
	ignored bool
	held    strings.Builder // until it is certain that this is the one session
}

func newTracePrinter(c *console, flags traceFlags, side traceSide) *tracePrinter {
	return &tracePrinter{out: c.out, side: side, flags: flags, colors: flags.Color == "yes" || flags.Color == "tty" && c.colors,
		sessions: make(map[string]*traced)}
}

// requirement is metadata that a session has, with one of the values, if there are some.
type requirement struct {
	key    string
	values []string
}

func (r *requirement) met(meta map[string]json.RawMessage) bool {
	var v oneOrMany
	if json.Unmarshal(meta[r.key], &v) != nil || len(v) == 0 {
		return false
	}
	same := func(a, b string) bool { return a == b }
	switch r.key {
	case "domain", "routing_domain", "mx_host":
		same = sameHost
	}
	return r.values == nil || slices.ContainsFunc(v, func(has string) bool {
		return slices.ContainsFunc(r.values, func(want string) bool { return same(want, has) })
	})
}

// sameHost compares names of hosts, which KumoMTA shows with a dot at the end. The daemon's filters do, too.
func sameHost(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

// require adds a requirement for the session that is the only one. Filters let pass what doesn't have their key yet, so that the first
// session seen may be one that is filtered later.
func (p *tracePrinter) require(key string, values []string) {
	p.required = append(p.required, requirement{key, values})
}

// forget ends all sessions, whose ends were not seen.
func (p *tracePrinter) forget() { clear(p.sessions) }

// print writes an event. The error is errTraceDone after the end of the only session, or the writer's.
func (p *tracePrinter) print(e *traceEvent) error {
	name, content := variant(e.Payload)
	var b strings.Builder
	if e.Meta == nil { // of the trace itself
		p.lines(&b, "", "", name, content, e)
		_, err := io.WriteString(p.out, b.String())
		return err
	}
	key := p.side.key(func(name string) string {
		var s string
		json.Unmarshal(e.Meta[name], &s) // a daemon that doesn't tell it has all in one
		return s
	})
	s, delta := p.session(key, name, e.When)
	if !s.ignored {
		p.lines(&b, key, delta, name, content, e)
		p.changes(&b, key, delta, s, e.Meta)
	}
	if name == "Closed" {
		delete(p.sessions, key)
	}
	return p.emit(key, name, s, b.String())
}

// session finds the session of an event, or begins it, and says how old it is.
func (p *tracePrinter) session(key, event string, now time.Time) (*traced, string) {
	if s := p.sessions[key]; s != nil {
		return s, age(now.Sub(s.first))
	}
	if len(p.sessions) >= maxTraced {
		for k := range p.sessions {
			if k != p.only {
				delete(p.sessions, k)
				break
			}
		}
	}
	s := &traced{first: now, ignored: p.flags.OnlyNew && event != p.side.opening}
	p.sessions[key] = s
	return s, ""
}

// emit writes the lines of a session, or holds them back while another may still be the only one.
func (p *tracePrinter) emit(key, event string, s *traced, lines string) error {
	if s.ignored || p.only != "" && p.only != key {
		return nil
	}
	if p.flags.OnlyOne && p.only == "" {
		for _, r := range p.required {
			if !r.met(s.meta) {
				if s.held.Len()+len(lines) <= maxHeldBack {
					s.held.WriteString(lines)
				}
				return nil
			}
		}
		p.only = key
		lines = s.held.String() + lines
		for k := range p.sessions {
			if k != key {
				delete(p.sessions, k)
			}
		}
	}
	if _, err := io.WriteString(p.out, lines); err != nil {
		return err
	}
	if p.only != "" && event == "Closed" {
		return errTraceDone
	}
	return nil
}

// age is how long a session lasts, in five columns.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10000*time.Second:
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dh", d/time.Hour)
}

// variant takes a payload apart: "NAME", or {"NAME": content}.
func variant(payload json.RawMessage) (name string, content json.RawMessage) {
	if json.Unmarshal(payload, &name) == nil {
		return name, nil
	}
	var tagged map[string]json.RawMessage
	if json.Unmarshal(payload, &tagged) == nil && len(tagged) == 1 {
		for name, content := range tagged {
			return name, content
		}
	}
	return "", payload
}

// changes writes what is new in the metadata of a session.
func (p *tracePrinter) changes(b *strings.Builder, key, delta string, s *traced, meta map[string]json.RawMessage) {
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		if old, ok := s.meta[k]; !ok || string(old) != string(meta[k]) {
			p.line(b, key, delta, plain, "=== conn_meta "+k+"="+string(meta[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.meta)) {
		if _, ok := meta[k]; !ok {
			p.line(b, key, delta, plain, "=== conn_meta deleted "+k)
		}
	}
	s.meta = meta
}

func (p *tracePrinter) line(b *strings.Builder, key, delta string, c color, text string) {
	text = cell(text)
	if p.colors && c != plain {
		text = string(c) + text + reset
	}
	fmt.Fprintf(b, "[%s] %5s %s\n", cell(key), delta, text)
}

// lines writes what happened.
func (p *tracePrinter) lines(b *strings.Builder, key, delta, name string, content json.RawMessage, e *traceEvent) {
	line := func(c color, format string, args ...any) { p.line(b, key, delta, c, fmt.Sprintf(format, args...)) }
	var text string
	var part struct {
		Snippet string `json:"snippet"`
		Len     int64  `json:"len"`
		Level   string `json:"level"`
		Message string `json:"message"`
		Name    string `json:"name"`
		Result  jsonText
		Error   *string `json:"error"`
	}
	switch name {
	case "Read", "Write":
		json.Unmarshal(content, &text)
	case "AbbreviatedRead", "AbbreviatedWrite", "Diagnostic", "Callback":
		json.Unmarshal(content, &part)
	}
	switch name {
	case "Read":
		for l := range strings.Lines(text) {
			line(p.side.readColor, "%s%s", p.side.read, strings.TrimRight(l, "\r\n"))
		}
	case "Write":
		for l := range strings.Lines(text) {
			line(p.side.writeColor, "%s%s", p.side.write, strings.TrimRight(l, "\r\n"))
		}
	case "AbbreviatedRead":
		line(p.side.readColor, "%s%s", p.side.read, part.Snippet)
		line(plain, "=== bytes read=%d", part.Len)
	case "AbbreviatedWrite":
		line(p.side.writeColor, "%s%s", p.side.write, part.Snippet)
		line(plain, "=== bytes written=%d", part.Len)
	case "Diagnostic":
		c := plain
		if part.Level == "ERROR" {
			c = red
		}
		line(c, "=== %s: %s", part.Level, part.Message)
	case "Callback":
		switch {
		case part.Error != nil:
			line(red, "=== %s: Error: %s", part.Name, *part.Error)
		case len(part.Result) == 0 || string(part.Result) == "null":
			line(plain, "=== %s: Ok", part.Name)
		default:
			line(plain, "=== %s: Ok: %s", part.Name, part.Result)
		}
	case "MessageDisposition":
		p.disposition(line, content)
	case p.side.opening:
		line(plain, "=== %s %s", name, e.When.Format(time.RFC3339Nano))
	default:
		line(plain, "=== %s", strings.TrimSpace(name+" "+string(content)))
	}
}

// disposition tells what became of a message that was received.
func (p *tracePrinter) disposition(line func(c color, format string, args ...any), content json.RawMessage) {
	var m struct {
		Relay       bool                `json:"relay"`
		LogARF      string              `json:"log_arf"`
		LogOOB      string              `json:"log_oob"`
		Queue       string              `json:"queue"`
		Meta        map[string]jsonText `json:"meta"`
		Sender      string              `json:"sender"`
		Recipient   oneOrMany           `json:"recipient"`
		ID          string              `json:"id"`
		WasARFOrOOB *bool               `json:"was_arf_or_oob"`
		WillEnqueue *bool               `json:"will_enqueue"`
	}
	json.Unmarshal(content, &m) // what is not as expected is shown empty
	line(plain, "=== Message from=<%s> to=<%s> id=%s", m.Sender, strings.Join(m.Recipient, ", "), m.ID)
	line(plain, "=== Message queue=%s relay=%t log_arf=%s log_oob=%s was_arf_or_oob=%s will_enqueue=%s", m.Queue, m.Relay, m.LogARF, m.LogOOB,
		optional(m.WasARFOrOOB), optional(m.WillEnqueue))
	for _, k := range slices.Sorted(maps.Keys(m.Meta)) {
		line(plain, "=== Message meta: %s=%s", k, m.Meta[k])
	}
}

// optional writes a bool as the original's kcli does.
func optional(b *bool) string {
	if b == nil {
		return "None"
	}
	return fmt.Sprintf("Some(%t)", *b)
}

// oneOrMany is a list of strings that is a bare string where it has one element.
type oneOrMany []string

// UnmarshalJSON reads either.
func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = oneOrMany{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}
