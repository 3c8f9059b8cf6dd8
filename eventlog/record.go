package eventlog

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/rfc5322"
)

// Record implements [mtakit.Recorder]: it captures metadata and headers, numbers the record and puts it into memory.
func (l *Log) Record(r *mtakit.Record) {
	rt := l.routeOf(r.Kind)
	if rt.disable || l.cfg.Filter != nil && r.Kind != mtakit.Rejection && !l.filter(r) {
		return
	}
	sc := l.scratch.Get().(*scratch)
	sc.line = l.appendLine(sc, r, rt.stream)
	ok, full := l.queue.put(rt.stream, sc.line)
	sc.release(l)
	switch {
	case !ok:
		l.cfg.Logger.Error("event recorded after the log was closed is lost", "type", r.Kind, "id", r.ID)
	case full:
		signal(l.urgent)
		fallthrough
	default:
		signal(l.wake)
	}
}

// WantsBody says whether headers are captured.
func (l *Log) WantsBody() bool { return len(l.headers) > 0 }

func (l *Log) filter(r *mtakit.Record) (pass bool) {
	defer func() {
		if p := recover(); p != nil {
			l.cfg.Logger.Error("filter of the event log panicked", "type", r.Kind, "id", r.ID, "panic", p)
			pass = true
		}
	}()
	return l.cfg.Filter(r)
}

// scratch is what one call of Record works with.
type scratch struct {
	line          []byte
	head          []byte // of a body that is not in memory
	meta, headers map[string]any
}

const keepScratch = 64 << 10

func (sc *scratch) release(l *Log) {
	clear(sc.meta)
	clear(sc.headers)
	if cap(sc.line) <= keepScratch && cap(sc.head) <= keepScratch {
		l.scratch.Put(sc)
	}
}

// appendLine makes the line of a record but for its number and what follows that.
func (l *Log) appendLine(sc *scratch, r *mtakit.Record, s *stream) []byte {
	c := *r // r is the caller's, and Tee gives it to others too
	c.Stream, c.Seq = "", 0
	meta := r.Meta
	if r.Message != nil {
		meta = r.Message.Meta
	}
	c.Meta = l.captureMeta(sc, meta)
	if r.Body != nil && len(l.headers) > 0 {
		c.Headers = l.captureHeaders(sc, r)
	}
	b := c.AppendJSON(sc.line[:0])
	return append(b[:len(b)-1], s.tail...) // stream and number come last in a record
}

// appendSeq completes a line.
func appendSeq(b []byte, seq uint64) []byte { return append(strconv.AppendUint(b, seq, 10), "}\n"...) }

// lineSeq is the number at the end of a line, 0 if there is none.
func lineSeq(line []byte) uint64 {
	line = bytes.TrimSuffix(line, []byte("\n"))
	i := bytes.LastIndex(line, []byte(`,"seq":`))
	if i < 0 || line[len(line)-1] != '}' {
		return 0
	}
	n, err := strconv.ParseUint(string(line[i+len(`,"seq":`):len(line)-1]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// lineKind is the kind of the record in a line.
func lineKind(line []byte) mtakit.Kind {
	rest, ok := bytes.CutPrefix(line, []byte(`{"type":"`))
	if !ok {
		return ""
	}
	kind, _, _ := bytes.Cut(rest, []byte(`"`))
	return mtakit.Kind(kind)
}

// pattern is a name to capture.
type pattern struct {
	name   string
	prefix bool
}

func patterns(names []string) []pattern {
	ps := make([]pattern, len(names))
	for i, n := range names {
		ps[i].name, ps[i].prefix = strings.CutSuffix(n, "*")
	}
	return ps
}

func (l *Log) captureMeta(sc *scratch, meta map[string]any) map[string]any {
	if len(l.meta) == 0 || len(meta) == 0 {
		return nil
	}
	if sc.meta == nil {
		sc.meta = map[string]any{}
	}
	for _, p := range l.meta {
		if !p.prefix {
			if v := meta[p.name]; v != nil {
				sc.meta[p.name] = v
			}
			continue
		}
		for k, v := range meta {
			if strings.HasPrefix(k, p.name) {
				sc.meta[k] = v
			}
		}
	}
	return sc.meta
}

func (l *Log) captureHeaders(sc *scratch, r *mtakit.Record) map[string]any {
	h, _, err := rfc5322.ReadHeader(r.Body, sc.head[:0], rfc5322.DefaultLimit)
	if err != nil {
		l.cfg.Logger.Warn("headers of an event could not be captured", "type", r.Kind, "id", r.ID, "err", err)
		return nil
	}
	if _, inMemory := r.Body.(mtakit.ChunkedBody); !inMemory {
		sc.head = h
	}
	if sc.headers == nil {
		sc.headers = map[string]any{}
	}
	for f := range h.Fields() {
		name := f.Name()
		if name == nil || !l.wantsHeader(f, name) {
			continue
		}
		key := string(name)
		for k := range sc.headers { // the first spelling counts
			if strings.EqualFold(k, key) {
				key = k
				break
			}
		}
		switch v := sc.headers[key].(type) {
		case nil:
			sc.headers[key] = f.Text()
		case string:
			sc.headers[key] = []string{v, f.Text()}
		case []string:
			sc.headers[key] = append(v, f.Text())
		default:
			panic(fmt.Sprintf("eventlog: captured header is %T", v))
		}
	}
	return sc.headers
}

func (l *Log) wantsHeader(f rfc5322.Field, name []byte) bool {
	for _, p := range l.headers {
		if !p.prefix && f.Is(p.name) ||
			p.prefix && len(name) >= len(p.name) && strings.EqualFold(string(name[:len(p.name)]), p.name) {
			return true
		}
	}
	return false
}

// signal wakes the reader of a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
