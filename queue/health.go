package queue

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
)

// sourceHealth is the failures of sources, and until when sources are suspended for them. The state is of this process and forgotten with it.
type sourceHealth struct {
	suspended atomic.Pointer[map[string]time.Time] // by source; every message looks there, so it is replaced rather than changed

	mu sync.Mutex
	m  map[healthKey]*healthState
}

type healthKey struct{ source, kind string }

type healthState struct {
	failures    [healthBuckets]int // in a sliding window
	newest      int64              // number of the newest bucket
	until       time.Time
	suspensions int64
}

const healthBuckets = 60

// SourceFailed tells that connecting from a source failed for a reason that is the source's own: its address is not on this machine
// ("Unplumbed"), or its proxy does not do its work ("ProxyUnhealthy"). If the source has a rule for that, it may be suspended: other sources of its
// pools take over. It fits smtpclient.Egress.SourceFailed.
func (q *Queue) SourceFailed(s *mtakit.Source, kind string, err error) {
	rule := s.SuspendWhenUnplumbed
	if kind == "ProxyUnhealthy" {
		rule = s.SuspendWhenProxyUnhealthy
	}
	if rule == nil {
		return
	}
	now := q.now()
	h := &q.sourceHealth
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil {
		h.m = make(map[healthKey]*healthState)
	}
	st := h.m[healthKey{s.Name, kind}]
	if st == nil {
		st = &healthState{}
		h.m[healthKey{s.Name, kind}] = st
	}
	if !rule.Threshold.IsZero() && st.count(q.uptime(), rule.Threshold.Per) < rule.Threshold.N {
		return
	}
	if !st.until.After(now) {
		st.suspensions++
		q.log.Warn("egress source suspended", "source", s.Name, "reason", kind, "for", rule.Duration.String(), "err", err)
	}
	st.until = now.Add(rule.Duration.Std())
	h.suspend(s.Name, st.until, now)
}

// suspend is called with mu held.
func (h *sourceHealth) suspend(source string, until, now time.Time) {
	all := map[string]time.Time{source: until}
	if old := h.suspended.Load(); old != nil {
		for name, t := range *old {
			if t = later(t, all[name]); t.After(now) {
				all[name] = t
			}
		}
	}
	h.suspended.Store(&all)
}

// count adds one failure at that uptime and says how many there were within per.
func (st *healthState) count(up, per time.Duration) (sum int) {
	width := max(per/healthBuckets, time.Second)
	n := int64(up / width)
	for i := max(st.newest+1, n-healthBuckets+1); i <= n; i++ {
		st.failures[i%healthBuckets] = 0
	}
	st.newest = max(n, st.newest)
	st.failures[n%healthBuckets]++
	for i := range st.failures[:min(healthBuckets, int(per/width)+1)] {
		sum += st.failures[(st.newest-int64(i)+healthBuckets*2)%healthBuckets]
	}
	return sum
}

// sourceSuspended is until when a source is suspended; zero is: it is not.
func (q *Queue) sourceSuspended(name string, now time.Time) time.Time {
	if all := q.sourceHealth.suspended.Load(); all != nil {
		if until := (*all)[name]; until.After(now) {
			return until
		}
	}
	return time.Time{}
}
