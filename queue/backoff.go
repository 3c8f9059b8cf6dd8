package queue

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"time"

	"github.com/mtakit/mtakit"
)

// forever is longer than any message lives, and so short that sums of a few don't overflow.
const forever = time.Duration(math.MaxInt64 / 4)

// delayFor is how long a message waits after an attempt that failed; tries counts those before it. It doubles from the retry
// interval up to the cap, and saturates: a plain shift is negative from attempt 24 and zero from 64.
func delayFor(s *mtakit.QueueSettings, tries int) time.Duration {
	limit := forever
	if s.MaxRetryInterval > 0 {
		limit = min(limit, s.MaxRetryInterval.Std())
	}
	d := s.RetryInterval.Std()
	for range tries {
		if d >= limit {
			break
		}
		d *= 2
	}
	return min(d, limit)
}

// jitter spreads retries by whole seconds around the delay, by as much as a twentieth of the retry interval, a minute at
// most. u is uniform in [0, 1).
func jitter(s *mtakit.QueueSettings, u float64) time.Duration {
	magnitude := min(s.RetryInterval.Std().Seconds()/20, 60)
	return time.Duration(math.Trunc(u*magnitude-magnitude/2)) * time.Second
}

// spread is the delay of messages that go back without having been tried: up to a minute, so that they don't come together.
func spread(u float64) time.Duration {
	return time.Duration(u * 60 * float64(time.Second)).Truncate(time.Second)
}

// uniform is a number in [0, 1) that depends only on its arguments, so that a run can be repeated whatever the order in
// which goroutines ask.
func uniform(seed uint64, id mtakit.ID, tries int, purpose byte) float64 {
	var b [8 + 16 + 9]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	copy(b[8:], id[:])
	binary.LittleEndian.PutUint64(b[24:], uint64(tries))
	b[32] = purpose
	h := fnv.New64a()
	h.Write(b[:])
	return float64(mix(h.Sum64())>>11) / (1 << 53)
}

// mix spreads the bits of x (the finalizer of MurmurHash3): FNV alone leaves the high bits of similar inputs alike.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// ideal is how many connections a ready queue with n messages should have.
func ideal(n, limit int) int {
	if n <= 0 || limit <= 0 {
		return 0
	}
	q, l := float32(n), float32(limit)
	f := min(1-float32(math.Exp(float64(-0.023*q))), q)
	return min(int(math.Ceil(float64(l*f))), n)
}
