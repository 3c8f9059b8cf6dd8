package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// ledger is what a client of the spool knows: every version of each message, which of them were acknowledged, and which
// must have survived a power failure.
type ledger struct {
	ids   []mtakit.ID
	track map[mtakit.ID]*track
}

type track struct {
	versions []version
	acked    int // the last acknowledged
	sure     int // the last known to be durable
	batch    int // number of the Store that made it
}

type version struct {
	there  bool
	sender string
	due    int64
	tries  int
	body   byte
	size   int
}

func (v version) String() string {
	if !v.there {
		return "absent"
	}
	return fmt.Sprintf("%s due %d tries %d body %d*%d", v.sender, v.due, v.tries, v.body, v.size)
}

func (l *ledger) begin(id mtakit.ID, v version) {
	t := l.track[id]
	if t == nil {
		t = &track{versions: []version{{}}}
		l.track[id] = t
		l.ids = append(l.ids, id)
	}
	t.versions = append(t.versions, v)
}

func (l *ledger) ack(id mtakit.ID) { l.track[id].acked = len(l.track[id].versions) - 1 }

// synced: a durable call has returned, so all that was acknowledged before is durable too.
func (l *ledger) synced() {
	for _, t := range l.track {
		t.sure = t.acked
	}
}

func (l *ledger) now(id mtakit.ID) version {
	t := l.track[id]
	return t.versions[len(t.versions)-1]
}

// world drives a spool and keeps the ledger.
type world struct {
	t      testing.TB
	s      *spool.Spool
	ledger ledger
	src    mtakit.IDSource
	stores int
	strict bool // no call may fail
	stats  spool.Stats
}

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t testing.TB, s *spool.Spool) *world {
	return &world{t: t, s: s, ledger: ledger{track: map[mtakit.ID]*track{}}}
}

func (w *world) result(err error, what string) bool {
	w.t.Helper()
	if err != nil && w.strict {
		w.t.Fatalf("%s: %v", what, err)
	}
	return err == nil
}

// store stores a batch of messages with bodies of these sizes.
func (w *world) store(d mtakit.Durability, sizes ...int) (list []mtakit.ID) {
	w.t.Helper()
	w.stores++
	var batch []mtakit.Submission
	for i, size := range sizes {
		n := len(w.ledger.ids)
		v := version{there: true, sender: fmt.Sprintf("s%d@example.com", n), due: epoch.Unix() + int64(n), body: byte(n + 1), size: size}
		if size == 0 {
			v.body = 0
		}
		m := &mtakit.Message{ID: w.src.New(epoch), Sender: v.sender, To: []string{"a@example.org"}, Due: time.Unix(v.due, 0),
			Queue: mtakit.QueueName{Domain: fmt.Sprintf("d%d.example", n%3)}}
		var body mtakit.Body = mtakit.Bytes(bytes.Repeat([]byte{v.body}, size))
		if i%2 == 1 {
			body = readerBody{body}
		}
		batch = append(batch, mtakit.Submission{Message: m, Body: body})
		w.ledger.begin(m.ID, v)
		w.ledger.track[m.ID].batch = w.stores
		list = append(list, m.ID)
	}
	err := w.s.Store(context.Background(), batch, d)
	if w.result(err, "Store") {
		for _, id := range list {
			w.ledger.ack(id)
		}
		if d == mtakit.Durable {
			w.ledger.synced()
		}
	} else if !errors.Is(err, mtakit.ErrUnhealthy) {
		for _, id := range list { // nothing of it may be there
			w.ledger.begin(id, version{})
			w.ledger.ack(id)
			w.ledger.track[id].sure = w.ledger.track[id].acked
		}
	}
	return list
}

type readerBody struct{ mtakit.Body }

func (w *world) update(id mtakit.ID) {
	w.t.Helper()
	v := w.ledger.now(id)
	v.sender, v.tries, v.due = v.sender+"!", v.tries+1, v.due+100
	w.ledger.begin(id, v)
	err := w.s.Update(context.Background(), &mtakit.Message{ID: id, Sender: v.sender, To: []string{"b@example.org"},
		Due: time.Unix(v.due, 0), Tries: v.tries})
	if w.result(err, "Update") {
		w.ledger.ack(id)
		w.ledger.synced()
		return
	}
	w.look(id)
}

// look notes what a message is after a call has failed: what follows builds on that.
func (w *world) look(id mtakit.ID) {
	if _, err := w.s.Load(context.Background(), id); err == nil || errors.Is(err, mtakit.ErrNotFound) {
		w.ledger.begin(id, read(w.t, w.s, id))
	}
}

func (w *world) reschedule(id mtakit.ID) {
	w.t.Helper()
	v := w.ledger.now(id)
	v.tries, v.due = v.tries+1, v.due+1000
	w.ledger.begin(id, v)
	if w.result(w.s.Reschedule(context.Background(), id, time.Unix(v.due, 0), v.tries), "Reschedule") {
		w.ledger.ack(id)
		return
	}
	w.look(id)
}

func (w *world) remove(ids ...mtakit.ID) {
	w.t.Helper()
	for _, id := range ids {
		w.ledger.begin(id, version{})
		if w.result(w.s.Remove(context.Background(), id), "Remove") {
			w.ledger.ack(id)
		} else {
			w.look(id)
		}
	}
}

// idle lets the background goroutine do what it does in d.
func (w *world) idle(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// read is the version of a message that a spool has.
func read(t testing.TB, s *spool.Spool, id mtakit.ID) version {
	t.Helper()
	m, err := s.Load(context.Background(), id)
	if errors.Is(err, mtakit.ErrNotFound) {
		return version{}
	}
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	b, err := s.Open(context.Background(), id)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer b.Close()
	p := make([]byte, b.Size())
	if n, err := b.ReadAt(p, 0); n < len(p) {
		t.Fatalf("ReadAt: %v", err)
	}
	v := version{there: true, sender: m.Sender, due: m.Due.Unix(), tries: m.Tries, size: len(p)}
	if len(p) > 0 {
		v.body = p[0]
		if bytes.Count(p, p[:1]) != len(p) {
			t.Errorf("the body of %s is mixed up", id)
		}
	}
	return v
}

// verify compares a spool that was opened after a crash with the ledger. power says that what was not synced may be gone.
func (l *ledger) verify(t testing.TB, s *spool.Spool, power bool) {
	t.Helper()
	scanned := map[mtakit.ID]mtakit.Entry{}
	for e, err := range s.Scan(context.Background(), mtakit.ID{0xff}) {
		if err != nil {
			t.Errorf("Scan: %v", err)
			continue
		}
		if _, ok := scanned[e.ID]; ok {
			t.Errorf("Scan yields %s twice", e.ID)
		}
		scanned[e.ID] = e
		if l.track[e.ID] == nil {
			t.Errorf("%s appeared and was never stored", e.ID)
		}
	}
	batches := map[int]bool{}
	for i, id := range l.ids {
		k := l.track[id]
		got := read(t, s, id)
		floor := k.acked
		if power {
			floor = k.sure
		}
		ok := false
		for _, v := range k.versions[floor:] {
			ok = ok || v == got
		}
		if !ok {
			t.Errorf("message %d is %v\nallowed: %v\nof all: %v", i, got, k.versions[floor:], k.versions)
		}
		if e, scan := scanned[id]; scan != got.there || scan && (e.Tries != got.tries || e.Due.Unix() != got.due) {
			t.Errorf("message %d: Scan yields %v %+v, Load %v", i, scan, e, got)
		}
		if len(k.versions) == 2 { // stored and never touched since: all of its batch or none
			if was, seen := batches[k.batch]; seen && was != got.there {
				t.Errorf("message %d: half of its batch is there", i)
			}
			batches[k.batch] = got.there
		}
	}
	if s.Len() != len(scanned) {
		t.Errorf("Len is %d, Scan yields %d", s.Len(), len(scanned))
	}
}

var crashOptions = spool.Options{SegmentSize: 64 << 10, CheckpointInterval: time.Second, RetryInterval: time.Second}

// scenario does everything that a spool does: batches, three durabilities, updates, reschedules, removes, rotation,
// checkpoints, freeing and reuse of segments, copying forward, closing and opening again.
func scenario(w *world, disk *spooltest.Disk) {
	const k = 1 << 6
	keep := w.store(mtakit.Durable, 500*k) // the first segment stays mostly alive
	a := w.store(mtakit.Durable, 100*k)
	b := w.store(mtakit.Durable, 10, 0, 200*k)
	c := w.store(mtakit.Buffered, 150*k, 3)
	w.reschedule(a[0])
	w.update(b[2])
	w.remove(b[0])
	w.idle(1100 * time.Millisecond) // checkpoint
	d := w.store(mtakit.Durable, 300*k)
	e := w.store(mtakit.Durable, 400*k) // rotates
	w.reschedule(c[0])
	w.update(a[0])
	w.reschedule(a[0])
	w.remove(c[1], d[0])
	w.idle(1100 * time.Millisecond)
	f := w.store(mtakit.Buffered, 600*k)
	g := w.store(mtakit.Durable, 600*k, 20)
	w.remove(e[0], f[0], b[2], c[0])
	w.update(g[1])
	w.idle(1100 * time.Millisecond) // frees and copies
	w.reschedule(g[1])
	h := w.store(mtakit.Durable, 900*k)
	w.idle(2200 * time.Millisecond)
	w.remove(g[0], h[0])
	i := w.store(mtakit.Volatile, 1200*k) // larger than a segment
	var small []mtakit.ID
	for n := range 8 { // leaves segments that are mostly dead
		big := w.store(mtakit.Buffered, 400*k)
		small = append(small, w.store(mtakit.Durability(n%2), 30+n)...)
		w.reschedule(small[n])
		w.remove(big...)
		if n == 3 {
			w.reschedule(keep[0])
		}
	}
	w.update(small[2])
	w.idle(3300 * time.Millisecond)
	w.reschedule(small[0])
	w.update(small[1])
	w.remove(small[3:6]...)
	w.update(i[0])
	w.store(mtakit.Durable, 5)
	w.remove(b[1])
	w.stats = w.s.Stats()
	if w.s.Close() != nil {
		return
	}
	s, err := spool.Open("/spool", withDisk(disk))
	if err != nil {
		return
	}
	w.s = s
	w.remove(i[0])
	w.reschedule(a[0])
	w.result(w.s.Compact(context.Background()), "Compact")
	w.store(mtakit.Durable, 7, 8)
	w.idle(1100 * time.Millisecond)
	w.store(mtakit.Buffered, 9)
	_ = w.s.Close()
}

func withDisk(disk *spooltest.Disk) spool.Options {
	o := crashOptions
	o.FS = disk
	return o
}

// run plays the scenario on disk.
func run(t testing.TB, disk *spooltest.Disk, strict bool) *ledger {
	s, err := spool.Open("/spool", withDisk(disk))
	if err != nil {
		if strict {
			t.Fatal(err)
		}
		return &ledger{track: map[mtakit.ID]*track{}}
	}
	w := newWorld(t, s)
	w.strict = strict
	scenario(w, disk)
	if strict {
		if st := w.stats; st.Freed == 0 || st.Copied == 0 || st.Checkpoints < 5 || st.Segments < 2 {
			t.Errorf("the scenario misses what it is for: %+v", st)
		}
	}
	_ = w.s.Close()
	return &w.ledger
}

// reopen opens what a crash left, twice, with work between.
func reopen(t testing.TB, disk *spooltest.Disk, l *ledger, power bool) {
	t.Helper()
	s, err := spool.Open("/spool", withDisk(disk))
	if err != nil {
		t.Fatalf("Open after the crash: %v", err)
	}
	l.verify(t, s, power)
	for _, v := range l.ids { // it has settled now
		k := l.track[v]
		k.versions = []version{read(t, s, v)}
		k.acked, k.sure = 0, 0
	}
	w := newWorld(t, s)
	w.strict, w.ledger, w.src = true, *l, mtakit.IDSource{}
	w.src.New(epoch.Add(time.Hour))
	if power {
		w.store(mtakit.Durable, 20<<10)
		w.idle(1100 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Errorf("Close after the crash: %v", err)
		}
	} else { // what was found must be durable by now
		disk = disk.Crash(spooltest.LoseAll, nil)
		_ = s.Close()
	}
	if s, err = spool.Open("/spool", withDisk(disk)); err != nil {
		t.Fatalf("second Open after the crash: %v", err)
	}
	defer s.Close()
	w.ledger.verify(t, s, true)
}

func TestScenarioWithoutCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := new(spooltest.Disk)
		l := run(t, disk, true)
		reopen(t, disk, l, false)
	})
}

func count(t *testing.T) (n int) {
	synctest.Test(t, func(t *testing.T) {
		disk := new(spooltest.Disk)
		run(t, disk, true)
		n = disk.Count()
	})
	return n
}

func TestCrashAtEveryOperation(t *testing.T) {
	t.Parallel()
	all := count(t)
	for n := 1; n <= all; n += crashStep {
		for _, c := range []struct {
			name  string
			loss  spooltest.Loss
			index bool
		}{
			{"power", spooltest.LoseAll, true}, {"power, torn", spooltest.LoseSome, true}, {"killed", spooltest.LoseNone, true},
			{"power, no index", spooltest.LoseAll, false}, {"killed, no index", spooltest.LoseNone, false},
		} {
			if c.loss != spooltest.LoseAll && n%3 != 0 { // crashStep has no factor 3
				continue // a third of these will do
			}
			if failed := !t.Run(fmt.Sprintf("%d %s", n, c.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					disk := new(spooltest.Disk)
					disk.CrashAt(n)
					l := run(t, disk, false)
					after := disk.Crash(c.loss, rand.New(rand.NewPCG(uint64(n), 7)))
					if !c.index {
						if err := after.Remove("/spool/index.db"); err != nil && !errors.Is(err, fs.ErrNotExist) {
							t.Fatal(err)
						}
					}
					reopen(t, after, l, c.loss != spooltest.LoseNone)
				})
			}); failed {
				return
			}
		}
	}
}
