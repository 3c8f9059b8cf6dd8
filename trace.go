package mtakit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// TraceKind is what a [TraceEvent] tells; the text is KumoMTA's.
type TraceKind string

// Kinds of trace events, with the fields of TraceEvent that they have.
const (
	TraceBegin       TraceKind = "BeginSession"       // outbound: hosts are known, an attempt begins
	TraceConnected   TraceKind = "Connected"          //
	TraceRead        TraceKind = "Read"               // Text: as it came, one or more lines with their ends
	TraceWrite       TraceKind = "Write"              // Text: a command or a line of a reply, with CRLF; or a part of a message
	TraceMessage     TraceKind = "MessageObtained"    // outbound: the session has a message to deliver
	TraceDiagnostic  TraceKind = "Diagnostic"         // Level, Text
	TraceCallback    TraceKind = "Callback"           // inbound: Text is the callback's name, Result and Err its answer
	TraceDisposition TraceKind = "MessageDisposition" // inbound: Disposition
	TraceClosed      TraceKind = "Closed"             //
)

// TraceEvent is something that happened in an SMTP session. It is shared by all who watch, and must not be changed once published.
type TraceEvent struct {
	Kind        TraceKind
	Meta        map[string]any // what is known of the session, under KumoMTA's names; nil is an event about the tracing itself
	Time        time.Time      // set by Publish: of two events of one session the later one is not earlier
	Text        string
	Level       slog.Level
	Result      any
	Err         error
	Disposition *TraceMessageDisposition
}

// TraceMessageDisposition is what becomes of a message that was received.
type TraceMessageDisposition struct {
	ID             ID
	Queue          string
	Sender         string
	To             []string
	Meta           map[string]any
	Relay          bool   // it may be passed on
	LogARF, LogOOB string // Ignore, LogThenDrop or LogThenRelay
	IsReport       bool   // it is a report that was logged
	Enqueue        bool   // it goes to a queue
}

// Traces passes events of SMTP sessions on to those who watch. While nobody does, a session pays for one call of Watched at most. The zero value works;
// it must not be copied, and is safe for concurrent use.
//
//	var traces mtakit.Traces
//	egress.Trace = smtpclient.TraceTo(&traces)
//	w := traces.Watch(nil)
//	defer w.Close()
//	for {
//		e, err := w.Next(ctx)
//		…
//	}
type Traces struct {
	n atomic.Int32 // of watches

	mu      sync.RWMutex
	watches map[*TraceWatch]struct{}
	began   time.Time
	closed  bool
}

// What waits for one that watches is bounded: beyond that the oldest events are lost.
const (
	traceEvents = 131072
	traceBytes  = 64 << 20
)

// size is about what e takes of the memory.
func (e *TraceEvent) size() int {
	n := 256 + len(e.Text) + 64*len(e.Meta)
	if d := e.Disposition; d != nil {
		n += 64 * (len(d.To) + len(d.Meta))
	}
	return n
}

// Watched says whether anybody watches.
func (t *Traces) Watched() bool { return t.n.Load() > 0 }

// Wanted says whether anybody wants e, of which Kind and Meta are set. It spares those who publish the making of what nobody sees.
func (t *Traces) Wanted(e *TraceEvent) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for w := range t.watches {
		if w.want == nil || w.want(e) {
			return true
		}
	}
	return false
}

// Publish sets the time of e and hands it on. It never waits for those who watch.
func (t *Traces) Publish(e *TraceEvent) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e.Time = t.began.Add(time.Since(t.began)) // the wall clock may be set back
	for w := range t.watches {
		if w.want == nil || w.want(e) {
			w.add(e)
		}
	}
}

// Watch begins to watch events of which want is true; nil is all of them. want is called by the sessions, maybe at once and maybe twice for an event, looks
// at Kind and Meta, keeps neither, and must not block. The caller closes what it gets.
func (t *Traces) Watch(want func(*TraceEvent) bool) *TraceWatch {
	w := &TraceWatch{of: t, want: want, news: make(chan struct{}, 1), done: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		close(w.done)
		return w
	}
	if t.watches == nil {
		t.watches = make(map[*TraceWatch]struct{})
	}
	if len(t.watches) == 0 { // nobody compares with what was before
		t.began = time.Now()
	}
	t.watches[w] = struct{}{}
	t.n.Add(1)
	return w
}

// Close ends every watch, and those that are still to come.
func (t *Traces) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for w := range t.watches {
		delete(t.watches, w)
		t.n.Add(-1)
		close(w.done)
	}
	return nil
}

// TraceWatch is what one who watches has not seen yet. Next is for one goroutine.
type TraceWatch struct {
	of   *Traces
	want func(*TraceEvent) bool
	news chan struct{}
	done chan struct{}

	mu     sync.Mutex
	events []*TraceEvent // from head on
	head   int
	bytes  int
	lost   int
}

// add never blocks for long: Next holds mu for a moment.
func (w *TraceWatch) add(e *TraceEvent) {
	w.mu.Lock()
	w.events = append(w.events, e)
	w.bytes += e.size()
	for n := len(w.events) - w.head; n > traceEvents || n > 1 && w.bytes > traceBytes; n-- {
		w.drop()
		w.lost++
	}
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// drop takes the oldest event out.
func (w *TraceWatch) drop() *TraceEvent {
	e := w.events[w.head]
	w.events[w.head] = nil
	w.head++
	w.bytes -= e.size()
	if w.head == len(w.events) {
		w.events, w.head = w.events[:0], 0
	} else if w.head > 1024 && w.head > len(w.events)/2 {
		n := copy(w.events, w.events[w.head:])
		clear(w.events[n:])
		w.events, w.head = w.events[:n], 0
	}
	return e
}

// Done is closed when the watch has ended. Next may still have what was there before.
func (w *TraceWatch) Done() <-chan struct{} { return w.done }

// Next waits for an event. Where some were lost, because they came faster than Next was called, it returns a [TraceDiagnostic] without Meta that says how
// many. The error is that of ctx, or wraps [ErrClosed] at the end.
func (w *TraceWatch) Next(ctx context.Context) (*TraceEvent, error) {
	for {
		ended := false
		select {
		case <-w.done: // nothing more is added
			ended = true
		default:
		}
		var e *TraceEvent
		w.mu.Lock()
		switch {
		case w.lost > 0:
			e = &TraceEvent{Kind: TraceDiagnostic, Level: slog.LevelError, Time: w.events[w.head].Time,
				Text: fmt.Sprintf("Tracer Lagged behind and missed %d events", w.lost)}
			w.lost = 0
		case w.head < len(w.events):
			e = w.drop()
		}
		w.mu.Unlock()
		switch {
		case e != nil:
			return e, nil
		case ended:
			return nil, fmt.Errorf("trace: %w", ErrClosed)
		}
		select {
		case <-w.news:
		case <-w.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close ends the watch; Next returns what is there already, and then the end.
func (w *TraceWatch) Close() error {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	if _, ok := w.of.watches[w]; ok {
		delete(w.of.watches, w)
		w.of.n.Add(-1)
		close(w.done)
	}
	return nil
}
