package gcra

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
)

// Store is a [mtakit.Throttles] in this process; make it with [NewStore]. It is safe for concurrent use.
//
// Locks: each shard has one for its table of buckets and one for its leases; they are held for a look-up, or for a sweep
// whose cost is shared by the insertions before it, and never nest.
type Store struct {
	// Now is the clock of Take and of the leases. Default time.Now; set it before first use.
	Now func() time.Time

	base   time.Time // tats count from here
	seed   maphash.Seed
	shards [64]shard
}

type shard struct {
	mu      sync.Mutex
	buckets map[bucketKey]*Bucket
	sweepAt int // so many buckets call for a sweep

	leases leaseTable
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{Now: time.Now, base: time.Now(), seed: maphash.MakeSeed()}
}

func (s *Store) shard(key string) *shard {
	return &s.shards[maphash.String(s.seed, key)%uint64(len(s.shards))]
}

// Take implements [mtakit.Throttles]. More units than the burst of r are an error.
func (s *Store) Take(_ context.Context, key string, r mtakit.Rate, n int) (time.Duration, error) {
	if r.IsZero() {
		return 0, nil
	}
	wait := s.Bucket(key, r).Take(s.Now(), n)
	if wait == Never {
		return 0, fmt.Errorf("%d units of %s never fit into the burst of rate %s", n, key, r)
	}
	return wait, nil
}

// Refund implements [mtakit.Refunder].
func (s *Store) Refund(_ context.Context, key string, r mtakit.Rate, n int) error {
	if !r.IsZero() {
		s.Bucket(key, r).Refund(s.Now(), n)
	}
	return nil
}

// bucketKey names a bucket: another rate is another bucket, as the shared stores have it.
type bucketKey struct {
	name  string
	n     int
	burst int64
	per   time.Duration
}

func keyOf(name string, r mtakit.Rate) bucketKey { return bucketKey{name, r.N, burst(r), r.Per} }

// Bucket is the one bucket of key and rate. It may be kept for as long as one likes: the store forgets idle buckets, and those
// still in someone's hands come back when they are used.
func (s *Store) Bucket(key string, r mtakit.Rate) *Bucket {
	k := keyOf(key, r)
	sh := s.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b := sh.buckets[k]
	if b == nil {
		b = &Bucket{pace: PaceOf(r), store: s, key: k}
		b.tat.Store(idle)
		sh.insert(b)
	}
	return b
}

const smallShard = 64

func (sh *shard) insert(b *Bucket) {
	if sh.buckets == nil {
		sh.buckets, sh.sweepAt = make(map[bucketKey]*Bucket), smallShard
	}
	if len(sh.buckets) >= sh.sweepAt {
		now := b.store.since(b.store.Now())
		for k, b := range sh.buckets {
			if tat := b.tat.Load(); tat <= now && b.tat.CompareAndSwap(tat, forgotten) {
				delete(sh.buckets, k)
			}
		}
		sh.sweepAt = max(smallShard, 2*len(sh.buckets))
	}
	sh.buckets[b.key] = b
}

func (s *Store) since(now time.Time) int64 { return int64(now.Sub(s.base)) }

// forgotten is the tat of a bucket that is not in the store's table.
const forgotten = math.MaxInt64

// Bucket is what is left of one rate under one key. It is safe for concurrent use.
type Bucket struct {
	pace  Pace
	tat   atomic.Int64
	store *Store
	key   bucketKey
}

// Take asks for n units at now; see [Pace.Take]. The answer is [Never] for more units than the burst.
func (b *Bucket) Take(now time.Time, n int) time.Duration {
	t := b.store.since(now)
	for {
		tat := b.tat.Load()
		if tat == forgotten {
			b = b.store.recall(b)
			continue
		}
		next, wait := b.pace.Take(tat, t, n)
		if next == tat || b.tat.CompareAndSwap(tat, next) {
			return wait
		}
	}
}

// Refund gives n units back that Take gave.
func (b *Bucket) Refund(now time.Time, n int) {
	t := b.store.since(now)
	for {
		tat := b.tat.Load()
		if tat == forgotten { // because it was full
			return
		}
		if b.tat.CompareAndSwap(tat, b.pace.Refund(tat, t, n)) {
			return
		}
	}
}

// RateUse implements [mtakit.Gauge]. It makes no bucket.
func (s *Store) RateUse(_ context.Context, key string, r mtakit.Rate) (used int, wait time.Duration, _ error) {
	sh := s.shard(key)
	sh.mu.Lock()
	b := sh.buckets[keyOf(key, r)]
	sh.mu.Unlock()
	if b == nil {
		return 0, 0, nil
	}
	tat, now := b.tat.Load(), s.since(s.Now())
	if tat == forgotten {
		return 0, 0, nil
	}
	_, wait = b.pace.Take(tat, now, 0)
	return int(b.pace.Used(tat, now)), wait, nil
}

// recall puts a forgotten bucket back into the table, unless another one has taken its place: then that one counts.
func (s *Store) recall(b *Bucket) *Bucket {
	sh := s.shard(b.key.name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if there := sh.buckets[b.key]; there != nil {
		return there
	}
	b.tat.Store(idle)
	sh.insert(b)
	return b
}
