package queue

import (
	"errors"
	"fmt"
	"time"

	"github.com/mtakit/mtakit"
)

// errWatchdog is why a session is cut that makes no progress.
var errWatchdog = errors.New("no progress")

// watchdogLimit is for how long a session may be in one phase.
func watchdogLimit(p *mtakit.Path) time.Duration {
	if d := p.DispatcherProgressWatchdogTimeout.Std(); d > 0 {
		return d
	}
	if p.Protocol.ReadySuffix() != "smtp_client" && p.Protocol.Xfer == nil {
		return 10 * time.Minute
	}
	return max(2*max(p.MailTimeout, p.RcptTimeout, p.DataTimeout, p.DataDotTimeout).Std(), time.Minute)
}

// watch cuts the sessions that are stuck, and says whether there are any sessions. A Session has to end with its context; its messages go back
// then, unattempted as far as we know. And it takes messages out of the ready queues of suspended sources, whose sessions may all be busy.
func (q *Queue) watch() (busy bool) {
	up := q.uptime()
	now := q.now()
	for _, r := range q.allReady() {
		if q.held(r, now) {
			q.readmit(r.drain()...)
		}
		limit := watchdogLimit(r.path.Load())
		r.mu.Lock()
		busy = busy || len(r.live) > 0
		for s := range r.live {
			if !s.progress.check(up, limit) {
				continue
			}
			r.countAborted()
			if cut := s.cut.Load(); cut != nil {
				(*cut)(errWatchdog)
			}
		}
		r.mu.Unlock()
	}
	return busy
}

// stuckResponse describes a session that the watchdog has cut.
func (s *session) stuckResponse() mtakit.Response {
	up, st := s.q.uptime(), s.progress.now()
	id := ""
	if s.conn != nil {
		id = s.conn.Info().ID
	}
	return mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 4, 1}, Text: fmt.Sprintf("dispatcher watchdog aborted task; phase=%s detail=%s session=%s age=%v time_in_phase=%v",
		st.phase.name, st.detail(), id, mtakit.Duration(up-st.started), mtakit.Duration(up-st.phase.since))}
}
