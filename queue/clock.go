package queue

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// clock is what due times and ages go by: the wall clock without its steps. While that runs as it should, both show the same. When it is set back, a message
// that has to wait for twenty minutes still waits for twenty minutes, and when it is set forward, those that wait don't all come due at once, nor
// too old; so it is too when the machine has slept. The difference is worked off slowly, a second in eight, so that in the end times of the day are again what
// they say.
//
// Messages carry due times by the wall clock, in memory and in the spool; the entries of a scheduler have them by this clock, see shard.wait and shard.revive.
type clock struct {
	wall   func() time.Time
	uptime func() time.Duration
	base   time.Time // by the wall clock, when uptime began
	log    *slog.Logger

	ahead atomic.Int64 // nanoseconds that the wall clock is ahead of base and uptime, as last seen
	lag   atomic.Int64 // seconds that this clock is behind the wall clock; negative is ahead

	stepped atomic.Bool // by so much that the due times in the spool should be written anew

	mu      sync.Mutex
	settled time.Duration // uptime up to which lag has been worked off
}

const (
	clockStep  = 10 * time.Second // differences below are followed at once: a clock that drifts, or a goroutine that had to wait between two looks
	clockCatch = 8 * time.Second  // in which a second of lag is worked off
	clockSave  = 5 * time.Minute  // from which on the spool is told
)

func newClock(wall func() time.Time, uptime func() time.Duration, log *slog.Logger) *clock {
	return &clock{wall: wall, uptime: uptime, base: wall().Add(-uptime()).Round(0), log: log}
}

// look returns the time by the wall clock, and by how many seconds this clock is behind it.
func (c *clock) look() (wall time.Time, lag int64) {
	seen := c.ahead.Load() // before lag: adjust changes them the other way round
	if c.lag.Load() == 0 {
		wall, ahead := c.read()
		if d := ahead - seen; -int64(clockStep) < d && d < int64(clockStep) {
			if d != 0 {
				c.ahead.CompareAndSwap(seen, ahead)
			}
			return wall, 0
		}
	}
	return c.adjust()
}

func (c *clock) read() (wall time.Time, ahead int64) {
	wall = c.wall()
	return wall, int64(wall.Round(0).Sub(c.base) - c.uptime())
}

// adjust sees to steps and works the lag off.
func (c *clock) adjust() (wall time.Time, lag int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, ahead := c.read()
	up := c.uptime()
	lag = c.lag.Load()
	if step := time.Duration(ahead - c.ahead.Load()); step.Abs() >= clockStep {
		if lag == 0 {
			c.settled = up
		}
		lag += int64(step.Round(time.Second) / time.Second)
		if step.Abs() >= clockSave {
			defer c.stepped.Store(true) // once the lag is there for those who act on it
		}
		c.log.Warn("the wall clock has been set; what waits goes by the time that passes", "by", step.String())
	}
	if n := int64((up - c.settled) / clockCatch); n > 0 {
		c.settled += time.Duration(n) * clockCatch
		if lag > 0 {
			lag = max(lag-n, 0)
		} else {
			lag = min(lag+n, 0)
		}
	}
	c.lag.Store(lag)
	c.ahead.Store(ahead)
	return wall, lag
}

// now is the time by this clock.
func (c *clock) now() time.Time {
	wall, lag := c.look()
	return wall.Add(-time.Duration(lag) * time.Second)
}

// shiftDue moves a due second by so many seconds; 0, which means now, stays.
func shiftDue(due uint32, by int64) uint32 {
	if due == 0 {
		return 0
	}
	return uint32(min(max(int64(due)+by, 1), math.MaxUint32))
}

// resave writes the due times of what waits to the spool, as they are now after the wall clock has been set: a restart goes by these.
func (q *Queue) resave() {
	q.sweep(&sweep{do: func(ctx context.Context, it *item) {
		if it.saved() && !it.due.After(q.now()) { // park saves what is not due
			q.saveOrLog(it)
		}
		q.park(ctx, it, ownedByPromotion, Reasons{Enumerated})
	}})
}

// age is how long ago a message was created, by that of both clocks which says less: a message whose time can't be told shall not expire for it.
func (q *Queue) age(it *item, now time.Time) time.Duration {
	if lag := q.clock.lag.Load(); lag > 0 {
		now = now.Add(-time.Duration(lag) * time.Second)
	}
	return it.age(now)
}

// early is until when the schedule of a message, which names times of the day, has it wait although it is due: the wall clock has been set back.
// It is zero in all other cases. The envelope has to be in memory.
func (q *Queue) early(it *item, now time.Time) time.Time {
	if q.clock.lag.Load() >= 0 || it.m.Schedule == nil {
		return time.Time{}
	}
	if due := it.m.Schedule.Adjust(now); due.After(now) {
		return due
	}
	return time.Time{}
}
