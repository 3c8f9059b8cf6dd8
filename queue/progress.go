package queue

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/uuid"
)

// progress is what a session is doing, for the watchdog and for those who look.
type progress struct {
	mu    sync.Mutex
	stuck bool // the watchdog has cut it in this phase
	status
}

// status is a progress at one moment.
type status struct {
	phase    phase
	started  time.Duration // uptime
	own      string        // id, made when somebody first asks
	id       string        // the one that records have, once it has connected
	peer     string        // name of the host
	addr     netip.AddrPort
	message  mtakit.ID // in DeliveringMessage
	rcpts    int
	sent     int // deliveries on this connection
	outcomes [3]int64
}

// phase is one thing that a session does.
type phase struct {
	name  string
	since time.Duration // uptime
}

// busy says whether the phase has to come to an end by itself.
func (p phase) busy() bool {
	return p.name == "AttemptingConnection" || p.name == "DeliveringMessage" || p.name == "Closing"
}

// start is called before anybody else knows of the session.
func (p *progress) start(up time.Duration) { p.started, p.phase = up, phase{"Starting", up} }

func (s *session) setPhase(name string) {
	up := s.q.uptime()
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	if !s.progress.stuck {
		s.progress.phase = phase{name, up}
	}
}

// setDelivering is setPhase for the message in hand.
func (s *session) setDelivering() {
	p, up := &s.progress, s.q.uptime()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stuck {
		p.phase = phase{"DeliveringMessage", up}
		p.message, p.rcpts, p.sent = s.cur.id, len(s.curD.Rcpts), s.sent
	}
}

// connected notes who the peer is.
func (p *progress) connected(i *mtakit.SessionInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peer, p.addr, p.sent = i.PeerName, i.PeerAddr, 0
	if _, err := mtakit.ParseID(i.ID); err == nil { // clients rely on it that ids are UUIDs
		p.id = i.ID
	}
}

// count notes what became of n recipients.
func (p *progress) count(k mtakit.Kind, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch k {
	case mtakit.Delivered:
		p.outcomes[0] += int64(n)
	case mtakit.TransientFailure:
		p.outcomes[1] += int64(n)
	default:
		p.outcomes[2] += int64(n)
	}
}

// now is the status.
func (p *progress) now() status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// look is the status, with an id in any case.
func (p *progress) look() status {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own == "" {
		p.own = uuid.New()
	}
	st := p.status
	if st.id == "" {
		st.id = p.own
	}
	return st
}

// is says whether id is that of the session, before or after it was connected.
func (p *progress) is(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return id != "" && (id == p.own || id == p.id)
}

// detail says more about the phase.
func (st *status) detail() string {
	if st.phase.name == "DeliveringMessage" {
		return fmt.Sprintf("send msg with %d recip(s)", st.rcpts)
	}
	return ""
}

// check says, once, that the session has been in a busy phase for as long as limit.
func (p *progress) check(up, limit time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stuck || !p.phase.busy() || up-p.phase.since < limit {
		return false
	}
	p.stuck = true
	return true
}

func (p *progress) isStuck() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stuck
}
