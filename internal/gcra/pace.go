// Package gcra keeps rates and leases in this process. Rates follow the generic cell rate algorithm, which needs one
// number for each bucket: the theoretical arrival time (tat) of the next unit if the rate were used up evenly.
//
//	s := gcra.NewStore()
//	wait, err := s.Take(ctx, "queue-a", mtakit.Rate{N: 100, Per: time.Hour}, 1)
//
// A [Store] is a [mtakit.Throttles]. Whoever asks about one key again and again keeps its [Bucket], and each question is then a
// load and a compare-and-swap. Nothing here starts a goroutine.
package gcra

import (
	"math"
	"math/bits"
	"time"

	"github.com/mtakit/mtakit"
)

// Never is the wait for more units than a bucket holds.
const Never time.Duration = math.MaxInt64

// idle is the tat of a bucket that nothing was taken from.
const idle = math.MinInt64

// Pace is a rate as the algorithm uses it. The zero value is no limit. Times are nanoseconds since any one moment.
type Pace struct {
	interval int64 // between two units, rounded up, so that the rate is never exceeded
	depth    int64 // how far tat may be ahead of now: burst intervals
	burst    int64
}

// farthest bounds depths, 146 years, so that sums of times do not overflow.
const farthest = 1 << 62

// PaceOf is the pace of r. A rate whose N or Per is not positive is no limit.
func PaceOf(r mtakit.Rate) Pace {
	if r.N <= 0 || r.Per <= 0 {
		return Pace{}
	}
	p := Pace{burst: burst(r)}
	p.interval = min((int64(r.Per)-1)/int64(r.N)+1, farthest)
	p.depth = times(p.interval, p.burst)
	return p
}

func burst(r mtakit.Rate) int64 {
	if r.Burst > 0 {
		return int64(r.Burst)
	}
	return int64(r.N)
}

func times(a, b int64) int64 {
	if hi, lo := bits.Mul64(uint64(a), uint64(b)); hi == 0 && lo < farthest {
		return int64(lo)
	}
	return farthest
}

// Take says what becomes of tat when n units are asked for at now. With a wait of 0 they are taken; otherwise tat stays, and it
// is worth asking again after wait. An idle bucket gives burst units at once. An n of 0 takes nothing and asks whether
// one unit would be given; negative n are 0.
func (p Pace) Take(tat, now int64, n int) (newTAT int64, wait time.Duration) {
	if p.interval == 0 {
		return tat, 0
	}
	ask := int64(max(n, 1))
	if ask > p.burst {
		return tat, Never
	}
	start, cost := max(tat, now), times(p.interval, ask)
	if ahead := start - now - (p.depth - cost); ahead > 0 {
		return tat, time.Duration(ahead)
	}
	if n <= 0 {
		return tat, 0
	}
	return start + cost, 0
}

// Used is how many units of the burst are used up at now, those that are coming back included.
func (p Pace) Used(tat, now int64) int64 {
	if p.interval == 0 || tat <= now {
		return 0
	}
	return min((tat-now-1)/p.interval+1, p.burst)
}

// Refund says what becomes of tat when n units come back at now. A bucket is never fuller than an idle one.
func (p Pace) Refund(tat, now int64, n int) (newTAT int64) {
	if tat <= now {
		return tat
	}
	return max(tat-times(p.interval, int64(max(n, 0))), now)
}
