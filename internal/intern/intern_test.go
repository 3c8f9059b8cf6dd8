package intern_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/intern"
)

func name(s string) mtakit.QueueName { return mtakit.ParseQueueName(s) }

func TestTable(t *testing.T) {
	t.Parallel()
	var tab intern.Table
	// The same text in other places is another name.
	names := []mtakit.QueueName{
		{}, {Campaign: "a"}, {Tenant: "a"}, {Domain: "a"}, {Routing: "a"}, {Campaign: "a", Tenant: "b"}, {Tenant: "ab"},
		{Campaign: "a", Routing: "b"}, {Campaign: "a", Domain: "b"}, {Tenant: "a", Routing: "b"}, {Campaign: "c", Tenant: "t", Domain: "d", Routing: "r"},
		{Campaign: strings.Repeat("x", 70_000), Tenant: "\x00", Domain: "\xff@:!", Routing: "ü"},
	}
	nums := map[uint32]bool{}
	for _, q := range names {
		n := tab.Acquire(q)
		if got := tab.Name(n); got != q {
			t.Errorf("Name = %.80q, want %.80q", got, q)
		}
		if got := tab.Ref(n).String(); got != q.String() {
			t.Errorf("String = %.80q, want %.80q", got, q.String())
		}
		if got := tab.Ref(n).DomainHash(); got != intern.Hash(q.Domain) {
			t.Errorf("%.80q: the hash of the domain is %x", q, got)
		}
		if tab.Acquire(q) != n {
			t.Errorf("%.80q has two numbers", q)
		}
		nums[n] = true
		if got, ok := tab.Find(q); !ok || got != n {
			t.Errorf("Find(%.80q) = %d, %v, want %d", q, got, ok, n)
		}
	}
	if _, ok := tab.Find(name("unknown.example")); ok {
		t.Error("a name is found that was not acquired")
	}
	if len(nums) != len(names) || tab.Len() != len(names) {
		t.Errorf("%d names have %d numbers, Len is %d", len(names), len(nums), tab.Len())
	}
	n := tab.Acquire(names[5])
	for range 3 {
		tab.Release(n)
	}
	if _, ok := tab.Find(names[5]); ok {
		t.Error("a name is found that was released")
	}
	if tab.Len() != len(names)-1 {
		t.Errorf("after the last release Len is %d, want %d", tab.Len(), len(names)-1)
	}
	if again := tab.Acquire(name("new.example")); again != n {
		t.Errorf("the released number %d is not used again, but %d", n, again)
	}
}

func TestNameOutlivesRelease(t *testing.T) {
	t.Parallel()
	var tab intern.Table
	buf := []byte("tenant@example.com")
	n := tab.Acquire(name(unsafe.String(&buf[0], len(buf))))
	copy(buf, "xxxxxxxxxxxxxxxxxx")
	got := tab.Name(n)
	tab.Release(n)
	tab.Acquire(name("other@example.net"))
	if got != name("tenant@example.com") {
		t.Errorf("the name became %q", got)
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	var tab intern.Table
	n := tab.Acquire(name("c:t@d!r"))
	a, b := tab.Name(n), tab.Name(n)
	if unsafe.StringData(a.Campaign) != unsafe.StringData(b.Campaign) ||
		uintptr(unsafe.Pointer(unsafe.StringData(a.Routing)))-uintptr(unsafe.Pointer(unsafe.StringData(a.Campaign))) != 6 {
		t.Error("the parts of the name are not in one place")
	}
}

func TestAllocs(t *testing.T) {
	var tab intern.Table
	q := name("c:t@example.com")
	tab.Acquire(q)
	if n := testing.AllocsPerRun(1000, func() {
		n := tab.Acquire(q)
		if tab.Name(n).Domain != "example.com" || tab.Ref(n).String() == "" {
			t.Fatal("wrong name")
		}
		tab.Release(n)
	}); n != 0 {
		t.Errorf("a known name costs %v allocations, want 0", n)
	}
}

// FuzzTable compares with a map that counts.
func FuzzTable(f *testing.F) {
	for seed := range uint64(4) {
		b := make([]byte, 4000)
		rnd := rand.New(rand.NewPCG(seed, 0))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var tab intern.Table
		refs, nums := map[mtakit.QueueName]int{}, map[mtakit.QueueName]uint32{}
		for ; len(b) >= 2; b = b[2:] {
			q := name(fmt.Sprintf("t%d@d%d", b[0]&15, b[0]>>4))
			if b[1]&1 == 0 || refs[q] == 0 {
				n := tab.Acquire(q)
				if refs[q] > 0 && n != nums[q] {
					t.Fatalf("%s has the numbers %d and %d", q, n, nums[q])
				}
				refs[q]++
				nums[q] = n
			} else {
				tab.Release(nums[q])
				if refs[q]--; refs[q] == 0 {
					delete(refs, q)
				}
			}
			if tab.Len() != len(refs) {
				t.Fatalf("Len is %d, want %d", tab.Len(), len(refs))
			}
		}
		for q := range refs {
			if got := tab.Name(nums[q]); got != q {
				t.Fatalf("Name(%d) = %s, want %s", nums[q], got, q)
			}
		}
	})
}

const million = 1_000_000

// BenchmarkMillion fills a table and reports what a name costs in memory, its text of 24 bytes included, and what a million of
// them cost the collector.
func BenchmarkMillion(b *testing.B) {
	for b.Loop() {
		before := heap()
		var tab intern.Table
		for i := range million {
			tab.Acquire(mtakit.QueueName{Tenant: "tenant", Domain: fmt.Sprintf("d%06d.example.com", i)})
		}
		b.ReportMetric(float64(heap()-before)/million, "B/name")
		start := time.Now()
		runtime.GC()
		b.ReportMetric(float64(time.Since(start).Microseconds()), "µs/GC")
		runtime.KeepAlive(&tab)
	}
}

func BenchmarkAcquire(b *testing.B) {
	var tab intern.Table
	q := name("campaign:tenant@example.com")
	tab.Acquire(q)
	b.ReportAllocs()
	for b.Loop() {
		tab.Release(tab.Acquire(q))
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
