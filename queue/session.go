package queue

import (
	"context"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
)

// session is one connection of a ready queue, with the goroutine that uses it. It owns the messages in hand: the one being delivered and the one that
// comes after it, which was announced where envelopes overlap. Whatever ends the goroutine, these go back.
type session struct {
	r        *ready
	q        *Queue
	wake     chan struct{} // there may be work, for a parked session
	idle     *time.Timer   // ends its wait
	leases   []mtakit.Lease
	extendAt time.Duration // uptime

	conn     mtakit.Session // nil until connected
	cur, nxt *item          // in hand
	curD     *delivery
	nxtD     *delivery
	more     bool     // nxtD is the next batch of the message in hand, announced during the one of curD
	sent     int      // deliveries on this connection
	vain     int      // connections in a row on which nothing could be attempted
	to       []string // room for the recipients of a record
	answered []bool   // of the recipients of a batch

	progress progress
	held     atomic.Pointer[Held]                    // why it opens no connection; nil is: nothing stops it. What it points to is not changed
	cut      atomic.Pointer[context.CancelCauseFunc] // ends the session at once
	soft     context.Context                         // ends when no new work is to begin
	next     func() *mtakit.Delivery                 // follow, for Send
}

// delivery is a mtakit.Delivery with the room that it keeps from one message to the next. Of the message's recipients the first todo are to be
// tried in this session; the others have had their temporary failure.
type delivery struct {
	mtakit.Delivery
	todo  int
	rcpts []int
	first mtakit.Response   // the first answer that was a temporary failure
	many  map[string]bool   // the recipients among whom the peer found too many: each is told so only once if that is ambiguous
	rates mtakit.NamedRates // of which a unit is taken for the transaction that comes, if paid
	paid  bool
}

// batch sets the delivery to the next recipients, as many as one transaction takes.
func (d *delivery) batch(it *item, most int) { d.window(it, it.m, 0, min(d.todo, most)) }

// window sets the delivery to the recipients of m, which is the message of it, from number from on.
func (d *delivery) window(it *item, m *mtakit.Message, from, n int) {
	d.rcpts = d.rcpts[:0]
	for i := range n {
		d.rcpts = append(d.rcpts, from+i)
	}
	d.Delivery = mtakit.Delivery{Message: m, Body: it.body, Rcpts: d.rcpts, Results: d.Results[:0]}
	if c := it.sched.conf.Load(); c != nil {
		d.Pool = c.pool
	}
}

// rebase makes the delivery one of the first recipients that the message has now. It may have been announced when there were others before them.
func (d *delivery) rebase(it *item) {
	if d.Message == it.m {
		return
	}
	from := d.rcpts[0]
	for i := range d.rcpts {
		d.rcpts[i] -= from
	}
	for i := range d.Results {
		d.Results[i].Rcpt -= from
	}
	d.Message = it.m
}

var errGraceEnded = errors.New("the grace period of the shutdown has ended")

// run is the life of a session: it takes a message before it connects, so that no connection is made for nothing, delivers until there has been
// nothing for the idle time, and gives back what is left in hand.
func (s *session) run(ctx context.Context) {
	defer s.q.wg.Done()
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	s.cut.Store(&cut)
	s.curD, s.nxtD = &delivery{}, &delivery{}
	s.next = func() *mtakit.Delivery { return s.follow(ctx) }
	soft, stopSoft := context.WithCancelCause(s.q.workCtx)
	defer stopSoft(nil)
	defer context.AfterFunc(ctx, func() { stopSoft(context.Cause(ctx)) })()
	s.soft = soft
	defer s.end()
	if err := s.acquire(soft); err != nil {
		if soft.Err() == nil {
			s.q.log.Error("connection lease not available", "ready_queue", s.r.name, "err", err)
		}
		sleep(soft, time.Second) // there is a session meanwhile, so that no other is opened to fail at once
		return
	}
	if !s.r.path.Load().AggressiveConnectionOpening && !s.obtain(ctx) || !s.connect(ctx) {
		return
	}
	for s.obtain(ctx) {
		if s.sent >= s.r.path.Load().MaxDeliveriesPerConnection {
			s.closeConn()
			if !s.connect(ctx) {
				return
			}
		}
		if !s.deliver(ctx) {
			return
		}
	}
}

// end gives everything back, panics included.
func (s *session) end() {
	s.caught(recover())
	defer s.r.leave(s)
	defer s.releaseLeases()
	defer func() { s.caught(recover()) }()
	for _, it := range []*item{s.cur, s.nxt} {
		if it != nil && owner(it.owner.Load()) == ownedBySession { // a panic may come after the message has left
			s.q.giveBack(it, ownedBySession, Reasons{DispatcherDrop})
		}
	}
	s.cur, s.nxt = nil, nil
	s.closeConn()
}

func (s *session) caught(p any) {
	if p != nil {
		s.q.log.Error("session panicked", "ready_queue", s.r.name, "panic", p, "stack", string(debug.Stack()))
	}
}

func (s *session) closeConn() {
	if c := s.conn; c != nil {
		s.setPhase("Closing")
		s.conn = nil
		s.afresh()
		s.r.countClosed()
		c.Close()
	}
}

// afresh forgets what was known of the peer.
func (s *session) afresh() { s.sent, s.curD.many, s.nxtD.many = 0, nil, nil }

// obtain sees to it that a message is in hand, waiting for one up to the idle time; false means that the session has no more use.
func (s *session) obtain(ctx context.Context) bool {
	if s.cur == nil && s.nxt != nil && ctx.Err() == nil { // the peer has its envelope at most: at the end of a shutdown it is not sent any more
		s.swap()
	}
	if s.cur != nil {
		return !s.halted() // since its last batch, or since it was announced
	}
	for {
		if s.q.stopping.Load() || ctx.Err() != nil || s.halted() {
			return false
		}
		if len(s.leases) > 0 && s.sent >= s.r.path.Load().MaxDeliveriesPerConnection {
			return false // others may wait for its place; the session for what is left here comes after them
		}
		it, ok := s.r.take()
		if !ok {
			if s.conn == nil {
				return false
			}
			s.setPhase("Idle")
			if !s.r.park(ctx, s, s.r.path.Load().IdleTimeout.Std()) {
				return false
			}
			continue
		}
		if s.q.pacer != nil && s.q.pacer.Pace(ctx) != nil {
			s.q.giveBack(it, ownedBySession, Reasons{DispatcherDrop})
			return false
		}
		s.cur = it
		if s.ready(it, s.curD) {
			return true
		}
		s.cur = nil
	}
}

// halted gives everything back if the ready queue is held or the spool is unwell.
func (s *session) halted() bool {
	if !s.q.held(s.r, s.q.now()) && s.q.unhealthy() == nil {
		return false
	}
	s.handAllBack()
	s.q.readmit(s.everything()...)
	return true
}

// swap makes the message that comes next the one in hand, and the other way round.
func (s *session) swap() {
	s.cur, s.nxt = s.nxt, s.cur
	s.curD, s.nxtD = s.nxtD, s.curD
}

// everything takes what is in hand and what is in the ready queue now.
func (s *session) everything() (all []*item) {
	s.empty(func(it *item) { all = append(all, it) })
	return all
}

// empty gives do what is in hand and what is in the ready queue now, one after the other. One at a time is in hand while it does, for the case of a
// panic.
func (s *session) empty(do func(*item)) {
	for n := s.r.len(); s.cur != nil || s.nxt != nil || n > 0; {
		if s.cur == nil {
			s.cur, s.nxt = s.nxt, nil
		}
		if s.cur == nil {
			n--
			if s.cur, _ = s.r.takeOut(true); s.cur == nil {
				return
			}
		}
		do(s.cur)
		s.cur = nil
	}
}

// ready checks and loads a message that has been taken; false means that it has gone elsewhere.
func (s *session) ready(it *item, d *delivery) bool {
	ctx := s.q.deliverCtx // a message goes its way whether or not the session is cut: so it is wherever it has to be loaded, or policy asked about it
	if s.q.obeyRules(ctx, it, ownedBySession, s.r.name) {
		return false
	}
	if c := it.sched.conf.Load(); c != nil && c.err == nil {
		s.q.freshen(it.sched, c)
	}
	m := s.q.load(ctx, it, ownedBySession)
	if m == nil || s.q.overdue(it, ownedBySession) {
		return false
	}
	if it.body == nil {
		b, err := s.q.cfg.Spool.Open(ctx, it.id)
		if err != nil {
			s.q.lost(ctx, it, ownedBySession, err)
			return false
		}
		s.q.bringBody(it, b)
	}
	d.todo, d.first, d.many, d.paid = len(m.To), mtakit.Response{}, nil, false
	d.batch(it, s.r.path.Load().MaxRecipientsPerBatch)
	return true
}

// connect opens the connection within the rate that the path allows. On failure every message in hand has gone elsewhere.
func (s *session) connect(ctx context.Context) bool {
	p := s.r.path.Load()
	if !s.rate("ConnectionRateThrottled", ConnectionRateThrottle, func() (time.Duration, error) { return s.payConnection(ctx) }) {
		return false
	}
	s.setPhase("AttemptingConnection")
	conn, err := s.q.cfg.Egress.Connect(s.soft, p)
	if err == nil && conn == nil {
		err = errors.New("the egress gave no session")
	}
	if err == nil {
		s.connected(conn)
		return true
	}
	var settled *mtakit.PathError
	if errors.As(err, &settled) {
		s.bulk(settled.Response, Reason(settled.Reason))
		return false
	}
	if s.soft.Err() != nil && !s.progress.isStuck() { // what took the watchdog's time has failed
		return false
	}
	if s.cur == nil && !s.obtain(ctx) { // it was opened before there was a message in hand
		return false
	}
	s.failed("failed to connect to any candidate hosts: " + err.Error())
	if n := s.r.failures.Add(1); int(n) > p.ConsecutiveConnectionFailuresBeforeDelay {
		s.bulk(mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 4, 1}, Text: "bulk delay of ready queue: too many successive connection " +
			"failures where there was no answer from any hosts listed in MX"}, TooManyConnectionFailures)
	}
	return false
}

// payConnection takes the unit that a connection needs.
func (s *session) payConnection(ctx context.Context) (wait time.Duration, err error) {
	rate := s.r.path.Load().MaxConnectionRate
	if rate.IsZero() {
		return 0, nil
	}
	return s.q.throttles.Take(ctx, connectionRateKey(s.r.name), rate, 1)
}

func (s *session) connected(conn mtakit.Session) {
	s.conn, s.sent = conn, 0
	s.r.reached()
	s.r.countOpened()
	s.progress.connected(conn.Info())
}

// failed counts an attempt of the message in hand as a temporary failure.
func (s *session) failed(text string) {
	s.r.count(s.cur.sched, mtakit.TransientFailure, len(s.cur.m.To))
	s.progress.count(mtakit.TransientFailure, len(s.cur.m.To))
	s.q.fail(s.q.deliverCtx, s.cur, ownedBySession, mtakit.Response{Code: 400, Text: mtakit.Internal + text}, nil, failure{r: s.r, conn: s.conn})
	s.cur = nil
}

// bulk settles everything in hand and in the ready queue with one response.
func (s *session) bulk(resp mtakit.Response, why Reason) {
	s.empty(func(it *item) {
		m := s.q.load(s.q.deliverCtx, it, ownedBySession)
		if m == nil {
			return
		}
		kind := mtakit.TransientFailure
		if resp.Permanent() {
			kind = mtakit.Bounce
		}
		s.r.count(it.sched, kind, len(m.To))
		s.q.fail(s.q.deliverCtx, it, ownedBySession, resp, Reasons{why}, failure{r: s.r})
	})
}

// rate asks take until it answers 0. A short wait is slept through; one of the idle time or longer sends the whole ready queue back, since
// nobody keeps a connection for that.
func (s *session) rate(phase string, why Reason, take func() (time.Duration, error)) bool {
	for {
		wait, err := take()
		if err != nil {
			s.q.log.Error("throttle not available", "ready_queue", s.r.name, "err", err)
			wait = time.Second
		}
		if wait <= 0 {
			s.held.Store(nil)
			return true
		}
		if wait >= s.r.path.Load().IdleTimeout.Std() {
			s.throttled(min(wait, forever), why)
			return false
		}
		s.setPhase(phase)
		if why == ConnectionRateThrottle {
			s.hold(ConnectionRateThrottled, "max_connection_rate throttling for "+mtakit.Duration(wait).String())
		}
		if sleep(s.soft, wait) != nil {
			return false
		}
	}
}

// throttled shuts the ready queue for that long, since nobody keeps a connection for it. What is in it, and in hand, keeps its place without an attempt or
// a record, but not its memory. Policy may decide otherwise of a message, and what may leave by another source goes back to its scheduled queue.
func (s *session) throttled(wait time.Duration, why Reason) {
	s.r.shutFor(wait)
	for range 2 { // what is left of a message after an attempt waits for the next
		if it := s.cur; it != nil && s.curD.first.Code != 0 {
			s.cur = nil
			s.handBack(it, s.curD)
		}
		s.swap()
	}
	how := requeue{delay: wait, hasDelay: true, keeps: true, reasons: Reasons{DueTimeWasReached, why}, response: internal451(1, "ready queue throttled")}
	var kept []*item
	defer func() {
		s.r.restock(kept)
		s.r.letGo()
	}()
	if asks := s.q.cfg.Policy.Retry != nil; asks || s.r.choice.Load() {
		s.empty(func(it *item) {
			if !asks || s.q.requeue(s.q.deliverCtx, it, ownedBySession, how) {
				kept = append(kept, it)
			}
		})
		return
	}
	for _, it := range []*item{s.nxt, s.cur} {
		if it != nil {
			s.unattempted(it)
		}
	}
	s.cur, s.nxt = nil, nil
}

// follow is what the connection asks for while it sends the message in hand: the next batch of its recipients, or the next message, if there is one at
// once and the limits allow. It is not given out when the connection has to be closed or looked at after this one. Should the peer find the recipients
// of a message's last batch too many, the rest of them follows the message that has been announced.
func (s *session) follow(ctx context.Context) *mtakit.Delivery {
	p := s.r.path.Load()
	if s.sent >= p.MaxDeliveriesPerConnection || s.q.stopping.Load() ||
		s.q.held(s.r, s.q.now()) || s.q.unhealthy() != nil || ctx.Err() != nil || s.q.pacer != nil && s.q.pacer.Pace(s.q.atOnce) != nil {
		return nil
	}
	if s.nxt != nil { // the rest of another message
		if wait, err := s.pay(ctx, s.nxtD); wait > 0 || err != nil {
			return nil // it waits for its rates when it is in hand
		}
		return &s.nxtD.Delivery
	}
	if n := len(s.curD.Rcpts); s.curD.todo > n {
		m := *s.cur.m // the answers for this batch change which recipients the message has
		s.nxtD.window(s.cur, &m, n, min(s.curD.todo-n, p.MaxRecipientsPerBatch))
		if wait, err := s.pay(ctx, s.nxtD); wait > 0 || err != nil {
			return nil
		}
		s.more = true
		return &s.nxtD.Delivery
	}
	it, ok := s.r.take()
	if !ok {
		return nil
	}
	if !s.q.rules.clear(it.sched) { // to obey may take time
		s.unattempted(it)
		return nil
	}
	s.nxt = it
	if !s.ready(it, s.nxtD) {
		s.nxt = nil
		return nil
	}
	if wait, err := s.pay(ctx, s.nxtD); wait > 0 || err != nil {
		s.nxt = nil
		s.unattempted(it)
		return nil
	}
	return &s.nxtD.Delivery
}

// pay takes the units that a transaction needs, once.
func (s *session) pay(ctx context.Context, d *delivery) (wait time.Duration, err error) {
	if d.paid {
		return 0, nil
	}
	d.rates = *s.r.limits.messages.Load()
	wait, err = s.q.takeAll(ctx, d.rates)
	d.paid = wait <= 0 && err == nil
	return wait, err
}

// unpay gives back the units of a transaction that is not to be.
func (s *session) unpay(d *delivery) {
	if d.paid {
		s.q.refundAll(context.Background(), d.rates)
		d.paid = false
	}
}

// handBack returns a message in hand for which nothing more can be done on this connection, with the units taken for the transaction that has not been.
func (s *session) handBack(it *item, d *delivery) {
	s.unpay(d)
	if d.first.Code != 0 { // some of its recipients have had a failure, which counts
		s.q.requeue(s.q.deliverCtx, it, ownedBySession, requeue{counted: true, reasons: Reasons{LoggedTransientFailure}, response: d.first})
		return
	}
	s.unattempted(it)
}

// handAllBack is handBack for what is in hand, the last first, so that it has its order again.
func (s *session) handAllBack() {
	for range 2 {
		s.swap()
		if it := s.cur; it != nil {
			s.cur = nil
			s.handBack(it, s.curD)
		}
	}
}

// unattempted returns a message that the peer has seen nothing of to the ready queue, or to its scheduled queue at the end of it all.
func (s *session) unattempted(it *item) {
	if !s.r.giveBack(it) {
		s.q.readmit(it)
	}
}
