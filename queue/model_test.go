package queue_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
	"github.com/mtakit/mtakit/spool/spooltest"
)

var seeds = flag.Int("seeds", 200, "how many random runs TestModel makes")

// week sends messages that are deferred for days, with a restart every eight hours, and returns the log. Peers count their answers, so each has one
// connection: which of several is first would be chance.
func week(t *testing.T, seed uint64) (log string) {
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Seed: seed, Policy: pathPolicy(func(c *mtakit.PathConfig) { c.ConnectionLimit.N = 1 })})
		for i := range 40 {
			d := fmt.Sprintf("d%d.test", i%8)
			if i < 8 {
				mta.Peer(d).Reply("RCPT", "451 4.7.1 later").Times(3 + 7*i)
			}
			mta.Inject("a@x.test", fmt.Sprintf("u%d@%s", i, d), "Subject: x\r\n\r\n")
		}
		for range 8 * 3 {
			mta.Run(8 * time.Hour)
			mta.Restart()
		}
		mta.Drain(24 * time.Hour)
		log = mta.Log()
	})
	return log
}

// Two runs with one seed give the same records, byte for byte; another seed gives others.
func TestSameSeedSameRecords(t *testing.T) {
	a, b, c := week(t, 7), week(t, 7), week(t, 8)
	if a != b {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
	if a == c {
		t.Error("another seed gives the same records")
	}
}

// Whatever happens, in whatever order: each recipient of a message that was accepted has one end, and it is delivered to those for whom there is a
// record, once. The model is a map; what is checked after each step are the queue's own counts.
func TestModel(t *testing.T) {
	for seed := range uint64(*seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { modelRun(t, seed+1) }) })
	}
}

// model is a run of random operations.
type model struct {
	*queuetest.MTA
	t        *testing.T
	r        *rand.Rand
	spool    spooltest.Memory
	set      atomic.Pointer[mtakit.QueueSettings]
	path     atomic.Pointer[mtakit.PathConfig]
	state    memState
	clock    atomic.Int64 // how far the wall clock is ahead
	accepted map[mtakit.ID][]string
}

// memState keeps rules in memory.
type memState struct{ b []byte }

func (s *memState) Load() ([]byte, error) { return s.b, nil }
func (s *memState) Save(b []byte) error   { s.b = b; return nil }

const modelDomains = 5

func modelRun(t *testing.T, seed uint64) {
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 0)), accepted: make(map[mtakit.ID][]string)}
	m.limits()
	m.settings()
	pool := &mtakit.Pool{Name: "two", Entries: []mtakit.PoolEntry{{Name: "a", Weight: 3}, {Name: "b", Weight: 1}}}
	m.MTA = queuetest.New(t, queuetest.Options{
		Seed: seed, Spool: &m.spool,
		Policy: queue.Policy{
			Settings: func(context.Context, mtakit.QueueName) (*mtakit.QueueSettings, error) { return m.set.Load(), nil },
			Pool:     func(context.Context, string) (*mtakit.Pool, error) { return pool, nil },
			Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) {
				return m.path.Load(), nil
			},
			Retry: func(_ context.Context, msg *mtakit.Message, f queue.Failure) error {
				switch msg.ID[15] % 32 { // some messages have a policy of their own
				case 0:
					return &mtakit.Delay{For: time.Duration(msg.ID[14]) * time.Second}
				case 1:
					msg.Meta = map[string]any{mtakit.MetaTenant: fmt.Sprint(msg.Tries)}
				case 2:
					return &mtakit.Reject{Response: mtakit.Response{Code: 550, Text: "enough"}}
				case 3:
					panic("oh no")
				}
				return nil
			},
		},
		Change: func(c *queue.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(m.clock.Load())) }
			c.State, c.Log, c.Shards = &m.state, slog.New(slog.DiscardHandler), 2
		},
	})
	m.SameSite(m.domain(0), m.domain(1))
	for range 25 {
		m.operation()
		m.Run(time.Duration(m.r.IntN(1800)) * time.Second)
	}
	m.end()
	m.verify()
}

func (m *model) domain(n int) string { return fmt.Sprintf("d%d.test", n) }

func (m *model) anyDomain() string { return m.domain(m.r.IntN(modelDomains)) }

// limits sets new limits of the paths.
func (m *model) limits() {
	p := mtakit.DefaultPathConfig()
	p.MaxReady, p.MaxDeliveriesPerConnection, p.ConnectionLimit.N = 1+m.r.IntN(20), 1+m.r.IntN(5), 1+m.r.IntN(4)
	p.MaxRecipientsPerBatch, p.TryNextHostOnTransportError = 1+m.r.IntN(4), m.r.IntN(2) == 0
	p.ConsecutiveConnectionFailuresBeforeDelay = m.r.IntN(5)
	rate := func() (r mtakit.Rate) {
		if m.r.IntN(3) == 0 {
			r = mtakit.Rate{N: 1 + m.r.IntN(10), Per: time.Duration(1+m.r.IntN(60)) * time.Second}
		}
		return r
	}
	p.MaxMessageRate, p.MaxConnectionRate, p.SourceSelectionRate = rate(), rate(), rate()
	if m.r.IntN(3) == 0 {
		p.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "shared", Limit: mtakit.Limit{N: 1 + m.r.IntN(3)}}}
		p.AdditionalMessageRateThrottles = mtakit.NamedRates{{Name: "shared", Rate: rate()}}
	}
	m.path.Store(&p)
}

// settings sets new settings of the queues.
func (m *model) settings() {
	s := mtakit.DefaultQueueSettings()
	s.RetryInterval, s.MaxRetryInterval, s.MaxAge = mtakit.Duration(time.Minute), mtakit.Duration(time.Hour), mtakit.Duration(12*time.Hour)
	s.ReapInterval = mtakit.Duration(m.r.IntN(600)) * mtakit.Duration(time.Second)
	if m.r.IntN(2) == 0 {
		s.EgressPool = "two"
	}
	if m.r.IntN(4) == 0 {
		s.MaxMessageRate = mtakit.Rate{N: 1 + m.r.IntN(10), Per: time.Minute}
	}
	m.set.Store(&s)
}

func (m *model) inject() {
	for range 1 + m.r.IntN(30) {
		d := m.anyDomain()
		msg := &mtakit.Message{Sender: "a@x.test", Meta: map[string]any{}}
		for n := range 1 + m.r.IntN(4)*m.r.IntN(2) {
			msg.To = append(msg.To, fmt.Sprintf("u%d@%s", n, d))
		}
		if m.r.IntN(4) == 0 {
			msg.Meta[mtakit.MetaTenant] = fmt.Sprint("t", m.r.IntN(3))
		}
		if m.r.IntN(10) == 0 {
			msg.Due = m.Queue.Now().Add(time.Duration(m.r.IntN(7200)) * time.Second)
		}
		to := slices.Clone(msg.To)
		id, err := m.TrySubmit(msg, "Subject: x\r\n\r\n", mtakit.Durability(m.r.IntN(3)))
		if err != nil {
			m.t.Fatal(err)
		}
		m.accepted[id] = to
	}
}

func (m *model) operation() {
	steps := [...]string{"MAIL", "RCPT", "DATA", "."}
	d, r := m.anyDomain(), m.r
	switch r.IntN(20) {
	case 0, 1, 2, 3, 4:
		m.inject()
	case 5:
		m.Peer(d).Reply(steps[r.IntN(4)], []string{"451 4.7.1 later", "421 4.3.2 bye", "503 what"}[r.IntN(3)]).Times(1 + r.IntN(40))
	case 6:
		m.Peer(d).Reply(steps[1+r.IntN(3)], "550 5.7.1 no").Times(1 + r.IntN(5))
	case 7:
		m.Peer(d).Reply("RCPT", []string{"452 4.5.3 too many", "452 hm", "552 hm"}[r.IntN(3)]).Times(1 + r.IntN(10))
	case 8:
		m.Peer(d).HangUp(append(steps[:], "IDLE")[r.IntN(5)]).Times(1 + r.IntN(5))
		m.Peer(d).Hosts(1 + r.IntN(3))
	case 9:
		m.Peer(d).Refuse().Times(1 + r.IntN(10))
	case 10:
		m.Peer(d).Wait(append(steps[:], "CONNECT")[r.IntN(5)], time.Duration(r.IntN(120))*time.Second).Times(1 + r.IntN(20))
	case 11:
		m.Peer(d).Settle(&mtakit.PathError{Response: mtakit.Response{Code: 450 + r.IntN(2)*100, Text: "settled"}, Reason: "MxWasSkipped"}).Times(1)
	case 12:
		m.Unresolvable(d, r.IntN(2) == 0)
	case 13:
		m.Restart()
	case 14:
		m.Queue.Suspend(queue.Match{Domain: &d}, "test", m.Queue.Now().Add(time.Duration(r.IntN(3600))*time.Second))
	case 15:
		m.Queue.SuspendReady([]string{"a", "b", "unspecified"}[r.IntN(3)]+"->mx."+d+"@smtp_client", "test", time.Time{})
	case 16:
		if r.IntN(3) == 0 {
			m.Queue.AdminBounce(queue.Match{Domain: &d}, "test", m.Queue.Now().Add(time.Duration(r.IntN(600))*time.Second), false)
		}
	case 17:
		m.Queue.Rebind(queue.Rebind{
			Match: queue.Match{Domain: &d}, Reason: "test", Flush: r.IntN(2) == 0,
			Data: map[string]string{mtakit.MetaRoutingDomain: m.anyDomain(), mtakit.MetaCampaign: fmt.Sprint(r.IntN(2))},
		})
	case 18:
		m.limits()
		m.settings()
		m.Queue.BumpEpoch()
	case 19:
		most := []int{60, 3600, 12 * 3600, 30 * 24 * 3600}[r.IntN(4)]
		m.clock.Add(int64(time.Duration(r.IntN(2*most)-most) * time.Second))
	}
}

// end takes everything back and lets the messages go.
func (m *model) end() {
	for i := range modelDomains {
		m.Unresolvable(m.domain(i), false)
		m.Peer(m.domain(i)).Forget()
	}
	path, set := mtakit.DefaultPathConfig(), mtakit.DefaultQueueSettings()
	set.MaxAge = mtakit.Duration(12 * time.Hour)
	m.path.Store(&path)
	m.set.Store(&set)
	m.Queue.BumpEpoch()
	for _, r := range m.Queue.Suspensions() {
		m.Queue.CancelSuspension(r.ID)
	}
	for _, r := range m.Queue.ReadySuspensions() {
		m.Queue.CancelReadySuspension(r.ID)
	}
	m.Drain(40 * 24 * time.Hour) // should the wall clock have been set back right before a restart, that goes by due times that are far away
}

// verify compares the records and what the peers have with what was accepted.
func (m *model) verify() {
	type one struct {
		id mtakit.ID
		to string
	}
	ends, delivered := make(map[one]int), make(map[one]int)
	for _, r := range m.Records() {
		switch r.Kind {
		case mtakit.Delivered, mtakit.Bounce, mtakit.Expiration, mtakit.AdminBounce:
			for _, to := range r.To {
				ends[one{r.ID, to}]++
				if r.Kind == mtakit.Delivered {
					delivered[one{r.ID, to}]++
				}
			}
		}
	}
	for id, list := range m.accepted {
		for _, to := range list {
			if n := ends[one{id, to}]; n != 1 {
				m.t.Errorf("message %v for %s has %d ends", id, to, n)
			}
			delete(ends, one{id, to})
		}
	}
	for e := range ends {
		m.t.Errorf("message %v for %s was never accepted", e.id, e.to)
	}
	for i := range modelDomains {
		if i == 1 {
			continue // the site of domain 0
		}
		for _, x := range m.Peer(m.domain(i)).Received() {
			for _, to := range x.To {
				delivered[one{x.ID, to}]--
			}
		}
	}
	for e, n := range delivered {
		if n != 0 {
			m.t.Errorf("message %v for %s: %d records of delivery more than deliveries", e.id, e.to, n)
		}
	}
	if n := m.spool.Len(); n != 0 {
		m.t.Errorf("%d messages are left in the spool", n)
	}
	if c := m.Queue.Census(); c.InHand != 0 || c.Waiting != 0 || c.Ready != 0 {
		m.t.Errorf("%+v", c)
	}
	if n := m.Queue.Kept(); n != 0 {
		m.t.Errorf("room is kept for %d messages that there are not", n)
	}
}
