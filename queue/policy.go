package queue

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"time"

	"github.com/mtakit/mtakit"
)

// Policy is what the application decides. A nil function means the default. Each is called concurrently, under no lock of the
// queue, with a context that ends after Config.CallbackTimeout; a callback that has not answered by then, that panics or that
// returns an error of its own making counts as failed: messages wait, and the text goes to Config.Log only.
//
// Answers to Settings, Pool, Source and Path are kept and asked for again when they are in use and older than their refresh
// interval, or older than the last [Queue.BumpEpoch]; until the new answer is there, or if it fails, the old one serves. The values
// that they point to must not be changed afterwards. Return the same pointer for queues that have the same settings: there may be a
// million of them.
//
// A callback that gets a message may change it, but for its ID and the last recipient, unless said otherwise. What it changes is saved with the
// message if the answer is nil or a verdict. A *mtakit.Delay is a second at least.
type Policy struct {
	// Settings of a scheduled queue: retries, lifetime, pool, rate. Nil: mtakit.DefaultQueueSettings. An error at reception
	// refuses the message for now; it is remembered for a minute.
	Settings func(ctx context.Context, q mtakit.QueueName) (*mtakit.QueueSettings, error)
	// Pool is the sources, with weights, that may carry the mail of queues which name it. It is not asked for "unspecified",
	// the pool of that one source. Nil: every other pool is an error.
	Pool func(ctx context.Context, name string) (*mtakit.Pool, error)
	// Source is not asked for "unspecified", which has no address. Nil: a source without an address.
	Source func(ctx context.Context, name string) (*mtakit.Source, error)
	// Path is the limits from source to site for a domain. Nil: mtakit.DefaultPathConfig.
	Path func(ctx context.Context, domain, source string, site *mtakit.Site) (*mtakit.PathConfig, error)
	// Ready is asked before a message enters a ready queue. *mtakit.Delay keeps it back, *mtakit.Reject bounces it.
	Ready func(ctx context.Context, m *mtakit.Message) error
	// Retry is asked after a temporary failure. Nil follows the settings, *mtakit.Delay sets the time, *mtakit.Reject bounces
	// the message. m may be changed: with another Queue, or metadata that lead to one, it goes there at once.
	Retry func(ctx context.Context, m *mtakit.Message, f Failure) error
	// Rewrite may turn a peer's reply, other than a success, into another code; 0 keeps it.
	Rewrite func(ctx context.Context, q mtakit.QueueName, r mtakit.Response) int
	// Rebind is asked, for a Rebind order that says so, what to change of a message; data is the order's.
	Rebind func(ctx context.Context, m *mtakit.Message, data map[string]string) error
	// DeferredInject is asked for a message of the queue named by mtakit.DeferredInjectQueue, which reception has accepted without looking at it: it does what
	// reception would have done, and sets the metadata that its queue follows from. *mtakit.Reject with a 5xx bounces the message, any other
	// error has it tried again later. Nil: it goes to its queue as it is.
	DeferredInject func(ctx context.Context, m *mtakit.Message) error
	// Enumerated is told of each message found in the spool at start, before it is scheduled. m may be changed. *mtakit.Delay and
	// *mtakit.Reject are obeyed. It makes start-up load every message.
	Enumerated func(ctx context.Context, m *mtakit.Message) error
}

// Failure is why a message goes back to its scheduled queue.
type Failure struct {
	Response mtakit.Response // the peer's, or ours
	Reasons  Reasons
	Counted  bool          // as an attempt
	Delay    time.Duration // that will follow if the policy says nothing
}

// errCallback marks the failure of a callback; its text names which.
var errCallback = errors.New("policy callback failed")

// guard calls fn, which calls the callback called name, on a goroutine of its own, so that neither a panic nor a callback that
// doesn't come back stops the engine. A *Reject or *Delay comes back as it is; any other error wraps errCallback.
func guard[T any](q *Queue, ctx context.Context, name string, fn func(context.Context) (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.CallbackTimeout)
	defer cancel()
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("panic: %v", p)
				q.log.Error("policy callback panicked", "callback", name, "panic", p, "stack", string(debug.Stack()))
			}
			done <- a
		}()
		a.v, a.err = fn(ctx)
	}()
	var a answer
	select {
	case a = <-done:
	case <-ctx.Done():
		select { // both may be ready, and an answer in time counts
		case a = <-done:
		default:
			a.err = fmt.Errorf("no answer: %w", context.Cause(ctx))
		}
	}
	if a.err == nil || verdict(a.err) {
		return a.v, a.err
	}
	return a.v, fmt.Errorf("%w: %s: %w", errCallback, name, a.err)
}

// consult asks a callback about a message that is in memory. The callback works on a copy, so that one that fails, or that comes back too late, leaves
// the message as it was. It returns the message before the call; it.m is the one after it.
func (q *Queue) consult(ctx context.Context, it *item, name string, fn func(context.Context, *mtakit.Message) error) (was *mtakit.Message, err error) {
	was = it.m
	m := clone(was)
	err = ask(q, ctx, name, func(ctx context.Context) error { return fn(ctx, m) })
	switch {
	case err != nil && !verdict(err):
	case m.ID != it.id || len(m.To) == 0:
		err = fmt.Errorf("%w: %s: the id was changed or no recipient is left", errCallback, name)
	case !reflect.DeepEqual(m, was):
		it.m, it.changed = m, true
	}
	return was, err
}

// clone copies what a callback may change.
func clone(m *mtakit.Message) *mtakit.Message {
	c := *m
	c.To = slices.Clone(m.To)
	c.Meta, _ = cloneJSON(m.Meta).(map[string]any)
	if m.Schedule != nil {
		s := *m.Schedule
		if s.Window != nil {
			w := *s.Window
			s.Window = &w
		}
		c.Schedule = &s
	}
	return &c
}

func cloneJSON(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if v == nil {
			return v
		}
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = cloneJSON(e)
		}
		return m
	case []any:
		l := slices.Clone(v)
		for i, e := range l {
			l[i] = cloneJSON(e)
		}
		return l
	case []string:
		return slices.Clone(v)
	}
	return v
}

// destination is the queue to which a message belongs after a callback: the one that it names, if that is another than before, else the one that
// follows from its metadata, if these lead elsewhere than before.
func destination(was, m *mtakit.Message, at mtakit.QueueName) (mtakit.QueueName, error) {
	if m.Queue != was.Queue && m.Queue != (mtakit.QueueName{}) {
		return m.Queue, nil
	}
	after, err := m.DeriveQueue()
	if err != nil {
		return at, err
	}
	if before, err := was.DeriveQueue(); err == nil && before == after {
		return at, nil
	}
	return after, nil
}

// patient is how long to wait where policy gives the time: not so short that it amounts to a loop, and not so long that it overflows.
func patient(d time.Duration) time.Duration { return min(max(d, time.Second), forever) }

// verdict says whether err is one of the answers that a callback may give.
func verdict(err error) bool {
	var r *mtakit.Reject
	var d *mtakit.Delay
	return errors.As(err, &r) || errors.As(err, &d)
}

// ask is guard for a callback that only has a verdict to give.
func ask(q *Queue, ctx context.Context, name string, fn func(context.Context) error) error {
	_, err := guard(q, ctx, name, func(ctx context.Context) (struct{}, error) { return struct{}{}, fn(ctx) })
	return err
}
