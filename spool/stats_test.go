package spool_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool"
	"github.com/mtakit/mtakit/spool/spooltest"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	disk := new(spooltest.Disk)
	disk.SetCapacity(1 << 30)
	s := open(t, "/spool", spool.Options{FS: disk, SegmentSize: 64 << 10})
	defer s.Close()
	w := newWorld(t, s)
	w.remove(w.store(mtakit.Durable, 10, 20)[0])
	got := map[string]float64{}
	for _, f := range s.Families() {
		n := 0
		s.Collect(f.Name, func(sample mtakit.Sample) bool {
			n++
			if len(sample.Labels) != len(f.Labels) {
				t.Errorf("%s: labels %v for %v", f.Name, sample.Labels, f.Labels)
			}
			if (sample.Histogram != nil) != (f.Type == mtakit.HistogramType) {
				t.Errorf("%s: type %v, histogram %v", f.Name, f.Type, sample.Histogram)
			}
			if h := sample.Histogram; h != nil {
				_, _, count, _ := h.Snapshot()
				sample.Value = float64(count)
			}
			got[strings.Join(append([]string{f.Name}, sample.Labels...), "/")] = sample.Value
			return true
		})
		if n == 0 {
			t.Errorf("%s has no series", f.Name)
		}
	}
	for name, want := range map[string]float64{
		"message_save_latency": 1, "disk_free_percent/data spool": 99, "disk_free_percent/meta spool": 99, "spool_messages": 1,
		"spool_segments": 1, "spool_stored_total": 2, "spool_removed_total": 1, "spool_syncs_total": 1, "spool_frames_total": 2,
		"spool_unhealthy": 0, "spool_full": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v %v, want %v", name, v, ok, want)
		}
	}
	if got["disk_free_bytes/data spool"] <= 0 || got["spool_log_bytes"] <= 64 {
		t.Errorf("%v", got)
	}
}

// durability is Durable now and then, since syncs take time.
func durability(i int) mtakit.Durability {
	if i%16 == 0 {
		return mtakit.Durable
	}
	return mtakit.Buffered
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("pools do not work as usual")
	}
	s := open(t, t.TempDir(), spool.Options{CheckpointInterval: time.Hour, CheckInterval: time.Hour})
	defer s.Close()
	list := make([]mtakit.ID, 500)
	for i := range list {
		list[i] = ids.New(time.Now())
	}
	m := message()
	batch := []mtakit.Submission{{Message: m, Body: mtakit.Bytes("Subject: x\r\n\r\nhello\r\n")}}
	i := 0
	run := func(what string, limit float64, f func(id mtakit.ID)) {
		i = 0
		if n := testing.AllocsPerRun(400, func() { f(list[i]); i++ }); n > limit {
			t.Errorf("%s allocates %v times, want %v", what, n, limit)
		}
	}
	for _, id := range list { // lets the tables grow
		m.ID = id
		if err := s.Store(t.Context(), batch, mtakit.Buffered); err != nil {
			t.Fatal(err)
		}
	}
	run("Reschedule", 0, func(id mtakit.ID) { _ = s.Reschedule(t.Context(), id, m.Due, 2) })
	run("Remove", 0, func(id mtakit.ID) { _ = s.Remove(t.Context(), id) })
	run("Store", 0, func(id mtakit.ID) { m.ID = id; _ = s.Store(t.Context(), batch, durability(i)) })
	run("Open", 4, func(id mtakit.ID) {
		if b, err := s.Open(t.Context(), id); err == nil {
			b.Close()
		}
	})
	run("Err", 0, func(mtakit.ID) { _ = s.Err() })
}
