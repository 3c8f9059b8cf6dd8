// Package queue is the engine of an MTA: scheduled queues, ready queues and dispatch.
//
// A message that was submitted is in the spool and waits in the scheduled queue of its campaign, tenant and domain until it is due, as a few dozen
// bytes in a timing wheel that all queues of a shard share. Then it is promoted: the router finds the site, weights choose the source, and it enters
// the ready queue of both, where scheduled queues take turns. Sessions take it from there, within the limits of the path. What fails for now goes
// back to the scheduled queue, with a delay that doubles from one attempt to the next.
//
//	q, err := queue.New(queue.Config{Spool: spool, Router: router, Egress: egress})
//	go q.Run(ctx)
//	err = q.Submit(ctx, []mtakit.Submission{{Message: m, Body: mtakit.Bytes(text)}}, mtakit.Durable)
//
// # Goroutines
//
// Run owns all of them and returns when they have ended: one loop for each shard; the scan of the spool; promotion workers, which exist only while
// messages are due that can't be promoted on the spot; one goroutine for each open session; a few that renew answers of policy. A
// queue with nothing to do has none, and no timer. Callbacks run on goroutines of their own, and one that never returns is left behind.
//
// # Locks
//
// Outermost first: a shard; the table of ready queues; a ready queue; the work list. The spool, the recorder, the router and callbacks are called with
// none of them held.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/gcra"
)

// Config says how a Queue works. Fields that aren't marked as required may be zero.
type Config struct {
	Spool  mtakit.Spool  // required
	Router mtakit.Router // required
	Egress mtakit.Egress // required

	Scheduler func() mtakit.Scheduler // one for each shard; nil: a timing wheel
	Throttles mtakit.Throttles        // nil: in this process
	Classify  mtakit.Classifier       // nil: nothing is classified
	Record    mtakit.Recorder         // nil: dropped
	Policy    Policy
	Log       *slog.Logger     // nil: discarded
	Now       func() time.Time // wall clock; nil: time.Now

	// IDs makes the ids of messages. It has to be the same source that reception uses, so that the scan at start can tell old messages from new
	// ones. Nil: the queue makes one; see Queue.NewID.
	IDs *mtakit.IDSource

	// Shards is into how many parts the scheduled queues are divided, a power of two. Default: the number of CPUs, rounded up.
	Shards int
	// MaxResident is how many bytes of messages are kept in memory from reception to their first attempt. Default 256 MiB.
	MaxResident int64
	// GracePeriod is how long sessions may go on with the message in hand after Run's context has ended. Default 60s.
	GracePeriod time.Duration
	// CallbackTimeout is how long a callback of Policy may take. Default 30s.
	CallbackTimeout time.Duration
	// ReadyIdle is after how much idle time a ready queue is forgotten. Default 10m.
	ReadyIdle time.Duration
	// NodeID is a UUID that records carry.
	NodeID string
	// Seed makes the choices that are otherwise random (jitter) the same from run to run. 0 takes one at random.
	Seed uint64
}

func (c *Config) withDefaults() error {
	switch {
	case c.Spool == nil:
		return errors.New("queue: Config.Spool is missing")
	case c.Router == nil:
		return errors.New("queue: Config.Router is missing")
	case c.Egress == nil:
		return errors.New("queue: Config.Egress is missing")
	case c.Shards < 0 || c.Shards != 0 && bits.OnesCount(uint(c.Shards)) != 1:
		return fmt.Errorf("queue: Config.Shards is %d, want a power of two", c.Shards)
	case c.MaxResident < 0, c.GracePeriod < 0, c.CallbackTimeout < 0, c.ReadyIdle < 0:
		return errors.New("queue: Config has a negative size or time")
	}
	if c.Shards == 0 {
		c.Shards = 1 << bits.Len(uint(runtime.GOMAXPROCS(0)-1))
	}
	if c.MaxResident == 0 {
		c.MaxResident = 256 << 20
	}
	if c.GracePeriod == 0 {
		c.GracePeriod = time.Minute
	}
	if c.CallbackTimeout == 0 {
		c.CallbackTimeout = 30 * time.Second
	}
	if c.ReadyIdle == 0 {
		c.ReadyIdle = 10 * time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.IDs == nil {
		c.IDs = &mtakit.IDSource{}
	}
	for c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	return nil
}

// Queue is the engine. Make it with New, and start it with Run.
type Queue struct {
	cfg            Config
	log            *slog.Logger
	now            func() time.Time
	seed           uint64
	throttles      mtakit.Throttles
	localThrottles bool
	pacer          mtakit.Pacer
	flusher        mtakit.Flusher
	wantsBody      bool
	health         interface{ Err() error } // of the spool, if it tells
	defaultConf    *conf
	defaultPath    mtakit.PathConfig

	epoch   atomic.Uint64
	before  mtakit.ID // messages below are those that were in the spool before
	rules   rules
	pools   named[mtakit.Pool]
	sources named[mtakit.Source]
	shards  []*shard
	work    workList

	readyMu sync.Mutex
	ready   map[string]*ready

	refreshMu  sync.Mutex
	refreshing map[any]bool

	// Two stages of stopping: workCtx ends when no new work is begun, deliverCtx when the grace period is over.
	workCtx, deliverCtx context.Context
	stopWork            context.CancelFunc
	stopDeliver         context.CancelCauseFunc
	stopping            atomic.Bool
	running             atomic.Bool
	admitting           sync.RWMutex // held for reading by Submit, so that stopping waits for it
	wg                  sync.WaitGroup

	scanDone chan struct{}

	// What is counted all the time: accepted + recovered = done + left + messages in memory.
	accepted, recovered, done, left mtakit.Counter
	waiting, schedCount             mtakit.Counter
	promoting                       atomic.Int64
	resident                        atomic.Int64
	latency                         *mtakit.Histogram
}

// New makes a Queue; it does no I/O and starts no goroutine.
func New(cfg Config) (*Queue, error) {
	if err := cfg.withDefaults(); err != nil {
		return nil, err
	}
	q := &Queue{cfg: cfg, log: cfg.Log, now: cfg.Now, seed: cfg.Seed, throttles: cfg.Throttles, defaultPath: mtakit.DefaultPathConfig(),
		ready: make(map[string]*ready), refreshing: make(map[any]bool), scanDone: make(chan struct{}), latency: mtakit.NewHistogram()}
	if q.throttles == nil {
		s := gcra.NewStore()
		s.Now = cfg.Now
		q.throttles = s
	}
	if _, ok := q.throttles.(*gcra.Store); ok {
		q.localThrottles = true
	}
	q.pacer, _ = cfg.Record.(mtakit.Pacer)
	q.flusher, _ = cfg.Record.(mtakit.Flusher)
	if b, ok := cfg.Record.(mtakit.BodyRecorder); ok {
		q.wantsBody = b.WantsBody()
	}
	q.health, _ = cfg.Spool.(interface{ Err() error })
	set := mtakit.DefaultQueueSettings()
	q.defaultConf, _ = q.newConf(&set, time.Time{}, 0)
	q.rules.q, q.work.q = q, q
	q.before = q.NewID()
	q.workCtx, q.stopWork = context.WithCancel(context.Background())
	q.deliverCtx, q.stopDeliver = context.WithCancelCause(context.Background())
	for range cfg.Shards {
		q.shards = append(q.shards, newShard(q))
	}
	return q, nil
}

// NewID makes the id of a message that is being received.
func (q *Queue) NewID() mtakit.ID { return q.cfg.IDs.New(q.now()) }

// Run recovers what is in the spool, delivers, and returns when ctx has ended and everything is put away: sessions have finished the message in
// hand or were cut at the end of the grace period; all other messages are in the spool. It returns nil then. It may be called once.
// Messages may be submitted from New on, while the spool is still to be scanned.
func (q *Queue) Run(ctx context.Context) error {
	if q.running.Swap(true) {
		return errors.New("queue: Run is called twice")
	}
	q.wg.Add(1 + len(q.shards))
	for _, sh := range q.shards {
		go func() { defer q.wg.Done(); sh.run(q.workCtx) }()
	}
	go func() { defer q.wg.Done(); q.upkeep(q.workCtx) }()
	scanErr := make(chan error, 1)
	go func() { scanErr <- q.recover(q.workCtx, q.before) }()
	var err error
	select {
	case <-ctx.Done():
		q.stop()
		<-scanErr
	case err = <-scanErr:
		if err == nil {
			<-ctx.Done()
		}
		q.stop()
	}
	return err
}

// stop ends the work in the order that loses nothing: no new messages, nothing new becomes due, no new promotion, sessions finish, ready queues
// give back.
func (q *Queue) stop() {
	q.admitting.Lock()
	q.stopping.Store(true)
	q.admitting.Unlock()
	q.stopWork()
	q.work.stop()
	grace := time.AfterFunc(q.cfg.GracePeriod, func() { q.stopDeliver(errGraceEnded) })
	defer grace.Stop()
	q.readyMu.Lock()
	for _, r := range q.ready {
		r.mu.Lock()
		for _, s := range r.parked {
			s.wake <- struct{}{}
		}
		r.parked = nil
		r.mu.Unlock()
	}
	q.readyMu.Unlock()
	q.wg.Wait()
	q.stopDeliver(mtakit.ErrClosed)
	for _, r := range q.ready {
		for _, it := range r.drain() {
			q.leave(it, ownedBySession)
		}
	}
	for _, sh := range q.shards {
		sh.mu.Lock()
		var out []*item
		for _, s := range sh.scheds {
			if s == nil {
				continue
			}
			for it, ok := s.due.hot.popFront(); ok; it, ok = s.due.hot.popFront() {
				out = append(out, it)
				s.waiting--
				q.waiting.Dec()
			}
		}
		sh.mu.Unlock()
		for _, it := range out {
			q.leave(it, ownedBySched)
		}
	}
}

// upkeep forgets what is no longer in use.
func (q *Queue) upkeep(ctx context.Context) {
	for sleep(ctx, time.Minute) == nil {
		q.reapReady(q.now(), q.cfg.ReadyIdle)
	}
}

// Recovered is closed when every message that was in the spool at start is scheduled.
func (q *Queue) Recovered() <-chan struct{} { return q.scanDone }

// recover schedules what the spool holds.
func (q *Queue) recover(ctx context.Context, before mtakit.ID) error {
	for e, err := range q.cfg.Spool.Scan(ctx, before) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, mtakit.ErrUnhealthy) || errors.Is(err, mtakit.ErrClosed) {
				return fmt.Errorf("queue: the spool can't be scanned: %w", err)
			}
			q.log.Error("message in the spool can't be read; it is left there", "err", err)
			continue
		}
		q.recovered.Inc()
		s := q.hold(e.Queue)
		if q.cfg.Policy.Enumerated != nil {
			q.enumerate(ctx, s, e)
			continue
		}
		s.shard.mu.Lock()
		s.shard.wait(s, e.ID, e.Due, e.Tries)
		s.shard.mu.Unlock()
	}
	if ctx.Err() == nil {
		close(q.scanDone)
	}
	return nil
}

// enumerate shows a recovered message to policy before it is scheduled.
func (q *Queue) enumerate(ctx context.Context, s *sched, e mtakit.Entry) {
	it := &item{id: e.ID, sched: s, tries: e.Tries, due: e.Due, stored: true}
	it.owner.Store(uint32(ownedByPromotion))
	m := q.load(ctx, it, ownedByPromotion)
	if m == nil {
		return
	}
	err := ask(q, ctx, "Enumerated", func(ctx context.Context) error { return q.cfg.Policy.Enumerated(ctx, m) })
	var reject *mtakit.Reject
	var delay *mtakit.Delay
	switch {
	case errors.As(err, &reject):
		q.bounce(it, ownedByPromotion, reject.Response, "")
		return
	case errors.As(err, &delay):
		it.due = q.now().Add(delay.For)
	case err != nil:
		q.log.Error("recovered message keeps its time", "id", it.id.String(), "err", err)
	default:
		it.due, it.changed = m.Due, true
		if name, err := m.DeriveQueue(); err == nil && name != s.name && m.Queue == s.name {
			m.Queue = name
		}
		if m.Queue != s.name {
			q.move(it, ownedByPromotion, m.Queue)
		}
	}
	q.park(ctx, it, ownedByPromotion, Reasons{Enumerated})
}

// Submit takes responsibility for the messages of batch, all or none: when it returns nil they are stored as d says, their records are written, and
// the queue owns them and closes the bodies. On an error everything still belongs to the caller, and nothing of the batch will be sent. It
// fills in Queue and Size, and ID where that is zero. A message for the queue named "null" is accepted and forgotten.
//
// Errors wrap what Spool.Store returns, ErrClosed after the end of Run's context, a failure of Policy.Settings (errors.Is with mtakit's errors tells
// them apart), or the end of ctx.
func (q *Queue) Submit(ctx context.Context, batch []mtakit.Submission, d mtakit.Durability) error {
	q.admitting.RLock()
	defer q.admitting.RUnlock()
	if q.stopping.Load() {
		return mtakit.ErrClosed
	}
	if q.pacer != nil {
		if err := q.pacer.Pace(ctx); err != nil {
			return fmt.Errorf("queue: the event log has no room: %w", err)
		}
	}
	var room [4]*item
	items := room[:0]
	undo := func() {
		for _, it := range items {
			it.sched.drop()
		}
	}
	store := make([]mtakit.Submission, 0, len(batch))
	for _, b := range batch {
		it, err := q.admit(ctx, b)
		if err != nil {
			undo()
			return err
		}
		items = append(items, it)
		if b.Message.Queue.Domain != mtakit.NullQueue {
			store = append(store, b)
		}
	}
	if d != mtakit.Volatile && len(store) > 0 {
		if err := q.cfg.Spool.Store(ctx, store, d); err != nil {
			undo()
			return err
		}
	}
	for i, b := range batch {
		q.accept(items[i], b, d)
	}
	return nil
}

// admit fills in what the message lacks and finds its queue, with settings.
func (q *Queue) admit(ctx context.Context, b mtakit.Submission) (*item, error) {
	m := b.Message
	if len(m.To) == 0 {
		return nil, errors.New("queue: the message has no recipient")
	}
	if m.ID.IsZero() {
		m.ID = q.NewID()
	}
	m.Size = b.Body.Size()
	if m.Queue == (mtakit.QueueName{}) {
		var err error
		if m.Queue, err = m.DeriveQueue(); err != nil {
			return nil, err
		}
	}
	if due := m.Schedule.Adjust(later(m.Due, q.now())); m.Schedule != nil && due.After(q.now()) {
		m.Due = due
	}
	s := q.hold(m.Queue)
	if m.Queue.Domain != mtakit.NullQueue {
		if _, err := q.confOf(ctx, s); err != nil {
			s.drop()
			return nil, fmt.Errorf("queue: settings of %s: %w", m.Queue, err)
		}
	}
	it := &item{id: m.ID, sched: s, tries: m.Tries, due: m.Due, m: m}
	return it, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// accept puts a stored message on its way.
func (q *Queue) accept(it *item, b mtakit.Submission, d mtakit.Durability) {
	it.stored = d != mtakit.Volatile
	q.accepted.Inc()
	q.recordReception(it, b.Body)
	if b.Message.Queue.Domain == mtakit.NullQueue {
		it.m, it.body = b.Message, b.Body
		q.gone(it, ownedByReception)
		return
	}
	s := it.sched
	if it.due.After(q.now()) {
		it.m, it.body = b.Message, b.Body
		if q.rules.any() && q.obeyBounce(it, ownedByReception) {
			return
		}
		q.park(q.workCtx, it, ownedByReception, Reasons{Received})
		return
	}
	it.m = nil
	if !q.keepResident(it, b.Message, b.Body) {
		b.Body.Close()
	}
	s.shard.mu.Lock()
	it.pass(ownedByReception, ownedBySched)
	s.shard.ripe(s, it)
	s.shard.mu.Unlock()
}

// unhealthy is why nothing is delivered now: a spool that can't forget would have everything delivered twice.
func (q *Queue) unhealthy() error {
	if q.health == nil {
		return nil
	}
	if err := q.health.Err(); errors.Is(err, mtakit.ErrUnhealthy) {
		return err
	}
	return nil
}
