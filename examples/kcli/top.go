package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
)

type topCmd struct {
	UpdateInterval seconds `help:"Time between two looks, in seconds, or as 500ms." default:"1" placeholder:"SECS"`
}

// seconds is a duration that may be a bare number of seconds.
type seconds time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *seconds) UnmarshalText(b []byte) error {
	text := string(b)
	if strings.Trim(text, "0123456789.") == "" {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		d2, err2 := mtakit.ParseDuration(string(b))
		if err2 != nil {
			return fmt.Errorf("%q is no number of seconds and no duration", b)
		}
		d = d2.Std()
	}
	if d < 100*time.Millisecond {
		return fmt.Errorf("%q is less than a tenth of a second", b)
	}
	*s = seconds(d)
	return nil
}

// top is the state of the screen.
type top struct {
	history *history
	tab     int
	scroll  int
	zoom    int // looks in one column
	filter  string
	typing  bool // of the filter
	failed  string
}

var tabs = []string{"Time Series", "Heatmaps", "Help"}

const (
	maxZoom = 60
	help    = `Tab, Shift-Tab     next, previous tab
↑ ↓ PgUp PgDn      scroll
Home End           to the first, the last
+ -                more, less time in a column
f                  filter by letters of the name, in their order:
                   Enter keeps it, Esc drops it
q Esc Ctrl-C       quit

A row is a counter of /metrics: its name, its value now, and how
it went, the newest on the right. Rates are a second.
"freq" of a histogram is how often something was measured, "avg"
its mean since the daemon's start.
A heat map has a row for each bucket, the slowest on top: the
darker, the more there were at the time.`
)

func (cmd *topCmd) Run(ctx context.Context, c *console) error {
	if c.screen == nil {
		return &usageError{"top needs a terminal; queue-summary and provider-summary don't"}
	}
	restore, err := c.screen.raw()
	if err != nil {
		return err
	}
	defer restore()
	io.WriteString(c.screen.out, "\x1b[?1049h\x1b[?25l") // the other screen, without a cursor
	defer io.WriteString(c.screen.out, "\x1b[?25h\x1b[?1049l")
	t := &top{history: newHistory(), zoom: 1}
	return t.run(ctx, c, time.Duration(cmd.UpdateInterval))
}

// run looks, draws and obeys keys, until one says quit or ctx ends.
func (t *top) run(ctx context.Context, c *console, interval time.Duration) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type look struct {
		metrics *snapshot
		err     error
	}
	looks := make(chan look)
	work.Go(func() { // a slow daemon doesn't keep the keys waiting
		for {
			s, err := takeSnapshot(ctx, c)
			select {
			case looks <- look{s, err}:
			case <-ctx.Done():
				return
			}
			select {
			case <-time.After(interval):
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		w, h := c.screen.size()
		if _, err := io.WriteString(c.screen.out, "\x1b[H"+strings.Join(t.draw(w, h), "\x1b[K\r\n")+"\x1b[K\x1b[J"); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case l := <-looks:
			if t.failed = ""; l.err != nil {
				t.failed = printable(l.err.Error())
			} else {
				t.history.add(l.metrics)
			}
		case key, ok := <-c.screen.keys:
			if !ok {
				return errors.New("the terminal is gone")
			}
			if t.press(key, h-3) {
				return nil
			}
		}
	}
}

// press obeys a key; true is to quit. page is how many lines there are to scroll in.
func (t *top) press(key string, page int) (quit bool) {
	if t.typing {
		t.edit(key)
		return key == "\x03"
	}
	switch key {
	case "q", "\x1b", "\x03":
		return true
	case "\t":
		t.tab, t.scroll = (t.tab+1)%len(tabs), 0
	case "\x1b[Z":
		t.tab, t.scroll = (t.tab+len(tabs)-1)%len(tabs), 0
	case "\x1b[A", "k":
		t.scroll--
	case "\x1b[B", "j":
		t.scroll++
	case "\x1b[5~":
		t.scroll -= page
	case "\x1b[6~", " ":
		t.scroll += page
	case "\x1b[H", "\x1b[1~", "g":
		t.scroll = 0
	case "\x1b[F", "\x1b[4~", "G":
		t.scroll = 1 << 30
	case "+", "=":
		t.zoom = min(t.zoom*2, maxZoom)
	case "-":
		t.zoom = max(t.zoom/2, 1)
	case "f", "/":
		t.typing = true
	}
	return false
}

// edit changes the filter.
func (t *top) edit(key string) {
	switch key {
	case "\r", "\n":
		t.typing = false
	case "\x1b":
		t.typing, t.filter = false, ""
	case "\x7f", "\b":
		if r := []rune(t.filter); len(r) > 0 {
			t.filter = string(r[:len(r)-1])
		}
	default:
		if text := printable(key); text == key && len(t.filter) < 100 {
			t.filter += text
		}
	}
	t.scroll = 0
}

// draw is the screen, line by line.
func (t *top) draw(width, height int) []string {
	width, height = max(width, 20), max(height, 5)
	var body []string
	switch t.tab {
	case 0:
		body = t.history.rows(t.filter, t.zoom, width)
	case 1:
		body = t.history.heatmaps(t.filter, t.zoom, width)
	default:
		body = strings.Split(help, "\n")
	}
	room := height - 3
	t.scroll = max(min(t.scroll, len(body)-room), 0)
	lines := []string{t.title(width), ""}
	lines = append(lines, body[t.scroll:min(t.scroll+room, len(body))]...)
	for len(lines) < height-1 {
		lines = append(lines, "")
	}
	for i := range lines[1:] {
		lines[i+1] = clip(lines[i+1], width)
	}
	return append(lines, t.status(width, len(body), room))
}

// title names the tabs; the one that is seen is inverse.
func (t *top) title(width int) string {
	var b strings.Builder
	used := 0
	for i, name := range tabs {
		if used += len(name) + 3; used > width {
			break
		}
		if i == t.tab {
			fmt.Fprintf(&b, "\x1b[7m %s \x1b[0m ", name)
		} else {
			fmt.Fprintf(&b, " %s  ", name)
		}
	}
	return b.String()
}

func (t *top) status(width, lines, room int) string {
	switch {
	case t.failed != "":
		return string(red) + clip(cell(t.failed), width) + reset
	case t.typing:
		return clip("filter: "+t.filter+"█", width)
	}
	s := fmt.Sprintf("each column is %d looks", t.zoom)
	if t.zoom == 1 {
		s = "each column is a look"
	}
	if t.filter != "" {
		s += "; filter: " + t.filter
	}
	if lines > room {
		s += fmt.Sprintf("; lines %d to %d of %d", t.scroll+1, t.scroll+room, lines)
	}
	return clip(s+"; q quits, Tab changes what is seen", width)
}

// clip cuts text at the width; colours are not in it.
func clip(s string, width int) string {
	n := 0
	for i := range s {
		if n == width {
			return s[:i]
		}
		n++
	}
	return s
}
