// Package queuetest tests policy, and whatever else is built on package queue, against the real engine in virtual time. An MTA is a queue with a spool in
// memory, a router that knows a site for every domain, and scripted peers at the other end. It lives in a bubble of testing/synctest, where a
// week of retries takes no time:
//
//	synctest.Test(t, func(t *testing.T) {
//		mta := queuetest.New(t, queuetest.Options{Policy: policy})
//		mta.Peer("example.com").Reply("RCPT", "451 4.7.1 slow down").Times(2)
//		mta.Inject("a@x.test", "vip@example.com", "Subject: hello\r\n\r\nhello\r\n")
//		mta.Run(3 * time.Hour)
//		mta.WantRecords("Reception", "TransientFailure", "TransientFailure", "Delivery")
//	})
//
// Whenever time stands still it is checked that no message is missing or there twice. Two runs with the same seed and the same script give the
// same records, byte for byte, as long as it makes no difference which of several connections comes first: a rule with [Rule.Times] or a rate
// decides by turn, so a script that uses one allows its peer a single connection, or decides by message with [Peer.Script].
//
// An MTA starts no goroutine but the engine's own; New must be called inside the bubble.
package queuetest

import (
	"cmp"
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// Options say what an MTA is made of. The zero value works.
type Options struct {
	Policy queue.Policy
	Seed   uint64       // of ids and of all choices; default 1
	Spool  mtakit.Spool // default: a new one in memory
	// Change may change the configuration further, before the queue is made; it is called again for each restart.
	Change func(*queue.Config)
}

// MTA is a queue under test. Its methods are called by the test's goroutine.
type MTA struct {
	Queue *queue.Queue // of the present life: a restart makes a new one

	t     testing.TB
	opts  Options
	spool mtakit.Spool
	ids   *mtakit.IDSource
	stop  func() error

	mu      sync.Mutex
	peers   map[string]*Peer
	sites   map[string]string // of a domain, where it has not its own
	missing map[string]bool   // domains that can't be looked up
	records []numbered
	counts  map[mtakit.ID]int
}

// numbered is a record with its number among those of its message: several things may happen at one moment in any order, but those about one
// message have an order.
type numbered struct {
	*mtakit.Record
	n int
}

// New starts an MTA; it is stopped when the test ends, and everything is checked once more.
func New(t testing.TB, o Options) *MTA {
	t.Helper()
	if o.Seed == 0 {
		o.Seed = 1
	}
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], o.Seed)
	m := &MTA{
		t: t, opts: o, spool: o.Spool, ids: &mtakit.IDSource{Rand: rand.NewChaCha8(seed)},
		peers: make(map[string]*Peer), sites: make(map[string]string), missing: make(map[string]bool), counts: make(map[mtakit.ID]int),
	}
	if m.spool == nil {
		m.spool = new(spooltest.Memory)
	}
	m.start()
	t.Cleanup(func() {
		if m.stop != nil {
			m.Stop()
		}
	})
	return m
}

func (m *MTA) start() {
	cfg := queue.Config{
		Spool: m.spool, Router: mtakit.RouterFunc(m.route), Egress: mtakit.EgressFunc(m.connect), Record: mtakit.RecorderFunc(m.record),
		Policy: m.opts.Policy, IDs: m.ids, Seed: m.opts.Seed, NodeID: "00000000-0000-4000-8000-000000000000",
		Log: slog.New(slog.NewTextHandler(m.t.Output(), nil)), MemoryLimit: -1,
	}
	if m.opts.Change != nil {
		m.opts.Change(&cfg)
	}
	q, err := queue.New(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	m.Queue = q
	m.stop = func() error { cancel(); return <-ended }
	synctest.Wait()
}

// Stop ends the queue as a shutdown does.
func (m *MTA) Stop() {
	m.t.Helper()
	if err := m.stop(); err != nil {
		m.t.Errorf("Run: %v", err)
	}
	m.stop = nil
}

// Restart stops the queue, if it runs, and starts a new one on the same spool.
func (m *MTA) Restart() {
	m.t.Helper()
	if m.stop != nil {
		m.Stop()
	}
	m.start()
	m.check()
}

// Inject submits one message and returns its id.
func (m *MTA) Inject(from, to, text string) mtakit.ID {
	m.t.Helper()
	return m.Submit(&mtakit.Message{Sender: from, To: []string{to}}, text)
}

// Submit submits a message, durable, and returns its id. The test fails if that does.
func (m *MTA) Submit(msg *mtakit.Message, text string) mtakit.ID {
	m.t.Helper()
	id, err := m.TrySubmit(msg, text, mtakit.Durable)
	if err != nil {
		m.t.Fatalf("Submit: %v", err)
	}
	return id
}

// TrySubmit submits a message and returns its id, or the error.
func (m *MTA) TrySubmit(msg *mtakit.Message, text string, d mtakit.Durability) (mtakit.ID, error) {
	if msg.ID.IsZero() {
		msg.ID = m.Queue.NewID()
	}
	id := msg.ID // the queue owns msg afterwards
	err := m.Queue.Submit(context.Background(), []mtakit.Submission{{Message: msg, Body: mtakit.Bytes(text)}}, d)
	return id, err
}

// Run lets so much time pass and everything that is due in it happen.
func (m *MTA) Run(d time.Duration) {
	m.t.Helper()
	time.Sleep(d)
	m.check()
}

// Settle lets everything happen that needs no time.
func (m *MTA) Settle() {
	m.t.Helper()
	m.check()
}

// Drain runs until no message is left, at most for so long.
func (m *MTA) Drain(most time.Duration) {
	m.t.Helper()
	for end := time.Now().Add(most); ; time.Sleep(time.Minute) {
		synctest.Wait()
		if c := m.Queue.Census(); c.Waiting+c.Ready+c.InHand == 0 {
			break
		}
		if time.Now().After(end) {
			m.t.Fatalf("after %v there are messages left: %+v", most, m.Queue.Census())
		}
	}
	m.check()
}

// check waits for all to be quiet and counts.
func (m *MTA) check() {
	m.t.Helper()
	synctest.Wait()
	c := m.Queue.Census()
	if err := c.Err(); err != nil {
		m.t.Error(err)
	}
	if most := c.Promoting + 2*c.Sessions; c.InHand > most {
		m.t.Errorf("%d messages are nowhere: %+v", c.InHand-most, c)
	}
}

// SameSite makes the domains share one site, that of the first.
func (m *MTA) SameSite(domains ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range domains {
		m.sites[d] = domains[0]
	}
}

// Unresolvable makes the look-up of a domain fail, or work again.
func (m *MTA) Unresolvable(domain string, yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.missing[domain] = yes
}

func (m *MTA) route(_ context.Context, domain string) (*mtakit.Site, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.missing[domain] {
		return nil, &mtakit.DNSError{Name: domain, Type: "MX", NotFound: true}
	}
	if s, ok := m.sites[domain]; ok {
		domain = s
	}
	return &mtakit.Site{Name: "mx." + domain, Hosts: []mtakit.Host{{Name: "mx." + domain, Pref: 10}}}, nil
}

func (m *MTA) record(r *mtakit.Record) {
	c := *r
	c.To = slices.Clone(r.To)
	c.Message, c.Body = nil, nil
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[r.ID]++
	m.records = append(m.records, numbered{&c, m.counts[r.ID]})
}

// Records is what has been recorded, in order of time; what happened at the same time is in order of messages.
func (m *MTA) Records() []*mtakit.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	slices.SortFunc(m.records, func(a, b numbered) int {
		return cmp.Or(a.Time.Compare(b.Time), a.ID.Compare(b.ID), cmp.Compare(a.n, b.n))
	})
	all := make([]*mtakit.Record, len(m.records))
	for i, r := range m.records {
		all[i] = r.Record
	}
	return all
}

// Log is the records, one JSON object a line.
func (m *MTA) Log() string {
	var b []byte
	for _, r := range m.Records() {
		b = append(r.AppendJSON(b), '\n')
	}
	return string(b)
}

// WantRecords fails the test unless the kinds of the records are these, in this order.
func (m *MTA) WantRecords(kinds ...mtakit.Kind) {
	m.t.Helper()
	var got []mtakit.Kind
	for _, r := range m.Records() {
		got = append(got, r.Kind)
	}
	if !slices.Equal(got, kinds) {
		m.t.Errorf("records are %v, want %v\n%s", got, kinds, m.Log())
	}
}

// Count is how many records of a kind there are for a message.
func (m *MTA) Count(id mtakit.ID, kind mtakit.Kind) (n int) {
	for _, r := range m.Records() {
		if r.ID == id && r.Kind == kind {
			n++
		}
	}
	return n
}

// Peer is the peer that takes the mail of a domain, or of the site that the domain shares. For a list of hosts that was configured it is the
// name of the site, "mx_list:10.0.0.1" for example.
func (m *MTA) Peer(domain string) *Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.sites[domain]; ok {
		domain = s
	}
	p := m.peers[domain]
	if p == nil {
		p = &Peer{t: m.t, name: "mx." + domain}
		m.peers[domain] = p
	}
	return p
}

func (m *MTA) connect(ctx context.Context, p *mtakit.Path) (mtakit.Session, error) {
	return m.Peer(strings.TrimPrefix(p.Site.Name, "mx.")).connect(ctx, p)
}
