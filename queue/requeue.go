package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mtakit/mtakit"
)

// requeue says how a message goes back to its scheduled queue.
type requeue struct {
	response mtakit.Response
	reasons  Reasons
	counted  bool          // as an attempt: the delay is the backoff
	delay    time.Duration // with hasDelay, unless counted
	hasDelay bool          // else: up to a minute
	keeps    bool          // its place: if policy leaves it at that, the caller has the message still
}

// failure says what the record of a failure tells about the connection, if there was any.
type failure struct {
	r    *ready
	conn mtakit.Session
}

// fail records a response for the whole message: a permanent one bounces it, any other is a temporary failure that counts as an attempt.
func (q *Queue) fail(ctx context.Context, it *item, from owner, resp mtakit.Response, why Reasons, f failure) {
	if q.load(ctx, it, from) == nil {
		return
	}
	o := recordOpts{r: f.r, conn: f.conn}
	if f.r != nil {
		o.site = f.r.name
	}
	if resp.Permanent() {
		q.record(it, mtakit.Bounce, resp, o)
		q.finish(it, from)
		return
	}
	q.record(it, mtakit.TransientFailure, resp, o)
	q.requeue(ctx, it, from, requeue{counted: true, response: resp, reasons: why.with(LoggedTransientFailure)})
}

// bounce records a final failure that policy has decided, and forgets the message.
func (q *Queue) bounce(it *item, from owner, resp mtakit.Response, site string) {
	q.record(it, mtakit.Bounce, resp, recordOpts{site: site})
	q.finish(it, from)
}

// expire records that the message is too old, and forgets it.
func (q *Queue) expire(it *item, from owner, site, text string) {
	q.record(it, mtakit.Expiration, mtakit.Response{Code: 551, Enhanced: [3]uint16{5, 4, 7}, Text: text}, recordOpts{site: site})
	q.finish(it, from)
}

// overdue ends the life of a message in memory whose own expiry time has come, or that has become too old for its queue since it was promoted.
func (q *Queue) overdue(it *item, from owner) bool {
	sch, now := it.m.Schedule, q.now()
	switch {
	case sch != nil && !sch.Expires.IsZero():
		if now.Before(sch.Expires) {
			return false
		}
		q.expire(it, from, "", pastExpiry(now, sch.Expires))
	case it.outlived(q.age(it, now)):
		q.expire(it, from, "localhost", tooOld(q.age(it, now), it.sched.conf.Load().MaxAge))
	default:
		return false
	}
	return true
}

// outlived says whether that age is too much for its queue, as far as the queue's settings are known.
func (it *item) outlived(age time.Duration) bool {
	c := it.sched.conf.Load()
	return c != nil && c.err == nil && age >= c.MaxAge.Std()
}

func pastExpiry(due, expires time.Time) string {
	return fmt.Sprintf("Next delivery time would be at %s which exceeds the expiry time %s configured via set_scheduling",
		mtakit.AppendTimestamp(nil, due), mtakit.AppendTimestamp(nil, expires))
}

func tooOld(age time.Duration, most mtakit.Duration) string {
	return fmt.Sprintf("Next delivery time %v > %v", mtakit.Duration(age.Round(time.Second)), most)
}

// requeue returns a message to a scheduled queue for another time, or ends its life if that is over. kept says that it did neither, see requeue.keeps.
func (q *Queue) requeue(ctx context.Context, it *item, from owner, how requeue) (kept bool) {
	if q.load(ctx, it, from) == nil {
		return false
	}
	now := q.now()
	c := q.confNow(ctx, it.sched)
	delay := max(how.delay, 0)
	switch {
	case how.counted:
		delay = max(delayFor(c.QueueSettings, it.tries)+jitter(c.QueueSettings, uniform(q.seed, it.id, it.tries, 'j')), time.Second)
	case !how.hasDelay:
		delay = spread(uniform(q.seed, it.id, it.tries+int(now.Unix()), 's'))
	}
	moved := false
	if q.cfg.Policy.Retry != nil {
		var done bool
		if delay, moved, done = q.askRetry(ctx, it, from, how, delay); done {
			return false
		}
	}
	if how.keeps && !moved && delay == how.delay {
		if it.changed && it.stored {
			q.saveOrLog(it)
		}
		return true
	}
	if how.counted || moved {
		it.tries++
	}
	if moved { // a new queue: at once, unless policy sends it round and round
		how.counted = false
		if it.moves++; it.moves <= maxMoves {
			delay = 0
		}
		c = q.confNow(ctx, it.sched)
	}
	due := it.m.Schedule.Adjust(now.Add(delay))
	age := q.age(it, now) + delay
	switch {
	case it.m.Schedule != nil && !it.m.Schedule.Expires.IsZero():
		if !due.Before(it.m.Schedule.Expires) {
			q.expire(it, from, "", pastExpiry(due, it.m.Schedule.Expires))
			return false
		}
	case how.counted && age > c.MaxAge.Std():
		q.expire(it, from, "", fmt.Sprintf("Next delivery time would be %v after creation, which exceeds max_age=%v", mtakit.Duration(age.Round(time.Second)), c.MaxAge))
		return false
	case !how.counted && age >= c.MaxAge.Std():
		q.expire(it, from, "localhost", tooOld(age, c.MaxAge))
		return false
	}
	it.due = due
	q.park(ctx, it, from, how.reasons)
	return false
}

// maxMoves is how often a message may change its queue without having waited.
const maxMoves = 8

// confNow is the settings of a queue, asked for if they aren't known yet: a message that a rule turns away right after a restart waits as long as its
// queue says. If policy fails, the defaults hold.
func (q *Queue) confNow(ctx context.Context, s *sched) *conf {
	if c, err := q.confOf(ctx, s); err == nil {
		return c
	}
	return q.defaultConf
}

// askRetry calls Policy.Retry. moved says that the message has another queue now, done that it is no longer ours.
func (q *Queue) askRetry(ctx context.Context, it *item, from owner, how requeue, delay time.Duration) (_ time.Duration, moved, done bool) {
	at := it.sched.name()
	was, err := q.consult(ctx, it, "Retry", func(ctx context.Context, m *mtakit.Message) error {
		return q.cfg.Policy.Retry(ctx, m, Failure{Response: how.response, Reasons: how.reasons, Counted: how.counted, Delay: delay})
	})
	var reject *mtakit.Reject
	var later *mtakit.Delay
	switch {
	case errors.As(err, &reject):
		q.bounce(it, from, reject.Response, "")
		return 0, false, true
	case errors.As(err, &later):
		delay = patient(later.For)
	case err != nil:
		q.log.Error("retry policy failed; the message keeps its queue and time", "id", it.id.String(), "queue", at.String(), "err", err)
		return delay, false, false
	}
	to, err := destination(was, it.m, at)
	if err != nil {
		q.log.Error("the queue's name can't be derived; the message keeps its queue", "id", it.id.String(), "err", err)
	}
	if to == at {
		return delay, false, false
	}
	q.move(it, from, to)
	return delay, true, false
}

// move gives a message to another scheduled queue.
func (q *Queue) move(it *item, from owner, to mtakit.QueueName) {
	old := it.sched
	it.sched, it.changed = q.hold(to), true
	old.dropFrom(from)
	if from == ownedByReady || from == ownedBySession {
		it.sched.shard.mu.Lock()
		it.sched.flowing().inFlight++ // until it is parked
		it.sched.shard.mu.Unlock()
	}
}

// park stores what has changed and puts the message into the scheduler, or at the end of the due list if its time has come.
func (q *Queue) park(ctx context.Context, it *item, from owner, why Reasons) {
	if q.obeyBounce(it, from) {
		return
	}
	s := it.sched
	if it.m != nil {
		it.m.Due, it.m.Tries, it.m.Queue = it.due, it.tries, s.name()
	}
	waits := it.due.After(q.now())
	if it.changed || waits && !(from == ownedByReception && it.stored) { // what was received was stored with its time
		q.saveOrLog(it)
	}
	if !waits {
		s.shard.mu.Lock()
		defer s.shard.mu.Unlock()
		s.departed(from)
		it.pass(from, ownedBySched)
		s.shard.ripe(s, it)
		return
	}
	if !why.has(LoggedTransientFailure) && (len(why) != 1 || why[0] != Enumerated) {
		q.recordDelayed(it, why)
	}
	q.sleep(it, from)
}

func (q *Queue) saveOrLog(it *item) {
	if err := q.save(it); err != nil {
		q.log.Error("message not saved; a restart would find it as it was before", "id", it.id.String(), "stored", it.stored, "err", err)
	}
}

// sleep puts a message into the scheduler. What could not be saved stays in memory meanwhile.
func (q *Queue) sleep(it *item, from owner) {
	s := it.sched
	q.shrink(it)
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	s.departed(from)
	it.pass(from, ownedByNobody)
	it.moves = 0
	if !it.saved() {
		s.shard.keep(it)
	}
	s.shard.wait(s, it.id, it.due, it.tries, it.swept)
	s.restIfMany()
}

// save writes to the spool what a restart must know of a message that has to wait.
func (q *Queue) save(it *item) error {
	if err := q.flush(); err != nil {
		return err
	}
	return q.write(it)
}

// write is save at the end, when the event log is written once for all.
func (q *Queue) write(it *item) error {
	ctx := context.Background()
	switch {
	case !it.stored:
		if err := q.cfg.Spool.Store(ctx, []mtakit.Submission{{Message: it.m, Body: it.body}}, mtakit.Buffered); err != nil {
			return err
		}
		it.stored = true
	case it.changed:
		if err := q.cfg.Spool.Update(ctx, it.m); err != nil {
			return err
		}
	default:
		return q.cfg.Spool.Reschedule(ctx, it.id, it.due, it.tries)
	}
	it.changed = false
	return nil
}

// giveBack returns a message that was not attempted to its scheduled queue, for some time within the next minute. It needs no more of the message
// than is in memory, so that it works when all else has failed.
func (q *Queue) giveBack(it *item, from owner, why Reasons) {
	if q.stopping.Load() {
		q.leave(it, from)
		return
	}
	if q.cfg.Policy.Retry != nil && why.has(DispatcherDrop) {
		q.requeue(q.workCtx, it, from, requeue{reasons: why, response: internal451(1, "returning message to scheduled queue")})
		return
	}
	it.due = q.now().Add(spread(uniform(q.seed, it.id, it.tries+int(q.now().Unix()), 's')))
	q.park(q.workCtx, it, from, why)
}

// leave is what happens to a message when the engine stops: it stays in the spool, and is written there if it was not.
func (q *Queue) leave(it *item, from owner) {
	if !it.saved() {
		it.m.Due, it.m.Tries, it.m.Queue = it.due, it.tries, it.sched.name()
		if err := q.write(it); err != nil {
			q.log.Error("message not saved at shutdown", "id", it.id.String(), "err", err)
		}
	}
	q.release(it)
	it.sched.shard.mu.Lock()
	it.sched.departed(from)
	it.sched.shard.mu.Unlock()
	it.pass(from, ownedByNobody)
	q.left.Inc()
}

// flush waits until what was recorded is written, before a step that makes it irreversible: what a crash leaves in the log is never behind the spool. While
// the disk doesn't take it this waits, until the grace period of a shutdown has ended.
func (q *Queue) flush() error {
	if q.flusher == nil {
		return nil
	}
	if err := q.flusher.Flush(q.deliverCtx); err != nil {
		return fmt.Errorf("event log not written: %w", err)
	}
	return nil
}

// finish forgets a message whose last recipient is done.
func (q *Queue) finish(it *item, from owner) {
	if it.stored {
		if err := q.flush(); err != nil {
			q.log.Error("message is done but stays in the spool; a restart delivers it again", "id", it.id.String(), "err", err)
			q.leave(it, from)
			return
		}
		if err := q.cfg.Spool.Remove(context.Background(), it.id); err != nil && !errors.Is(err, mtakit.ErrNotFound) {
			q.log.Error("message is done but still in the spool; it is removed later, unless a restart delivers it again", "id", it.id.String(), "err", err)
			q.owed.add(it.id)
		}
	}
	q.gone(it, from)
}

// gone ends the life of an item in memory.
func (q *Queue) gone(it *item, from owner) {
	q.release(it)
	it.pass(from, ownedByNobody)
	it.sched.dropFrom(from)
	q.done.Inc()
}

// load sees to it that the envelope is in memory. nil means that there is none, and that the message has been dealt with.
func (q *Queue) load(ctx context.Context, it *item, from owner) *mtakit.Message {
	if it.m != nil {
		return it.m
	}
	m, err := q.cfg.Spool.Load(context.WithoutCancel(ctx), it.id)
	if err != nil {
		q.lost(ctx, it, from, err)
		return nil
	}
	q.bring(it, m, nil)
	return m
}

// lost deals with a message that the spool does not give us: removed behind our back it is gone; otherwise it is tried again later.
func (q *Queue) lost(ctx context.Context, it *item, from owner, err error) {
	if errors.Is(err, mtakit.ErrNotFound) {
		q.log.Error("message is no longer in the spool", "id", it.id.String(), "queue", it.sched.name().String())
		q.gone(it, from)
		return
	}
	q.log.Error("message can't be read; it is tried again later", "id", it.id.String(), "queue", it.sched.name().String(), "err", err)
	it.due = q.now().Add(time.Minute)
	q.sleep(it, from)
}
