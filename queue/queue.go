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
// Outermost first: a shard; the table of ready queues; a ready queue; the work list. Innermost, each by itself: those of tallies, rules, the health of
// sources, the clock and the progress of a session. The spool, the recorder, the router and callbacks are called with none of them held.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/gcra"
	"github.com/mtakit/mtakit/internal/pressure"
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

	// Provenance tells Explain where the answers of Policy come from.
	Provenance Provenance

	// IDs makes the ids of messages. Nil: the queue makes one; see Queue.NewID.
	IDs *mtakit.IDSource

	// State keeps the operator's rules (bounce, suspend) over a restart. Nil: they are forgotten.
	State State
	// MemoryLimit is how much memory the process may use before the queue lets go of what it can and, beyond, takes no more messages. Default three
	// quarters of what the system allows (control group, resource limit, or the machine); negative is no limit.
	MemoryLimit int64
	memory      *pressure.Memory // in place of that, for tests

	// Shards is into how many parts the scheduled queues are divided, a power of two. Default: the number of CPUs, rounded up.
	Shards int
	// MaxResident is how many bytes of messages are kept in memory from reception to their first attempt. Default 256 MiB, or a quarter of the memory limit if
	// that is less.
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
	now            func() time.Time // wall clock, for due times and ages
	born           time.Time        // for uptime
	clock          *clock           // for what waits
	seed           uint64
	throttles      mtakit.Throttles
	localThrottles bool
	refunder       mtakit.Refunder // throttles, if they take units back
	pacer          mtakit.Pacer
	atOnce         context.Context // has ended, for a Pacer that is asked without waiting
	flusher        mtakit.Flusher
	wantsBody      bool
	health         interface{ Err() error } // of the spool, if it tells
	defaultConf    *conf
	deferredConf   *conf // of the queue of messages that reception has put off
	generatorConf  *conf // of GeneratorQueue
	defaultPath    mtakit.PathConfig

	epoch  atomic.Uint64
	owed   owed
	fresh  fresh
	rules  rules
	confs  confs
	memory *pressure.Memory // nil is no limit
	freed  time.Duration    // uptime at which unused memory was last given back; of upkeep

	sourceHealth sourceHealth

	pools   named[mtakit.Pool]
	sources named[mtakit.Source]
	shards  []*shard
	work    workList

	readyMu    sync.Mutex
	ready      map[string]*ready
	making     flights[*ready]
	readySlots slots[*ready]
	tallies    tallies

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
	sweeps                          atomic.Uint32
	sweeping                        chan struct{} // has one for each sweep that goes on
	timings                         timings

	// What is in memory of messages. It is counted together.
	resident          atomic.Int64 // bytes, of first attempts
	bodies, envelopes mtakit.Counter

	records sync.Pool // of *mtakit.Record, which are large
	summer  atomic.Pointer[summer]
}

// New makes a Queue and starts no goroutine. Its only I/O is to read Config.State.
func New(cfg Config) (*Queue, error) {
	if err := cfg.withDefaults(); err != nil {
		return nil, err
	}
	q := &Queue{cfg: cfg, log: cfg.Log, now: cfg.Now, born: time.Now(), seed: cfg.Seed, throttles: cfg.Throttles, defaultPath: mtakit.DefaultPathConfig(),
		ready: make(map[string]*ready), refreshing: make(map[any]bool), scanDone: make(chan struct{}), sweeping: make(chan struct{}, sweepsMax),
		timings: newTimings()}
	if q.throttles == nil {
		q.throttles = gcra.NewStore()
	}
	if _, ok := q.throttles.(*gcra.Store); ok {
		q.localThrottles = true
	}
	q.refunder, _ = q.throttles.(mtakit.Refunder)
	q.tallies.protocol("smtp_client") // there from the beginning
	q.pacer, _ = cfg.Record.(mtakit.Pacer)
	q.flusher, _ = cfg.Record.(mtakit.Flusher)
	if b, ok := cfg.Record.(mtakit.BodyRecorder); ok {
		q.wantsBody = b.WantsBody()
	}
	q.health, _ = cfg.Spool.(interface{ Err() error })
	set := mtakit.DefaultQueueSettings()
	q.defaultConf, _ = newConf(&set, 0, 0)
	deferred := set
	deferred.RetryInterval = mtakit.Duration(time.Minute)
	q.deferredConf, _ = newConf(&deferred, 0, 0)
	generated := set
	generated.RetryInterval, generated.Protocol.Internal = mtakit.Duration(10*time.Second), "httpinject:generator"
	q.generatorConf, _ = newConf(&generated, 0, 0)
	q.clock = newClock(q.now, q.uptime, q.log)
	q.rules.q, q.work.q = q, q
	q.records.New = func() any { return new(mtakit.Record) }
	q.fresh.ids = make(map[mtakit.ID]struct{})
	ended, end := context.WithCancel(context.Background())
	end()
	q.atOnce = ended
	q.rules.ready = make(map[string]*ReadyRule)
	if err := q.loadRules(); err != nil {
		return nil, err
	}
	if q.memory = cfg.memory; q.memory == nil && cfg.MemoryLimit >= 0 {
		var err error
		if q.memory, err = pressure.New(pressure.Config{Soft: cfg.MemoryLimit}); err != nil {
			return nil, fmt.Errorf("queue: %w", err)
		}
	}
	if q.cfg.MaxResident == 0 {
		q.cfg.MaxResident = 256 << 20
		if q.memory != nil && q.memory.Limits().Soft > 0 {
			q.cfg.MaxResident = min(q.cfg.MaxResident, q.memory.Limits().Soft/4)
		}
	}
	q.workCtx, q.stopWork = context.WithCancel(context.Background())
	q.deliverCtx, q.stopDeliver = context.WithCancelCause(context.Background())
	for range cfg.Shards {
		q.shards = append(q.shards, newShard(q))
	}
	return q, nil
}

// uptime is how long the queue has been there. What waits without regard to the date, rates for example, goes by it, so that a step of
// the wall clock neither stalls nor hurries it.
func (q *Queue) uptime() time.Duration { return time.Since(q.born) }

// seconds is uptime in seconds.
func (q *Queue) seconds() uint32 { return uint32(q.uptime() / time.Second) }

// NewID makes the id of a message that is being received.
func (q *Queue) NewID() mtakit.ID { return q.cfg.IDs.New(q.now()) }

// Run recovers what is in the spool, delivers, and returns when ctx has ended and everything is put away: sessions have finished the message in
// hand or were cut at the end of the grace period; all other messages are in the spool. It returns nil then. It may be called once.
// Messages may be submitted from New on, while the spool is still to be scanned.
func (q *Queue) Run(ctx context.Context) error {
	if q.running.Swap(true) {
		return errors.New("queue: Run is called twice")
	}
	for _, sh := range q.shards {
		q.wg.Go(func() { sh.run(q.workCtx) })
	}
	q.wg.Go(func() { q.upkeep(q.workCtx) })
	scan := make(chan error, 1)
	q.wg.Go(func() { scan <- q.recover(q.workCtx) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-scan:
		if err == nil {
			<-ctx.Done()
		}
	}
	q.stop()
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
		if d := r.path.Load().SystemShutdownTimeout.Std(); d > 0 && d < q.cfg.GracePeriod {
			defer time.AfterFunc(d, r.cutAll).Stop()
		}
	}
	q.readyMu.Unlock()
	q.wg.Wait()
	defer q.stopDeliver(mtakit.ErrClosed)
	defer q.owed.remove(context.Background(), q.cfg.Spool)
	for _, r := range q.ready {
		for _, it := range r.drain() {
			q.leave(it, ownedBySession)
		}
		if r.reopen != nil {
			r.reopen.Stop()
		}
	}
	for _, sh := range q.shards {
		for _, it := range sh.unload() {
			q.leave(it, ownedBySched)
		}
	}
}

// upkeep looks after memory, stuck sessions and what is no longer in use. It rests for longer when there is nothing to look after.
func (q *Queue) upkeep(ctx context.Context) {
	rest, reapAt := time.Minute, q.uptime().Truncate(time.Minute)+time.Minute
	if q.memory != nil {
		rest = 3 * time.Second
	}
	for pause := rest; sleep(ctx, pause) == nil; {
		q.samplePressure()
		pause = rest
		if owes := q.owed.remove(ctx, q.cfg.Spool); q.watch() || owes {
			pause = 3 * time.Second
		}
		up := q.uptime()
		if up >= reapAt {
			reapAt = up.Truncate(time.Minute) + time.Minute
			q.reapReady(q.cfg.ReadyIdle)
			q.rules.prune()
			if q.clock.stepped.Swap(false) {
				q.resave()
			}
		}
		pause = min(pause, reapAt-up)
	}
}

// Recovered is closed when every message that was in the spool at start is scheduled.
func (q *Queue) Recovered() <-chan struct{} { return q.scanDone }

// fresh is the messages that were submitted while the spool is still being scanned, which the scan finds too. A comparison of ids would not do: ids
// carry the wall clock, and that may have been ahead when the older ones were made.
type fresh struct {
	mu  sync.Mutex
	ids map[mtakit.ID]struct{} // nil when the scan is over
}

func (f *fresh) add(batch []mtakit.Submission) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ids == nil {
		return
	}
	for _, b := range batch {
		f.ids[b.Message.ID] = struct{}{}
	}
}

func (f *fresh) has(id mtakit.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.ids[id]
	return ok
}

func (f *fresh) end() {
	f.mu.Lock()
	f.ids = nil
	f.mu.Unlock()
}

// recover schedules what the spool holds.
func (q *Queue) recover(ctx context.Context) error {
	defer q.fresh.end()
	var all mtakit.ID // above every id
	for i := range all {
		all[i] = 0xff
	}
	for e, err := range q.cfg.Spool.Scan(ctx, all) {
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
		if q.fresh.has(e.ID) {
			continue
		}
		s := q.hold(e.Queue)
		if q.cfg.Policy.Enumerated != nil {
			q.promoting.Add(1)
			q.recovered.Inc()
			q.enumerate(ctx, s, e)
			q.promoting.Add(-1)
			continue
		}
		q.recovered.Inc()
		s.shard.mu.Lock()
		s.shard.wait(s, e.ID, e.Due, e.Tries, 0)
		s.shard.mu.Unlock()
	}
	if ctx.Err() == nil {
		close(q.scanDone)
		for _, r := range q.Bounces() { // of before the restart: they have not seen these messages
			q.sweepBounce(r)
		}
	}
	return nil
}

// enumerate shows a recovered message to policy before it is scheduled.
func (q *Queue) enumerate(ctx context.Context, s *sched, e mtakit.Entry) {
	it := newItem(s, e.ID, dueSecond(e.Due), uint16(min(e.Tries, math.MaxUint16)), 0, ownedByPromotion)
	if q.load(ctx, it, ownedByPromotion) == nil {
		return
	}
	was, err := q.consult(ctx, it, "Enumerated", q.cfg.Policy.Enumerated)
	var reject *mtakit.Reject
	var delay *mtakit.Delay
	switch {
	case errors.As(err, &reject):
		q.bounce(it, ownedByPromotion, reject.Response, "")
		return
	case errors.As(err, &delay):
		it.due = q.now().Add(patient(delay.For))
	case err != nil:
		q.log.Error("recovered message keeps its time", "id", it.id.String(), "err", err)
	default:
		it.due = it.m.Due
		to, err := destination(was, it.m, s.name())
		if err != nil {
			q.log.Error("the queue's name can't be derived; the message keeps its queue", "id", it.id.String(), "err", err)
		} else if to != s.name() {
			q.move(it, ownedByPromotion, to)
		}
	}
	q.park(ctx, it, ownedByPromotion, Reasons{Enumerated})
}

// Submit takes responsibility for the messages of batch, all or none: when it returns nil they are stored as d says, their records are written, and
// the queue owns them and closes the bodies. On an error everything still belongs to the caller, and nothing of the batch will be sent. It
// fills in Queue and Size, and ID where that is zero; an ID that is given must be new, and carry a time. A message for the queue named "null" is
// accepted and forgotten. Submit may wait for room in the event log and for the spool.
//
// Errors wrap what Spool.Store returns, mtakit.ErrOverloaded, mtakit.ErrClosed after the end of Run's context, a failure of Policy.Settings, a
// *mtakit.BadMetaError, or the end of ctx.
func (q *Queue) Submit(ctx context.Context, batch []mtakit.Submission, d mtakit.Durability) error {
	return q.receive(ctx, batch, d, mtakit.Reception)
}

// receive is Submit with records of the kind given.
func (q *Queue) receive(ctx context.Context, batch []mtakit.Submission, d mtakit.Durability, kind mtakit.Kind) error {
	if len(batch) == 0 {
		return nil
	}
	if err := q.Overloaded(); err != nil {
		return err
	}
	if q.pacer != nil { // with no lock held: stopping doesn't wait for this
		if err := q.pacer.Pace(ctx); err != nil {
			return fmt.Errorf("queue: the event log has no room: %w", err)
		}
	}
	if err := q.submit(ctx, batch, d, kind); err != nil {
		return err
	}
	if q.flusher != nil { // with no lock held either
		if err := q.flusher.Flush(ctx); err != nil {
			q.log.Error("event log not written before a message is acknowledged", "id", batch[0].Message.ID.String(), "err", err)
		}
	}
	return nil
}

// submit is receive but for the event log.
func (q *Queue) submit(ctx context.Context, batch []mtakit.Submission, d mtakit.Durability, kind mtakit.Kind) error {
	q.admitting.RLock()
	defer q.admitting.RUnlock()
	if q.stopping.Load() {
		return mtakit.ErrClosed
	}
	var room [4]*item
	items := room[:0]
	undo := func() {
		for _, it := range items {
			it.sched.drop()
		}
	}
	for _, b := range batch {
		it, err := q.admit(ctx, b)
		if err != nil {
			undo()
			return err
		}
		items = append(items, it)
	}
	store := batch
	if isNull := func(b mtakit.Submission) bool { return b.Message.Queue == nullQueue }; slices.ContainsFunc(batch, isNull) {
		store = slices.DeleteFunc(slices.Clone(batch), isNull)
	}
	q.fresh.add(store)
	if d != mtakit.Volatile && len(store) > 0 {
		if err := q.cfg.Spool.Store(ctx, store, d); err != nil {
			undo()
			return err
		}
	}
	for i, b := range batch {
		start := q.timings.insert.start(q, items[i].id)
		q.accept(items[i], b, d, kind)
		q.timings.insert.end(q, start)
	}
	return nil
}

// nullQueue is the queue of messages that are forgotten.
var nullQueue = mtakit.QueueName{Domain: mtakit.NullQueue}

// admit fills in what the message lacks and finds its queue, with settings.
func (q *Queue) admit(ctx context.Context, b mtakit.Submission) (*item, error) {
	m := b.Message
	if len(m.To) == 0 {
		return nil, errors.New("queue: the message has no recipient")
	}
	switch {
	case m.ID.IsZero():
		m.ID = q.NewID()
	case m.ID.Time().IsZero():
		return nil, fmt.Errorf("queue: the id %v carries no time", m.ID)
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
	start := q.timings.resolve.start(q, m.ID)
	s := q.hold(m.Queue)
	if m.Queue != nullQueue {
		if _, err := q.confOf(ctx, s); err != nil {
			s.drop()
			return nil, fmt.Errorf("queue: settings of %s: %w", m.Queue, err)
		}
	}
	q.timings.resolve.end(q, start)
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
func (q *Queue) accept(it *item, b mtakit.Submission, d mtakit.Durability, kind mtakit.Kind) {
	it.stored = d != mtakit.Volatile
	q.accepted.Inc()
	q.recordReception(it, b.Body, kind)
	if b.Message.Queue == nullQueue {
		q.bring(it, b.Message, b.Body)
		q.gone(it, ownedByReception)
		return
	}
	s := it.sched
	if it.due.After(q.now()) {
		q.bring(it, b.Message, b.Body)
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
