package queue

import (
	"sync"
	"time"

	"github.com/mtakit/mtakit"
)

// Tally is how much happened in a stretch of time. It counts recipients, so that in the long run what was received has been delivered or bounced.
type Tally struct {
	Received  int64 // accepted here, or taken over from another node
	Delivered int64 // accepted by a peer, or handed over to another node
	Deferred  int64 // failed for now
	Bounced   int64 // given up: refused for good, too old, or bounced by the operator
	Rejected  int64 // refused at reception
}

func (t *Tally) add(kind mtakit.Kind, n int64) {
	switch kind {
	case mtakit.Reception, mtakit.XferIn:
		t.Received += n
	case mtakit.Delivered, mtakit.XferOut:
		t.Delivered += n
	case mtakit.TransientFailure:
		t.Deferred += n
	case mtakit.Bounce, mtakit.Expiration, mtakit.AdminBounce:
		t.Bounced += n
	case mtakit.Rejection:
		t.Rejected += n
	}
}

// Activity is a Recorder that remembers what happened lately: how much, second by second and in coarser steps for two days, and what failed and why. It is
// given to a Queue beside the Recorder that keeps records:
//
//	activity := &queue.Activity{}
//	q, err := queue.New(queue.Config{Record: mtakit.Tee{events, activity}, …})
//
// It takes four megabytes at most, as a rule a tenth of that, and has no goroutine; what is out of date is passed over when somebody asks, and written over when its place is needed.
// The zero value is ready. It is safe for concurrent use and must not be copied.
type Activity struct {
	// Now is the clock of those who ask; nil is time.Now. Records have their own time.
	Now func() time.Time

	mu       sync.Mutex
	history  [len(resolutions)]ring
	failures failures
}

// resolutions are the steps in which history is kept, and how many of each: for ten minutes, two hours and two days, and the step that has begun.
var resolutions = [...]struct {
	step  time.Duration
	slots int
}{{time.Second, 601}, {10 * time.Second, 721}, {5 * time.Minute, 577}}

// ring is the history in steps of one length. A slot says which step it has, so that an old one is known when it is met.
type ring []struct {
	step  int64 // number of the step since 1970
	tally Tally
}

func (r ring) at(step int64) *Tally {
	s := &r[int(uint64(step)%uint64(len(r)))]
	if s.step != step {
		s.step, s.tally = step, Tally{}
	}
	return &s.tally
}

// Record implements [mtakit.Recorder].
func (a *Activity) Record(r *mtakit.Record) {
	n := int64(max(len(r.To), 1))
	unix := r.Time.Unix()
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, res := range resolutions {
		if a.history[i] == nil {
			a.history[i] = make(ring, res.slots)
		}
		a.history[i].at(unix/int64(res.step/time.Second)).add(r.Kind, n)
	}
	switch r.Kind {
	case mtakit.TransientFailure, mtakit.Bounce, mtakit.Expiration, mtakit.AdminBounce, mtakit.Rejection:
		a.failures.add(r, n)
	}
}

func (a *Activity) now() time.Time {
	if a.Now != nil {
		return a.Now()
	}
	return time.Now()
}

// History is what happened in steps of equal length, the oldest first. The last step is the one that Now is in, and not complete.
type History struct {
	Now   time.Time
	Start time.Time // of the first step
	Step  time.Duration
	Steps []Tally // at most 721
}

// History tells about the last span, two days at most, in the finest steps that are kept for so long: seconds for ten minutes, ten seconds for two hours, five
// minutes beyond.
func (a *Activity) History(span time.Duration) History {
	now := a.now()
	i := 0
	for i < len(resolutions)-1 && span > resolutions[i].step*time.Duration(resolutions[i].slots-1) {
		i++
	}
	res := resolutions[i]
	seconds := int64(res.step / time.Second)
	n := min(max(int64((span+res.step-1)/res.step), 1), int64(res.slots-1))
	last := now.Unix() / seconds
	h := History{Now: now, Start: time.Unix((last-n)*seconds, 0), Step: res.step, Steps: make([]Tally, n+1)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.history[i] == nil {
		return h
	}
	for j := range h.Steps {
		step := last - n + int64(j)
		if s := a.history[i][int(uint64(step)%uint64(res.slots))]; s.step == step {
			h.Steps[j] = s.tally
		}
	}
	return h
}
