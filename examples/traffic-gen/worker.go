package main

import (
	"context"
	"fmt"
	"math"
	"time"
)

// worker sends over one connection at a time.
type worker struct {
	*generator
	conn      int
	latencies []uint32

	// A message that was claimed, and of which nothing was accepted before its connection ended.
	held    int64
	holding bool

	mail, rcpt []byte
}

// run connects again and again until there is nothing to send. It gives up when no connection was possible for the time-out.
func (w *worker) run(ctx context.Context) error {
	const firstPause = 50 * time.Millisecond
	pause, success := firstPause, time.Now()
	for {
		n, ok := w.claim(ctx)
		if !ok {
			return nil
		}
		s, err := dial(ctx, &w.config)
		if err == nil {
			w.open.Add(1)
			err = w.converse(ctx, s, n)
			w.open.Add(-1)
			s.close()
			if err != nil {
				return err
			}
			pause, success = firstPause, time.Now()
			continue
		}
		w.hold(n)
		if ctx.Err() != nil {
			return nil
		}
		w.connectionsFailed.Add(1)
		if time.Since(success) > w.timeout {
			return fmt.Errorf("no connection for %v: %w", w.timeout, err)
		}
		sleep(ctx, pause)
		pause = min(2*pause, time.Second)
	}
}

func (w *worker) claim(ctx context.Context) (n int64, ok bool) {
	if w.holding && ctx.Err() == nil {
		w.holding = false
		return w.held, true
	}
	return w.next(ctx)
}

func (w *worker) hold(n int64) { w.held, w.holding = n, true }

// converse sends n and what comes after it, until the connection or the messages end. The error is the ledger's.
func (w *worker) converse(ctx context.Context, s *session, n int64) error {
	start := w.begin(s, n)
	for sent := int64(1); ; sent++ {
		claim := func() (int64, bool) {
			if w.perConnection > 0 && sent >= w.perConnection {
				return 0, false
			}
			return w.claim(ctx)
		}
		command, r, err := s.envelope()
		if err != nil || r.Code != 354 {
			if err != nil {
				w.fail(command + ": " + err.Error())
			} else {
				w.fail(command + ": " + r.String())
			}
			if s.broken || s.abort() != nil {
				return nil
			}
			var more bool
			if n, more = claim(); !more {
				return nil
			}
			start = w.begin(s, n)
			continue
		}
		s.out = w.appendMessage(s.out, n, w.conn, time.Now())
		// The next envelope leaves with the end of this message, unless it has to wait for its turn.
		overlap := s.pipelining && w.interval == 0
		var (
			next  int64
			more  bool
			begun time.Time
		)
		if overlap {
			if next, more = claim(); more {
				begun = w.begin(s, next)
			}
		}
		r, err = s.reply()
		switch {
		case err != nil:
			w.fail("end of data: " + err.Error())
		case !r.OK():
			w.fail("end of data: " + r.String())
		default:
			w.latencies = append(w.latencies, uint32(min(time.Since(start).Microseconds(), math.MaxUint32)))
			if w.ledger != nil {
				if err := w.ledger.Append(w.id(n)); err != nil {
					return err
				}
			}
			w.acknowledged.Add(1)
		}
		if s.broken {
			if more {
				w.hold(next)
			}
			return nil
		}
		if !overlap {
			if next, more = claim(); more {
				begun = w.begin(s, next)
			}
		}
		if !more {
			return nil
		}
		n, start = next, begun
	}
}

// begin queues the envelope of n and returns the time.
func (w *worker) begin(s *session, n int64) time.Time {
	w.mail, w.rcpt = w.appendMail(w.mail[:0], n, w.conn), w.appendRcpt(w.rcpt[:0], n, w.conn)
	s.begin(w.mail, w.rcpt)
	return time.Now()
}
