package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

// Peer is a scripted destination. It accepts everything, at once, until told otherwise. Its methods may be called at any time.
//
// What a peer does is asked of its rules at each step of a session: CONNECT; IDLE, before anything of a transaction is sent; MAIL; RCPT, once for
// each recipient; DATA; and ".", the end of the data.
type Peer struct {
	t    testing.TB
	name string

	mu          sync.Mutex
	rules       []*Rule
	script      func(step, to string, m *mtakit.Message) string
	hosts       int
	received    []Received
	open, most  int
	connections int
}

// Received is one transaction that ended well.
type Received struct {
	Time   time.Time
	ID     mtakit.ID
	Sender string
	To     []string
	Source string // that it came from
}

// Rule is what a peer does at a step. Rules are tried in the order in which they were made; the first that applies and is not used up decides.
type Rule struct {
	p       *Peer
	step    string
	to      string
	reply   mtakit.Response
	pathErr *mtakit.PathError
	hangUp  bool
	delay   time.Duration
	times   int // 0 is always
	used    int
}

// Reply makes the peer answer a step with a reply, "451 4.7.1 slow down" for example.
func (p *Peer) Reply(step, reply string) *Rule {
	return p.add(&Rule{step: step, reply: parse(step, reply)})
}

func parse(step, reply string) mtakit.Response {
	r, err := mtakit.ParseResponse(reply)
	if err != nil {
		panic(err)
	}
	r.Command = step
	return r
}

// HangUp makes the peer close the connection at a step. At IDLE nothing has been attempted then.
func (p *Peer) HangUp(step string) *Rule { return p.add(&Rule{step: step, hangUp: true}) }

// Refuse makes connecting fail.
func (p *Peer) Refuse() *Rule { return p.HangUp("CONNECT") }

// Settle makes connecting end in a verdict for the whole path.
func (p *Peer) Settle(e *mtakit.PathError) *Rule { return p.add(&Rule{step: "CONNECT", pathErr: e}) }

// Wait makes the peer take so long for a step.
func (p *Peer) Wait(step string, d time.Duration) *Rule { return p.add(&Rule{step: step, delay: d}) }

// HangUp is Wait and then HangUp.
func (r *Rule) HangUp() *Rule { return r.set(func() { r.hangUp = true }) }

// Reply is Wait and then Reply.
func (r *Rule) Reply(reply string) *Rule { return r.set(func() { r.reply = parse(r.step, reply) }) }

// Times limits a rule to n uses.
func (r *Rule) Times(n int) *Rule { return r.set(func() { r.times = n }) }

// For limits a rule of RCPT to one recipient.
func (r *Rule) For(rcpt string) *Rule { return r.set(func() { r.to = rcpt }) }

func (r *Rule) set(f func()) *Rule {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	f()
	return r
}

func (p *Peer) add(r *Rule) *Rule {
	r.p = p
	return r.set(func() { p.rules = append(p.rules, r) })
}

// Script makes the peer ask f at each step at which no rule applies. It returns the reply; "" is consent, "hang up" is that. to is set for
// RCPT, and m for all but CONNECT; it must not be changed. f is called concurrently.
func (p *Peer) Script(f func(step, to string, m *mtakit.Message) string) {
	p.mu.Lock()
	p.script = f
	p.mu.Unlock()
}

// Hosts says that the peer has n hosts, which behave alike. A session whose connection broke may go on with the next one, until they have all
// been tried.
func (p *Peer) Hosts(n int) {
	p.mu.Lock()
	p.hosts = n
	p.mu.Unlock()
}

// Forget drops all rules and the script.
func (p *Peer) Forget() {
	p.mu.Lock()
	p.rules, p.script = nil, nil
	p.mu.Unlock()
}

// Received is what the peer has taken.
func (p *Peer) Received() []Received {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.received)
}

// Connections is how many connections there are, how many there were at the same time at the most, and how many in all.
func (p *Peer) Connections() (open, most, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open, p.most, p.connections
}

var (
	errHangUp  = errors.New("connection reset by peer")
	errGoodbye = errors.New("the peer closes the connection")
)

// step finds what the peer does and waits as long as it does; the zero response is consent.
func (p *Peer) step(ctx context.Context, step, to string, m *mtakit.Message) (mtakit.Response, error) {
	p.mu.Lock()
	var found Rule
	script := p.script
	for _, r := range p.rules {
		if r.step == step && (r.to == "" || r.to == to) && (r.times == 0 || r.used < r.times) {
			r.used++
			found, script = *r, nil
			break
		}
	}
	p.mu.Unlock()
	if script != nil {
		switch reply := script(step, to, m); reply {
		case "":
		case "hang up":
			found.hangUp = true
		default:
			found.reply = parse(step, reply)
		}
	}
	if found.delay > 0 {
		t := time.NewTimer(found.delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return mtakit.Response{}, context.Cause(ctx)
		}
	}
	switch {
	case found.hangUp:
		return mtakit.Response{}, errHangUp
	case found.pathErr != nil:
		return mtakit.Response{}, found.pathErr
	}
	return found.reply, nil
}

// connect opens a session.
func (p *Peer) connect(ctx context.Context, path *mtakit.Path) (mtakit.Session, error) {
	s := &session{p: p, source: path.Source.Name}
	if err := s.dial(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// session is a connection to a Peer. Like a pipelining client it asks for the next delivery before the one in hand has been answered.
type session struct {
	p         *Peer
	source    string
	info      mtakit.SessionInfo
	announced *mtakit.Delivery
	host      int // of those the peer has
	broken    bool
	closed    bool
}

var _ mtakit.Redialer = (*session)(nil)

func (s *session) dial(ctx context.Context) error {
	if _, err := s.p.step(ctx, "CONNECT", "", nil); err != nil {
		if _, ok := err.(*mtakit.PathError); ok {
			return err
		}
		return fmt.Errorf("connect to %s: %w", s.p.name, err)
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.open++
	s.p.connections++
	s.p.most = max(s.p.most, s.p.open)
	s.host++
	s.broken = false
	s.info = mtakit.SessionInfo{ID: s.p.name + " by " + s.source, PeerName: s.p.name, Protocol: "ESMTP"}
	if s.p.hosts > 1 {
		s.info.PeerName = fmt.Sprintf("%s#%d", s.p.name, s.host)
	}
	return nil
}

func (s *session) hangUp(err error) error {
	s.p.mu.Lock()
	s.p.open--
	s.p.mu.Unlock()
	s.broken, s.announced = true, nil
	return err
}

// Redial implements [mtakit.Redialer].
func (s *session) Redial(ctx context.Context) error {
	if !s.broken {
		return errors.New("queuetest: Redial of a session that works")
	}
	s.p.mu.Lock()
	hosts := max(s.p.hosts, 1)
	s.p.mu.Unlock()
	if s.host >= hosts {
		return errors.New("no more hosts")
	}
	return s.dial(ctx)
}

// Info implements [mtakit.Session].
func (s *session) Info() *mtakit.SessionInfo { return &s.info }

// Close implements [mtakit.Session].
func (s *session) Close() error {
	if s.closed {
		s.p.t.Error("queuetest: a session is closed twice")
		return nil
	}
	s.closed = true
	if !s.broken {
		s.hangUp(nil)
	}
	return nil
}

// Send implements [mtakit.Session].
func (s *session) Send(ctx context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	switch {
	case s.closed:
		s.p.t.Error("queuetest: Send after Close")
		return mtakit.ErrNotAttempted
	case s.broken:
		return fmt.Errorf("%w: the session is finished", mtakit.ErrNotAttempted)
	case s.announced != nil && s.announced != d:
		s.p.t.Error("queuetest: Send is not for the delivery that was announced")
	}
	if s.announced == nil {
		if _, err := s.p.step(ctx, "IDLE", "", d.Message); err != nil {
			return s.hangUp(fmt.Errorf("%w: %w", mtakit.ErrNotAttempted, err))
		}
	}
	s.announced = nil
	n := len(d.Results)
	err := s.transact(ctx, d, next)
	for _, r := range d.Results[n:] {
		if r.Response.Code == 421 && err == nil {
			err = errGoodbye
		}
	}
	if err != nil {
		return s.hangUp(err)
	}
	return nil
}

func (s *session) transact(ctx context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	answer := func(rcpts []int, r mtakit.Response) {
		for _, n := range rcpts {
			d.Results = append(d.Results, mtakit.Result{Rcpt: n, Response: r})
		}
	}
	r, err := s.p.step(ctx, "MAIL", "", d.Message)
	if err != nil {
		return err
	}
	if r.Code >= 300 {
		answer(d.Rcpts, r)
		return nil
	}
	var good []int
	var to []string
	for _, n := range d.Rcpts {
		rcpt := d.Message.To[n]
		r, err := s.p.step(ctx, "RCPT", rcpt, d.Message)
		if err != nil {
			return err
		}
		if r.Code >= 300 {
			r.Command = "RCPT TO:<" + rcpt + ">"
			answer([]int{n}, r)
			continue
		}
		good, to = append(good, n), append(to, rcpt)
	}
	if len(good) == 0 {
		return nil
	}
	if r, err = s.p.step(ctx, "DATA", "", d.Message); err != nil {
		return err
	}
	if r.Code >= 400 {
		answer(good, r)
		return nil
	}
	body := make([]byte, d.Body.Size())
	if n, err := d.Body.ReadAt(body, 0); n != len(body) {
		return fmt.Errorf("queuetest: body can't be read: %w", err)
	}
	if next != nil {
		s.announced = next()
	}
	if r, err = s.p.step(ctx, ".", "", d.Message); err != nil {
		return err
	}
	if r.Code == 0 {
		r = mtakit.Response{Code: 250, Enhanced: [3]uint16{2, 0, 0}, Text: "ok", Command: "."}
	}
	if r.OK() {
		s.p.mu.Lock()
		s.p.received = append(s.p.received, Received{time.Now(), d.Message.ID, d.Message.Sender, to, s.source})
		s.p.mu.Unlock()
	}
	answer(good, r)
	return nil
}
