package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// deliver sends the message in hand and deals with the answers; false ends the session.
func (s *session) deliver(ctx context.Context) bool {
	s.q.refreshPath(s.r, s.r.path.Load().Source) // it is in use, also when nothing comes in
	if !s.rate("MessageRateThrottled", MessageRateThrottle, func() (time.Duration, error) { return s.pay(ctx, s.curD) }) {
		return false
	}
	if err := s.extend(ctx); err != nil {
		s.q.log.Warn("connection lease lost", "ready_queue", s.r.name, "err", err)
		sleep(s.soft, time.Second) // should that be so of every lease, the peer does not see one connection after the other for it
		s.handAllBack()
		return false
	}
	s.sent++
	s.setDelivering()
	start := time.Now()
	err := s.conn.Send(ctx, &s.curD.Delivery, s.next)
	s.r.rollup.latency.Observe(time.Since(start))
	s.curD.rebase(s.cur)
	switch {
	case err == nil:
		s.r.reached()
	case s.more:
		s.more = false
		s.unpay(s.nxtD)
	case s.nxt != nil:
		it := s.nxt // nothing of it was accepted: it is as if it had never been taken
		s.nxt = nil
		s.handBack(it, s.nxtD)
	}
	if s.progress.isStuck() && err != nil && len(s.curD.Results) == 0 {
		resp := s.stuckResponse()
		s.q.record(s.cur, mtakit.Delayed, resp, recordOpts{site: s.r.name, r: s.r, conn: s.conn})
		s.q.requeue(s.q.deliverCtx, s.cur, ownedBySession, requeue{response: resp, reasons: Reasons{DispatcherDrop, LoggedTransientFailure}})
		s.cur = nil
		return false
	}
	switch {
	case err != nil && errors.Is(err, mtakit.ErrNotAttempted):
		return s.notAttempted(ctx, err)
	case err != nil && ctx.Err() != nil && len(s.curD.Results) == 0:
		return false // cut by a shutdown or an operator, which is no failure of the message
	}
	s.vain, s.curD.paid = 0, false
	s.settle(ctx, err)
	return err == nil || s.conn != nil && (s.cur != nil || s.r.len() > 0 && s.again(ctx))
}

// notAttempted goes on with the message in hand on another connection, or returns it. It costs no attempt, since a peer may close a connection that
// has been idle at any time; but one that closes a fresh connection each time has failed.
func (s *session) notAttempted(ctx context.Context, err error) bool {
	used := s.sent > 1
	if s.vain++; used {
		s.vain = 0
	}
	s.setPhase("AttemptingConnection")
	if s.vain <= maxVain && s.again(ctx) {
		return true // with the same message
	}
	if !used {
		s.failed("failed to send message: " + err.Error())
		return false
	}
	it := s.cur
	s.cur = nil
	s.handBack(it, s.curD)
	return false
}

const maxVain = 16

// again goes on with another host, or the same one, after the connection broke, if the rate of connections allows. Otherwise that is for another session to
// wait for.
func (s *session) again(ctx context.Context) bool {
	rd, ok := s.conn.(mtakit.Redialer)
	if !ok {
		s.closeConn()
		return false
	}
	if wait, err := s.payConnection(ctx); err == nil && wait <= 0 && rd.Redial(s.soft) == nil {
		s.afresh()
		s.progress.connected(s.conn.Info())
		return true
	}
	s.closeConn()
	return false
}

// settle turns the answers for one batch of recipients into records and decides what becomes of the message: it is done, it goes on in this
// session, at once or after the one that has been announced, or it goes back. err is what ended the connection, if anything did.
func (s *session) settle(ctx context.Context, err error) {
	it, d := s.cur, s.curD
	d.Results = s.sift(d.Results, len(d.Rcpts))
	many := s.tooMany(it, d)
	if s.q.cfg.Policy.Rewrite != nil {
		for i := range d.Results {
			if r := &d.Results[i]; !r.Response.OK() && !many[r.Rcpt] && !timedOut(r.Response) {
				r.Response = s.rewrite(r.Response)
			}
		}
	}
	if len(d.Results) < len(d.Rcpts) {
		d.Results = s.unanswered(d.Results, err)
	}
	var now, later []string
	for i := range d.Results {
		r := &d.Results[i]
		switch {
		case many[r.Rcpt]:
			now = append(now, it.m.To[r.Rcpt])
		case kindOf(r.Response) == mtakit.TransientFailure:
			later = append(later, it.m.To[r.Rcpt])
			if d.first.Code == 0 {
				d.first = r.Response
			}
		}
	}
	s.recordResults(it, d, many)
	if len(now)+len(later) == 0 && len(d.Rcpts) == len(it.m.To) {
		s.cur = nil
		s.q.finish(it, ownedBySession)
		return
	}
	announced := len(d.Rcpts) // up to here the recipients of the batch that was announced
	if s.more {
		announced += len(s.nxtD.Rcpts)
	}
	now = slices.Concat(it.m.To[len(d.Rcpts):announced], now, it.m.To[announced:d.todo])
	to := slices.Concat(now, it.m.To[d.todo:], later)
	it.changed = it.changed || len(to) < len(it.m.To)
	it.m.To, d.todo = to, len(now)
	// The host that has failed would be the next one, and could be so for ever.
	same := s.r.path.Load().ReconnectStrategy == mtakit.ReconnectSameHost
	if err != nil && s.r.path.Load().TryNextHostOnTransportError && !same && s.again(ctx) {
		d.todo, err = len(to), nil
	}
	if err == nil && d.todo > 0 {
		if it.changed && it.stored { // a crash must not repeat what is done
			if err := s.q.save(it); err != nil {
				s.q.log.Error("remaining recipients not saved; a crash now would repeat the others", "id", it.id.String(), "err", err)
			}
		}
		s.r.charge(it.sched)
		switch {
		case s.more:
			s.more = false
			s.nxtD.todo, s.nxtD.first, s.nxtD.many = d.todo, d.first, d.many
			s.curD, s.nxtD = s.nxtD, s.curD
		default:
			d.batch(it, s.r.path.Load().MaxRecipientsPerBatch)
			if s.nxt != nil {
				s.swap()
			}
		}
		return
	}
	s.cur = nil
	reasons := Reasons{LoggedTransientFailure}
	if d.first.Code == 0 {
		d.first, reasons = mtakit.Response{Code: 400, Text: mtakit.Internal + "retrying failed batch"}, Reasons{TooManyRecipients}
	}
	s.q.requeue(s.q.deliverCtx, it, ownedBySession, requeue{counted: true, reasons: reasons, response: d.first})
}

// tooMany says of which recipients (by number) the peer only wants to see fewer at a time: they are tried again at once, and their answer is not
// recorded. An ambiguous 452 or 552 counts so only once for a recipient, and never for the first of a transaction, so that this ends.
func (s *session) tooMany(it *item, d *delivery) map[int]bool {
	var many map[int]bool
	for i := range d.Results {
		r := &d.Results[i]
		a := tooManyReply(r.Response)
		if a == maybe {
			switch s.q.classify(r.Response) {
			case "TooManyRecipients":
				a = yes
			case "", mtakit.Uncategorized:
			default:
				a = no
			}
		}
		if a == no || len(d.Rcpts) == 1 || r.Rcpt == d.Rcpts[0] || a == maybe && d.many[it.m.To[r.Rcpt]] {
			continue
		}
		if many == nil {
			many = make(map[int]bool)
		}
		many[r.Rcpt] = true
	}
	if many != nil {
		if d.many == nil {
			d.many = make(map[string]bool, len(d.Rcpts))
		}
		for _, n := range d.Rcpts {
			d.many[it.m.To[n]] = true
		}
	}
	return many
}

// rewrite lets policy turn a peer's reply into another code.
func (s *session) rewrite(r mtakit.Response) mtakit.Response {
	name, rewrite, reply := s.cur.sched.name(), s.q.cfg.Policy.Rewrite, r // the callback may outlive its turn
	code, err := guard(s.q, s.q.deliverCtx, "Rewrite", func(ctx context.Context) (int, error) {
		return rewrite(ctx, name, reply), nil
	})
	switch {
	case err != nil:
		s.q.log.Error("reply not rewritten", "ready_queue", s.r.name, "err", err)
	case code >= 200 && code < 600 && code != r.Code:
		r.Text += fmt.Sprintf(" (kumomta: status was rewritten from %d -> %d)", r.Code, code)
		r.Code = code
	}
	return r
}

// timedOut says whether the reply is a session's own, for a peer that gave none.
func timedOut(r mtakit.Response) bool {
	return r.Code == 421 && strings.HasPrefix(r.Text, mtakit.Internal)
}

// recordResults writes one record for each distinct answer, with the recipients that got it, and counts.
func (s *session) recordResults(it *item, d *delivery, many map[int]bool) {
	for i := range d.Results {
		r := &d.Results[i]
		if many[r.Rcpt] || repeated(d.Results[:i], r.Response) {
			continue
		}
		to := s.to[:0]
		for j := i; j < len(d.Results); j++ {
			if o := &d.Results[j]; !many[o.Rcpt] && o.Response == r.Response {
				to = append(to, it.m.To[o.Rcpt])
			}
		}
		s.to = to
		kind := kindOf(r.Response)
		s.r.count(it.sched, kind, len(to))
		s.progress.count(kind, len(to))
		if kind == mtakit.Delivered && s.r.proto.Xfer != nil {
			kind = mtakit.XferOut
		}
		s.q.record(it, kind, r.Response, recordOpts{site: s.r.name, r: s.r, conn: s.conn, to: to})
	}
}

func repeated(before []mtakit.Result, r mtakit.Response) bool {
	for i := range before {
		if before[i].Response == r {
			return true
		}
	}
	return false
}

// sift keeps the first result for each of n recipients, and notes in s.answered who has one.
func (s *session) sift(results []mtakit.Result, n int) []mtakit.Result {
	s.answered = slices.Grow(s.answered[:0], n)[:n]
	clear(s.answered)
	return slices.DeleteFunc(results, func(r mtakit.Result) bool {
		if r.Rcpt < 0 || r.Rcpt >= n || s.answered[r.Rcpt] {
			return true
		}
		s.answered[r.Rcpt] = true
		return false
	})
}

// unanswered gives the recipients that have no result one that says what happened.
func (s *session) unanswered(results []mtakit.Result, err error) []mtakit.Result {
	if err == nil {
		err = errors.New("the session gave no answer")
	}
	resp := mtakit.Response{Code: 400, Text: mtakit.Internal + "failed to send message: " + err.Error()}
	for n, has := range s.answered {
		if !has {
			results = append(results, mtakit.Result{Rcpt: n, Response: resp})
		}
	}
	return results
}

// kindOf says what a reply means for a recipient.
func kindOf(r mtakit.Response) mtakit.Kind {
	switch {
	case r.Code == 503, r.Code >= 300 && r.Code < 500, r.Code < 200, r.Code >= 600, tooManyReply(r) != no: // codes that don't exist are no verdict
		return mtakit.TransientFailure
	case r.OK():
		return mtakit.Delivered
	}
	return mtakit.Bounce
}

type answer uint8

const (
	no answer = iota
	maybe
	yes
)

// tooManyReply says whether a reply to RCPT means that there were too many of them (RFC 5321, 4.5.3.1.10).
func tooManyReply(r mtakit.Response) answer {
	switch {
	case !strings.HasPrefix(r.Command, "RCPT"):
	case r.Enhanced == [3]uint16{4, 5, 3}, r.Enhanced == [3]uint16{5, 5, 3}:
		return yes
	case (r.Code == 452 || r.Code == 552) && r.Enhanced[0] == 0:
		return maybe
	}
	return no
}
