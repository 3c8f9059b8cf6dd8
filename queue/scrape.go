package queue

import (
	"hash/maphash"
	"unique"

	"github.com/mtakit/mtakit"
)

// scrapeBatch is how many queues a scrape looks at under a lock that mail needs: a few microseconds.
const scrapeBatch = 128

// row is what a scrape sees of a scheduled queue.
type row struct {
	mtakit.QueueName
	text     string // the name as it is written
	conf     *conf  // nil is not known
	provider string
	waiting  int32
	live     int32
	delayed  delayed
}

// delayed counts how often something due had to stay in its scheduled queue.
type delayed struct{ byRate, byReady, byFull uint32 }

// eachSched calls f for each scheduled queue, with nothing locked, until it returns false. The row is f's until it returns.
func (q *Queue) eachSched(f func(*row) bool) {
	rows := make([]row, scrapeBatch)
	for _, sh := range q.shards {
		for pos, more := 0, true; more; pos += scrapeBatch {
			n := 0
			sh.mu.Lock()
			end := min(pos+scrapeBatch, len(sh.scheds))
			for _, s := range sh.scheds[min(pos, end):end] {
				if s != nil {
					s.show(&rows[n])
					n++
				}
			}
			more = end < len(sh.scheds)
			sh.mu.Unlock()
			for i := range rows[:n] {
				if !f(&rows[i]) {
					return
				}
			}
		}
	}
}

// eachReady calls f for each ready queue until it returns false.
func (q *Queue) eachReady(f func(*ready) bool) { q.readySlots.each(&q.readyMu, f) }

// show is called with shard.mu held.
func (s *sched) show(r *row) {
	*r = row{QueueName: s.ref.Name(), text: s.ref.String(), conf: s.conf.Load(), waiting: s.waiting, live: s.live, delayed: s.delayed}
	if s.provider != (unique.Handle[string]{}) {
		r.provider = s.provider.Value()
	}
}

// who is the provider to which the queue's mail goes: the one that is configured, else what the path or the site was called when it was last looked
// up, else the domain.
func (r *row) who() string {
	switch {
	case r.conf != nil && r.conf.err == nil && r.conf.ProviderName != "":
		return r.conf.ProviderName
	case r.provider != "":
		return r.provider
	}
	return r.RoutingDomain()
}

// pool is the one that the queue's mail leaves by.
func (r *row) pool() string {
	if r.conf != nil && r.conf.err == nil {
		return r.conf.pool
	}
	return mtakit.Unspecified
}

// maxKeys is how many sums a scrape keeps at a time.
const maxKeys = 1 << 18

// sumBy gives the sum of what f has for each key. each calls its argument for all there are; it is called several times if there are so many keys that
// most of them have to wait for another turn. So memory is bounded, and a key comes once.
func sumBy[K comparable, R any](each func(func(R) bool), most int, f func(R) (K, int64, bool), yield func(K, int64) bool) {
	var (
		seed = maphash.MakeSeed()
		sums = make(map[K]int64)
		all  = uint64(1) << 32 // hashes, of which those from low on are looked at, as many as width
	)
	for low, width := uint64(0), all; low < all; low += width {
		clear(sums)
		outside := func(k K) bool { return width < all && maphash.Comparable(seed, k)>>32-low >= width }
		each(func(r R) bool {
			k, n, ok := f(r)
			if !ok || outside(k) {
				return true
			}
			sums[k] += n
			for len(sums) > most && width > 1 {
				width /= 2
				for k := range sums {
					if outside(k) {
						delete(sums, k)
					}
				}
			}
			return true
		})
		for k, n := range sums {
			if !yield(k, n) {
				return
			}
		}
	}
}
