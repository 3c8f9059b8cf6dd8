package queue

import (
	"sync"
	"time"
)

// progress is what a session is doing, for the watchdog and for those who look.
type progress struct {
	mu    sync.Mutex
	phase phase
	stuck bool // the watchdog has cut it in this phase
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

func (s *session) setPhase(name string) {
	up := s.q.uptime()
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	if !s.progress.stuck {
		s.progress.phase = phase{name, up}
	}
}

func (p *progress) current() phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase
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
