package wheel_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/wheel"
)

const t0 = 1_750_000_000

func id(n int) (id mtakit.ID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func dues(items []wheel.Item) []uint32 {
	var d []uint32
	for _, it := range items {
		d = append(d, it.Due)
	}
	return d
}

func check(t testing.TB, w *wheel.Wheel) {
	t.Helper()
	if err := w.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestPop(t *testing.T) {
	t.Parallel()
	type pop struct {
		now  int64
		want []uint32
		next int64
	}
	for _, test := range []struct {
		name string
		due  []uint32
		cap  int
		pops []pop
	}{
		{"empty", nil, 4, []pop{{t0, nil, wheel.Never}}},
		{"the past, the present, the next second", []uint32{t0 + 1, t0, t0 - 5, 0}, 4,
			[]pop{{t0, []uint32{0, t0 - 5, t0}, t0 + 1}, {t0 + 1, []uint32{t0 + 1}, wheel.Never}}},
		{"more than the capacity", []uint32{t0, t0, t0, t0 + 1}, 2,
			[]pop{{t0, []uint32{t0, t0}, t0}, {t0, []uint32{t0}, t0 + 1}, {t0 + 9, []uint32{t0 + 1}, wheel.Never}}},
		{"no capacity", []uint32{t0}, 0, []pop{{t0 - 1, nil, t0}, {t0, nil, t0}}},
		{"by seconds, whatever the order of adding", []uint32{t0 + 90, t0 + 7, t0 + 30}, 4,
			[]pop{{t0 + 100, []uint32{t0 + 7, t0 + 30, t0 + 90}, wheel.Never}}},
		{"a jump over a week", []uint32{t0 + 7*86400 - 1, t0 + 7*86400}, 4,
			[]pop{{t0, nil, t0 + 7*86400 - 1}, {t0 + 7*86400 - 1, []uint32{t0 + 7*86400 - 1}, t0 + 7*86400}}},
		{"the ends of the range", []uint32{math.MaxUint32, 0}, 4,
			[]pop{{-7, []uint32{0}, 0xff000000}, {math.MaxUint32 - 1, nil, math.MaxUint32}, {math.MaxInt64, []uint32{math.MaxUint32}, wheel.Never}}},
		{"the clock steps back", []uint32{t0, t0, t0 + 5}, 1,
			[]pop{{t0, []uint32{t0}, t0}, {t0 - 1000, nil, t0}, {t0 - 1, nil, t0}, {t0, []uint32{t0}, t0 + 5}, {t0 + 5, []uint32{t0 + 5}, wheel.Never}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var w wheel.Wheel
			for i, d := range test.due {
				w.Add(wheel.Item{ID: id(i), Due: d})
			}
			for _, p := range test.pops {
				got, next := w.Pop(p.now, make([]wheel.Item, 0, test.cap))
				check(t, &w)
				g := dues(got)
				if slices.Sort(g); !slices.Equal(g, p.want) {
					t.Fatalf("Pop(%d) = %d, want %d", p.now, g, p.want)
				}
				// A resting time may come early, but never too early to make progress.
				if next != p.next && !(p.now < next && next < p.next) {
					t.Fatalf("Pop(%d): next is %d, want %d or something after now and before", p.now, next, p.next)
				}
			}
		})
	}
}

func TestPopAppends(t *testing.T) {
	t.Parallel()
	w := wheel.New()
	want := wheel.Item{ID: id(1), Due: t0, Queue: 7, Tries: 3, Flags: 0x8001}
	w.Add(want)
	got, _ := w.Pop(t0, append(make([]wheel.Item, 0, 2), wheel.Item{Queue: 1}))
	if len(got) != 2 || got[0].Queue != 1 || got[1] != want {
		t.Errorf("Pop = %+v", got)
	}
}

// A sweep meets all that stays, although every step is followed by removals, additions and pops.
func TestSweep(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	w := wheel.New()
	const n = 5000
	there := map[mtakit.ID]bool{}
	for i := range n {
		w.Add(wheel.Item{ID: id(i), Due: t0 + rnd.Uint32N(100_000), Queue: uint32(i % 3)})
		there[id(i)] = true
	}
	met := map[mtakit.ID]bool{}
	now, added := int64(t0), n
	for pos := w.Len(); pos > 0; {
		steps := 0
		pos = w.Sweep(pos, 100, func(it wheel.Item) bool {
			steps++
			met[it.ID] = true
			if it.Queue == 1 {
				delete(there, it.ID)
			}
			return it.Queue == 1
		})
		if steps > 100 {
			t.Fatalf("one step of the sweep met %d items, want 100 at most", steps)
		}
		now += rnd.Int64N(500)
		due, _ := w.Pop(now, make([]wheel.Item, 0, 20))
		for _, it := range due {
			delete(there, it.ID)
		}
		for range rnd.IntN(30) {
			w.Add(wheel.Item{ID: id(added), Due: t0 + rnd.Uint32N(100_000)})
			added++
		}
		check(t, w)
	}
	for i := range n {
		if there[id(i)] && !met[id(i)] {
			t.Fatalf("the sweep missed item %d", i)
		}
	}
	w.Each(func(it wheel.Item) bool {
		if it.Queue == 1 {
			t.Errorf("item %v is still there", it.ID)
		}
		return true
	})
	if pos := w.Sweep(1<<40, 3, func(wheel.Item) bool { return false }); pos != w.Len()-3 {
		t.Errorf("a sweep from beyond the end is at %d after 3 items, want %d", pos, w.Len()-3)
	}
}

func TestRemoveID(t *testing.T) {
	t.Parallel()
	w := wheel.New()
	if _, ok := w.RemoveID(id(1)); ok {
		t.Error("RemoveID found something in an empty wheel")
	}
	for i := range 10 {
		w.Add(wheel.Item{ID: id(i), Due: t0 + uint32(i)*1000, Tries: uint16(i)})
	}
	if it, ok := w.RemoveID(id(4)); !ok || it.Tries != 4 {
		t.Errorf("RemoveID = %+v, %v", it, ok)
	}
	if _, ok := w.RemoveID(id(4)); ok {
		t.Error("RemoveID found the item twice")
	}
	check(t, w)
	var got []uint32
	w.Each(func(it wheel.Item) bool { got = append(got, it.Due); return len(got) < 8 })
	if len(got) != 8 || w.Len() != 9 {
		t.Errorf("Each went on to %d items, Len is %d", len(got), w.Len())
	}
}

func TestShrinks(t *testing.T) {
	t.Parallel()
	w := wheel.New()
	for i := range 100_000 {
		w.Add(wheel.Item{ID: id(i), Due: t0 + uint32(i)})
	}
	full := w.Chunks()
	dst := make([]wheel.Item, 0, 256)
	for w.Len() > 0 {
		w.Pop(t0+100_000, dst)
	}
	if w.Chunks() > 2 || full < 40 {
		t.Errorf("%d chunks are left of %d", w.Chunks(), full)
	}
}

func TestAllocs(t *testing.T) {
	w := wheel.New()
	for i := range 10_000 {
		w.Add(wheel.Item{ID: id(i), Due: t0 + uint32(i)%5000})
	}
	now, dst := int64(t0), make([]wheel.Item, 0, 64)
	if n := testing.AllocsPerRun(20_000, func() {
		due, _ := w.Pop(now, dst)
		for _, it := range due {
			it.Due += 5000
			w.Add(it)
		}
		if len(due) < cap(due) {
			now++
		}
	}); n != 0 {
		t.Errorf("a turn of Pop and Add allocates %v times, want 0", n)
	}
	if w.Len() != 10_000 {
		t.Errorf("Len is %d", w.Len())
	}
}

// model is the naive version: a list that is looked through.
type model []wheel.Item

func (m *model) remove(id mtakit.ID) bool {
	i := slices.IndexFunc(*m, func(it wheel.Item) bool { return it.ID == id })
	if i < 0 {
		return false
	}
	*m = slices.Delete(*m, i, i+1)
	return true
}

// FuzzWheel runs one operation per 5 bytes on a Wheel and on the model. Clock and due times go anywhere, with a preference for
// the borders of slots.
func FuzzWheel(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x01\x02\x00\x00\x00\x02"))
	f.Add([]byte("\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x12\x00\x00\xff\xff\x0a\x00\x00\x00\x01\x22\x01\x00\x00\x00"))
	for seed := range uint64(8) {
		b := make([]byte, 3000)
		rnd := rand.New(rand.NewPCG(seed, 0))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var w wheel.Wheel
		var m model
		now := int64(t0)
		for n := 0; len(b) >= 5 && n < 2000; n++ {
			op, x := b[0], binary.BigEndian.Uint32(b[1:])
			b = b[5:]
			delta := int64(x) >> (op >> 4 * 2) // mostly small
			if x&1 == 1 {
				delta = -delta
			}
			switch op & 7 {
			case 0, 1, 2, 3:
				it := wheel.Item{ID: id(n), Due: uint32(min(max(now+delta, 0), math.MaxUint32)), Queue: x % 5, Tries: uint16(n)}
				w.Add(it)
				m = append(m, it)
			case 4, 5, 6:
				if op&7 == 6 || delta > 0 {
					now += delta
				}
				comparePop(t, &w, &m, now, int(x>>1%16))
			case 7:
				if len(m) == 0 {
					continue
				}
				victim := m[int(x)%len(m)]
				if op&8 == 0 {
					it, ok := w.RemoveID(victim.ID)
					if !ok || it != victim {
						t.Fatalf("RemoveID = %+v, %v, want %+v", it, ok, victim)
					}
					m.remove(victim.ID)
				} else {
					for pos := w.Len(); pos > 0; {
						pos = w.Sweep(pos, 7, func(it wheel.Item) bool { return it.Queue == victim.Queue && m.remove(it.ID) })
					}
				}
			}
			if w.Len() != len(m) {
				t.Fatalf("Len is %d, want %d", w.Len(), len(m))
			}
			if n%64 == 0 {
				check(t, &w)
			}
		}
		check(t, &w)
	})
}

func comparePop(t *testing.T, w *wheel.Wheel, m *model, now int64, n int) {
	t.Helper()
	want := 0
	for _, it := range *m {
		if int64(it.Due) <= max(now, 0) {
			want++
		}
	}
	got, next := w.Pop(now, make([]wheel.Item, 0, n))
	if len(got) != min(n, want) {
		t.Fatalf("Pop(%d) gave %d items, want %d", now, len(got), min(n, want))
	}
	for _, it := range got {
		if int64(it.Due) > max(now, 0) || !slices.Contains(*m, it) {
			t.Fatalf("Pop(%d) gave %+v, which is not due or not there", now, it)
		}
		m.remove(it.ID)
	}
	switch {
	case want > n:
		if next != now {
			t.Fatalf("Pop(%d): next is %d although more are due", now, next)
		}
	case len(*m) == 0:
		if next != wheel.Never {
			t.Fatalf("Pop(%d): next is %d although none are left", now, next)
		}
	default:
		first := slices.MinFunc(*m, func(a, b wheel.Item) int { return int(int64(a.Due) - int64(b.Due)) })
		if next <= now || next > int64(first.Due) {
			t.Fatalf("Pop(%d): next is %d, the first is due at %d", now, next, first.Due)
		}
	}
}

const million = 1_000_000

// filled is a wheel with a million items spread over a retry interval.
func filled() *wheel.Wheel {
	w := wheel.New()
	w.Pop(t0, nil)
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range million {
		w.Add(wheel.Item{ID: id(i), Due: t0 + 1 + rnd.Uint32N(1200)})
	}
	return w
}

// BenchmarkTurn is Pop and Add again for each item, in batches of 256, with a million waiting.
func BenchmarkTurn(b *testing.B) {
	w := filled()
	now, dst := int64(t0), make([]wheel.Item, 0, 256)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n--; n > 0 {
			continue
		}
		var due []wheel.Item
		for n = 0; n == 0; n = len(due) {
			var next int64
			due, next = w.Pop(now, dst)
			now = max(now, next)
		}
		for _, it := range due {
			it.Due = uint32(now) + 1200
			w.Add(it)
		}
	}
}

// BenchmarkMillion fills a wheel and reports what an item costs in memory, and what a million of them cost the collector.
func BenchmarkMillion(b *testing.B) {
	for b.Loop() {
		before := heap()
		w := filled()
		b.ReportMetric(float64(heap()-before)/million, "B/item")
		start := time.Now()
		runtime.GC()
		b.ReportMetric(float64(time.Since(start).Microseconds()), "µs/GC")
		runtime.KeepAlive(w)
	}
}

func BenchmarkRemoveID(b *testing.B) {
	w := filled()
	b.ReportAllocs()
	for b.Loop() {
		it, _ := w.RemoveID(id(million / 2))
		w.Add(it)
	}
}

func BenchmarkSweep(b *testing.B) {
	w := filled()
	b.ReportAllocs()
	for b.Loop() {
		for pos := w.Len(); pos > 0; {
			pos = w.Sweep(pos, 4096, func(it wheel.Item) bool { return it.Queue == 1 })
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func Example() {
	w := wheel.New()
	w.Add(wheel.Item{Due: 1000, Queue: 1})
	w.Add(wheel.Item{Due: 1002, Queue: 2})
	for now := int64(1000); now != wheel.Never; {
		var due []wheel.Item
		due, next := w.Pop(now, make([]wheel.Item, 0, 16))
		for _, it := range due {
			fmt.Println(now, "queue", it.Queue)
		}
		now = next
	}
	fmt.Println(unsafe.Sizeof(wheel.Item{}), "bytes an item")
	// Output:
	// 1000 queue 1
	// 1002 queue 2
	// 28 bytes an item
}
