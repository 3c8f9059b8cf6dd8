package queue

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
)

// ready is a ready queue: messages for one site by one source, in lanes, one for each scheduled queue that feeds it. Lanes take turns, so that
// a queue with one message waits for one message of each other queue at most, and not for all of a large one. It has no goroutine
// of its own: sessions are started by what comes in, up to the ideal number, and end when nothing has come for a while.
type ready struct {
	q      *Queue
	name   string
	domain string // that the path was asked for
	proto  mtakit.Protocol

	// Of the queue that it was made for: the pool, and the provider as its settings name it.
	pool, provider string

	path    atomic.Pointer[mtakit.Path]
	fetched atomic.Int64  // when, by uptime
	epoch   atomic.Uint64 // of the path
	limits  *limits

	mu       sync.Mutex
	lanes    lanes
	reserved int
	room     fifo[*sched] // wait for room, in turn
	inRoom   map[*sched]struct{}
	called   int // of those that waited, who have been told that there is room and have not tried yet
	parked   []*session
	sessions int // open or opening
	closed   bool
	choice   atomic.Bool   // a queue that feeds it has other ready queues as well
	shut     time.Duration // uptime; nothing comes in or out and no session is opened before
	reopen   *time.Timer   // at the end of that
	idleAt   time.Duration // uptime since which there has been neither message nor session

	failures atomic.Int32 // consecutive, of connecting

	live map[*session]struct{} // guarded by mu

	readyCount
}

type readyAnswer uint8

const (
	readyOK readyAnswer = iota
	readyFull
	readyClosed
)

// admits says whether there is room for one more message of s. Beyond max_ready there is still room for what a queue may send in two turns, one of which
// comes in while the other is taken: turns are worth nothing to those who can't get in. It is called with mu held.
func (r *ready) admits(s *sched) readyAnswer {
	limit := r.path.Load().MaxReady
	switch {
	case r.closed:
		return readyClosed
	case r.shutLocked():
	case r.lanes.n+r.reserved < limit:
		return readyOK
	case len(r.lanes.byName) < limit:
		if n, turn := r.lanes.stock(s); n < 2*turn {
			return readyOK
		}
	}
	return readyFull
}

// reserve takes a place for a message of s; redeem fills it, release gives it back.
func (r *ready) reserve(s *sched) readyAnswer {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.admits(s)
	if a == readyOK {
		r.reserved++
	} else if a == readyFull {
		r.countFull()
		r.wakeLocked()
	}
	return a
}

func (r *ready) release() {
	r.mu.Lock()
	r.reserved--
	room := r.callLocked()
	r.mu.Unlock()
	r.callIn(room)
}

func (r *ready) redeem(it *item) {
	r.mu.Lock()
	r.reserved--
	r.enter(it)
	r.mu.Unlock()
}

// push is reserve and redeem in one.
func (r *ready) push(it *item) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.admits(it.sched) != readyOK {
		r.wakeLocked()
		return false
	}
	r.enter(it)
	return true
}

// enter puts a message into its lane and sees to it that somebody takes it. It is called with mu held.
func (r *ready) enter(it *item) {
	it.pass(ownedByPromotion, ownedByReady)
	r.lanes.pushBack(it)
	r.wakeLocked()
}

// wakeLocked gives work to a session that has none, or opens one if there are fewer than ideal. It is called with mu held.
func (r *ready) wakeLocked() {
	if n := len(r.parked); n > 0 && !r.shutLocked() {
		s := r.parked[n-1] // the last: the others may end of idleness
		r.parked[n-1] = nil
		r.parked = r.parked[:n-1]
		s.wake <- struct{}{}
		return
	}
	r.openLocked()
}

// openLocked opens a session if there are fewer than ideal, and says whether it did. It is called with mu held.
func (r *ready) openLocked() bool {
	if r.sessions >= r.q.idealNow(r.lanes.n, r.path.Load().ConnectionLimit.N) || r.closed || r.q.stopping.Load() || r.shutLocked() {
		return false
	}
	r.sessions++
	s := &session{r: r, q: r.q, wake: make(chan struct{}, 1)}
	s.progress.start(r.q.uptime())
	r.live[s] = struct{}{}
	r.q.wg.Add(1)
	go s.run(r.q.deliverCtx)
	return true
}

// shutLocked says whether the ready queue is shut for a while. It is called with mu held.
func (r *ready) shutLocked() bool { return r.shut > 0 && r.q.uptime() < r.shut }

// shutFor lets nothing in or out for a while that a rate asks for. What is in it keeps its place.
func (r *ready) shutFor(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = r.q.uptime() + d
	if r.reopen == nil {
		r.reopen = time.AfterFunc(d, r.open)
	} else {
		r.reopen.Reset(d)
	}
}

// open goes on when the ready queue is no longer shut.
func (r *ready) open() {
	r.mu.Lock()
	var room fifo[*sched]
	if !r.shutLocked() {
		for range min(r.lanes.n, len(r.parked)) { // they have been idle while it was shut
			r.wakeLocked()
		}
		for r.lanes.n > 0 && r.openLocked() {
		}
		room = r.emptyRoom()
	}
	r.mu.Unlock()
	unblock(&room)
}

// opensIn is how long it is worth to wait for room if nobody tells: until the ready queue is no longer shut, a minute at most.
func (r *ready) opensIn() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.shutLocked() {
		return time.Minute
	}
	return min(time.Minute, r.shut-r.q.uptime())
}

// take is the next message to send, by turns; ok is false if there is none, or if the ready queue is shut.
func (r *ready) take() (it *item, ok bool) { return r.takeOut(false) }

// takeOut is take, also while the ready queue is shut if evenShut says so.
func (r *ready) takeOut(evenShut bool) (it *item, ok bool) {
	r.mu.Lock()
	if !evenShut && r.shutLocked() {
		r.mu.Unlock()
		return nil, false
	}
	it, ok = r.lanes.take()
	if !ok {
		r.mu.Unlock()
		return nil, false
	}
	it.pass(ownedByReady, ownedBySession)
	room := r.callLocked()
	again := false
	if _, waits := r.inRoom[it.sched]; waits {
		n, turn := r.lanes.stock(it.sched)
		again = n <= turn // there is room for another turn; see admits
	}
	r.mu.Unlock()
	if again {
		it.sched.unblock(nil)
	}
	r.callIn(room)
	return it, true
}

// callLocked returns those who have waited longest for room, as many as there is room for once half of it is free, for the caller to callIn once mu is free.
// Each of them tries to bring a message in; after that there may be room for further ones. Were all told, most would find it full again.
func (r *ready) callLocked() (room []*sched) {
	if r.room.len() == 0 || r.shutLocked() {
		return nil
	}
	limit := r.path.Load().MaxReady
	taken := r.lanes.n + r.reserved + r.called
	if taken > limit/2 {
		return nil
	}
	room = make([]*sched, min(limit-taken, r.room.len()))
	for i := range room {
		room[i], _ = r.room.popFront()
		delete(r.inRoom, room[i])
	}
	r.called += len(room)
	return room
}

// callIn unblocks those that callLocked has returned.
func (r *ready) callIn(room []*sched) {
	for len(room) > 0 {
		gone := 0
		for _, s := range room {
			if !s.unblock(r) {
				gone++
			}
		}
		if gone == 0 {
			return
		}
		room = r.callNext(gone)
	}
}

// callNext is callLocked when n of those that were called have tried, or don't wait any more.
func (r *ready) callNext(n int) []*sched {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.called -= n
	return r.callLocked()
}

// tried says that a queue that was called has.
func (r *ready) tried() { r.callIn(r.callNext(1)) }

// emptyRoom returns all who wait for room, for the caller to unblock once mu is free.
func (r *ready) emptyRoom() fifo[*sched] {
	room := r.room
	r.room = fifo[*sched]{}
	clear(r.inRoom)
	return room
}

func unblock(room *fifo[*sched]) {
	for s, ok := room.popFront(); ok; s, ok = room.popFront() {
		s.unblock(nil)
	}
}

// giveBack returns a message that a session has taken and not attempted to the front.
func (r *ready) giveBack(it *item) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.q.stopping.Load() {
		return false
	}
	it.pass(ownedBySession, ownedByReady)
	r.lanes.untake(it)
	r.wakeLocked()
	return true
}

// restock puts messages that were taken out and not sent back, in their order. Those whose queue has other sources to go by return to it instead, all but
// the messages of one turn.
func (r *ready) restock(all []*item) {
	var back []*item
	choice := make(map[*sched]bool)
	for _, it := range all {
		if _, known := choice[it.sched]; !known {
			choice[it.sched] = it.sched.hasChoice()
		}
	}
	r.mu.Lock()
	for _, it := range all {
		if n, turn := r.lanes.stock(it.sched); r.closed || r.q.stopping.Load() || choice[it.sched] && n >= turn {
			back = append(back, it)
			continue
		}
		it.pass(ownedBySession, ownedByReady)
		r.lanes.pushBack(it)
	}
	if r.lanes.n > 0 {
		r.wakeLocked()
	}
	r.mu.Unlock()
	r.q.readmit(back...)
}

// letGo lets go of what the messages have in memory.
func (r *ready) letGo() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lanes.filter(func(it *item) bool {
		r.q.shrink(it)
		return true
	})
}

// expire ends the lives of messages that have become too old for their queues while r is shut.
func (r *ready) expire() {
	now := r.q.now()
	for _, it := range r.pull(func(it *item) bool { return it.outlived(r.q.age(it, now)) }) {
		if r.q.load(r.q.workCtx, it, ownedBySession) == nil || r.q.overdue(it, ownedBySession) {
			continue
		}
		if !r.giveBack(it) { // it has an expiry time of its own
			r.q.readmit(it)
		}
	}
}

// pull takes out of a ready queue that is shut what which says.
func (r *ready) pull(which func(*item) bool) (out []*item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.shutLocked() {
		return nil
	}
	return r.extract(which)
}

// extract takes out what which says, for its new owner, who has it as if by a session. It is called with mu held.
func (r *ready) extract(which func(*item) bool) (out []*item) {
	r.lanes.filter(func(it *item) bool {
		if !which(it) {
			return true
		}
		it.pass(ownedByReady, ownedBySession)
		out = append(out, it)
		return false
	})
	return out
}

// charge says that a message of s took another transaction.
func (r *ready) charge(s *sched) {
	r.mu.Lock()
	r.lanes.charge(s)
	r.mu.Unlock()
}

// whenRoom wakes s when there is room.
func (r *ready) whenRoom(s *sched) {
	r.mu.Lock()
	if now := r.admits(s); now != readyFull { // a session was faster
		r.mu.Unlock()
		s.unblock(nil)
		return
	}
	if _, there := r.inRoom[s]; !there {
		r.inRoom[s] = struct{}{}
		r.room.pushBack(s)
	}
	r.mu.Unlock()
}

// len is how many messages there are.
func (r *ready) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lanes.n
}

// drain takes everything out, for its new owner, who has it as if by a session.
func (r *ready) drain() (all []*item) {
	for {
		it, ok := r.takeOut(true)
		if !ok {
			return all
		}
		all = append(all, it)
	}
}

// drainOf is drain of what came from queues for which of says so.
func (r *ready) drainOf(of func(*sched) bool) []*item {
	r.mu.Lock()
	all, room := r.extract(func(it *item) bool { return of(it.sched) }), r.emptyRoom()
	r.mu.Unlock()
	unblock(&room)
	return all
}

// cutAll ends every session at once; what they have in hand goes back.
func (r *ready) cutAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.live {
		if cut := s.cut.Load(); cut != nil {
			(*cut)(errGraceEnded)
		}
	}
}

// reached says that the peer answers, if only on a connection that was there before: those that can't be made then are too many, and no reason to put off
// everything.
func (r *ready) reached() {
	if r.failures.Load() != 0 { // which all sessions share
		r.failures.Store(0)
	}
}

// leave is the end of a session. Those that wait go on without it.
func (r *ready) leave(s *session) {
	r.mu.Lock()
	r.sessions--
	delete(r.live, s)
	for r.lanes.n > 0 && r.openLocked() {
	}
	if r.sessions == 0 && r.lanes.n == 0 {
		r.idleAt = r.q.uptime()
	}
	r.mu.Unlock()
}

// park waits until there may be work; false means that there was none for the time given, or that ctx has ended.
func (r *ready) park(ctx context.Context, s *session, d time.Duration) bool {
	r.mu.Lock()
	if r.lanes.n > 0 && !r.shutLocked() || r.q.stopping.Load() {
		r.mu.Unlock()
		return true
	}
	r.parked = append(r.parked, s)
	r.mu.Unlock()
	if s.idle == nil {
		s.idle = time.NewTimer(d)
	} else {
		s.idle.Reset(d)
	}
	defer s.idle.Stop()
	select {
	case <-s.wake:
		return true
	case <-s.idle.C:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, p := range r.parked {
		if p == s {
			r.parked = append(r.parked[:i], r.parked[i+1:]...)
			return false
		}
	}
	<-s.wake // somebody took s out of parked, so there is work and a token
	return true
}

// readyFor returns the ready queue of a source and a site, made if need be, with a path that is up to date or being renewed.
func (q *Queue) readyFor(ctx context.Context, s *sched, c *conf, src *mtakit.Source, site *mtakit.Site) (*ready, error) {
	name := readyName(src, site, c)
	if r, err := q.readyNamed(name); err == nil {
		q.refreshPath(r, src)
		return r, nil
	}
	return q.making.share(ctx, name, func() (*ready, error) { return q.makeReady(ctx, name, s, c, src, site) })
}

// makeReady makes a ready queue, unless there is one by now.
func (q *Queue) makeReady(ctx context.Context, name string, s *sched, c *conf, src *mtakit.Source, site *mtakit.Site) (*ready, error) {
	if r, err := q.readyNamed(name); err == nil {
		return r, nil
	}
	domain, epoch := s.name().RoutingDomain(), q.epoch.Load()
	p, err := q.pathOf(ctx, name, domain, c.Protocol, src, site)
	if err != nil {
		return nil, err
	}
	r := &ready{
		q: q, name: name, domain: domain, proto: c.Protocol, pool: c.pool, provider: c.ProviderName, inRoom: make(map[*sched]struct{}),
		live: make(map[*session]struct{}), idleAt: q.uptime(),
	}
	r.path.Store(p)
	r.limits = newLimits(p)
	r.fetched.Store(int64(q.uptime()))
	r.epoch.Store(epoch)
	q.readyMu.Lock()
	defer q.readyMu.Unlock()
	q.ready[name] = r
	r.slot = q.readySlots.add(r)
	r.beginCounting(c)
	return r, nil
}

// pathOf asks policy for the limits.
func (q *Queue) pathOf(ctx context.Context, name, domain string, proto mtakit.Protocol, src *mtakit.Source, site *mtakit.Site) (*mtakit.Path, error) {
	cfg := &q.defaultPath
	if q.cfg.Policy.Path != nil {
		c, err := guard(q, ctx, "Path", func(ctx context.Context) (*mtakit.PathConfig, error) {
			return q.cfg.Policy.Path(ctx, domain, src.Name, site)
		})
		if err != nil {
			return nil, err
		}
		if c != nil {
			cfg = c
		}
	}
	if proto.Xfer != nil { // the other node takes a message whole
		whole := *cfg
		whole.MaxRecipientsPerBatch = math.MaxInt
		cfg = &whole
	}
	if cfg.MaxReady < 1 || cfg.MaxDeliveriesPerConnection < 1 || cfg.MaxRecipientsPerBatch < 1 || cfg.ConnectionLimit.N < 1 {
		fixed := *cfg
		fixed.MaxReady, fixed.MaxDeliveriesPerConnection = max(1, cfg.MaxReady), max(1, cfg.MaxDeliveriesPerConnection)
		fixed.MaxRecipientsPerBatch, fixed.ConnectionLimit.N = max(1, cfg.MaxRecipientsPerBatch), max(1, cfg.ConnectionLimit.N)
		q.log.Error("path has limits below 1; 1 is used", "path", name)
		cfg = &fixed
	}
	return &mtakit.Path{Name: name, Source: src, Site: site, Protocol: proto, PathConfig: cfg}, nil
}

// refreshPath renews the path of r in the background if it is out of date.
func (q *Queue) refreshPath(r *ready, src *mtakit.Source) {
	p := r.path.Load()
	if p.Source == src && q.cfg.Policy.Path == nil {
		return
	}
	up, epoch := q.uptime(), q.epoch.Load()
	if p.Source == src && !stale(up-time.Duration(r.fetched.Load()), r.epoch.Load() == epoch, p.RefreshInterval, p.RefreshStrategy) {
		return
	}
	q.refresh(r, func(ctx context.Context) {
		// The hosts stay as they were when the ready queue was made; its name says so.
		n, err := q.pathOf(ctx, r.name, r.domain, r.proto, src, p.Site)
		r.fetched.Store(int64(up))
		r.epoch.Store(epoch)
		if err != nil {
			q.log.Error("path not renewed; the last good one stays in force", "path", r.name, "err", err)
			return
		}
		old := r.path.Swap(n)
		r.shed(r.limits.set(n) || old.MaxConnectionRate != n.MaxConnectionRate)
	})
}

// shed sends back what is too much after max_ready was lowered, the last first, and wakes those who may go on under the new path. Under other rates it is
// no longer shut.
func (r *ready) shed(otherRates bool) {
	var out []*item
	r.mu.Lock()
	limit := r.path.Load().MaxReady
	for r.lanes.n > limit {
		it, _ := r.lanes.takeLast()
		it.pass(ownedByReady, ownedBySession)
		out = append(out, it)
	}
	if otherRates && r.shutLocked() {
		r.shut = 0
		r.reopen.Reset(0)
	}
	r.wakeLocked()
	room := r.emptyRoom()
	r.mu.Unlock()
	slices.Reverse(out) // in the order in which they came
	r.q.readmit(out...)
	unblock(&room)
}

// reapReady forgets ready queues that have been idle for long, and opens sessions of those that have messages and nobody who takes them: a
// message may come in just when the ready queue is being shut.
func (q *Queue) reapReady(idle time.Duration) {
	var room []fifo[*sched]
	var shut []*ready
	q.readyMu.Lock()
	for name, r := range q.ready {
		r.mu.Lock()
		switch {
		case r.lanes.n > 0 && r.shutLocked(): // nobody else asks whether the rate has been changed
			shut = append(shut, r)
		case r.lanes.n > 0 && r.sessions == 0:
			r.openLocked()
		case r.lanes.n == 0 && r.reserved == 0 && r.sessions == 0 && !r.shutLocked() && q.uptime()-r.idleAt >= idle:
			r.closed = true
			delete(q.ready, name)
			q.readySlots.remove(r.slot)
			r.endCounting()
			room = append(room, r.emptyRoom())
		}
		r.mu.Unlock()
	}
	q.readyMu.Unlock()
	for _, r := range shut {
		q.refreshPath(r, r.path.Load().Source)
		r.expire()
	}
	for i := range room {
		unblock(&room[i])
	}
}
