package spool

import (
	"errors"
	"math"

	"github.com/mtakit/mtakit"
)

type counters struct {
	stored, removed mtakit.Counter
	frames, syncs   mtakit.Counter
	checkpoints     mtakit.Counter
	freed, copied   mtakit.Counter
	failures, fulls mtakit.Counter
	damaged, torn   mtakit.Counter
	rebuilds        mtakit.Counter
	saveLatency     *mtakit.Histogram
	loadLatency     *mtakit.Histogram
	openLatency     *mtakit.Histogram
}

func newCounters() counters {
	return counters{saveLatency: mtakit.NewHistogram(), loadLatency: mtakit.NewHistogram(), openLatency: mtakit.NewHistogram()}
}

// Stats is what a spool has and has done since Open.
type Stats struct {
	Messages   int64 // stored now
	LogBytes   int64 // of the log, with what is dead and not yet freed
	Segments   int64
	IndexBytes int64 // of memory

	Stored, Removed int64 // messages
	Frames, Syncs   int64 // written to the log, and how often it was synced: Frames/Syncs is the size of a commit
	Checkpoints     int64 // of the index
	Freed           int64 // segments
	Copied          int64 // messages that moved because their segment was mostly dead
	Failures        int64 // times that storage failed
	Fulls           int64 // times that the file system was full
	Damaged         int64 // pieces set aside
	TornBytes       int64 // cut off by Open
	Rebuilds        int64 // 1 if the index was damaged and Open has read the whole log

	DiskBytes, DiskFree   uint64 // of the file system; zero is not known
	DiskInodes, InodeFree uint64

	Err error // as Err returns it
}

// Stats takes stock. It is cheap, but not as cheap as Err.
func (s *Spool) Stats() Stats {
	c := &s.stats
	st := Stats{
		Messages: s.live.Load(), LogBytes: s.logBytes.Load(), IndexBytes: s.index.bytes(),
		Stored: c.stored.Value(), Removed: c.removed.Value(), Frames: c.frames.Value(), Syncs: c.syncs.Value(),
		Checkpoints: c.checkpoints.Value(), Freed: c.freed.Value(), Copied: c.copied.Value(), Failures: c.failures.Value(),
		Fulls: c.fulls.Value(), Damaged: c.damaged.Value(), TornBytes: c.torn.Value(), Rebuilds: c.rebuilds.Value(), Err: s.Err(),
	}
	for _, g := range *s.slots.Load() {
		if g != nil {
			st.Segments++
		}
	}
	if u := s.usage.Load(); u != nil {
		st.DiskBytes, st.DiskFree, st.DiskInodes, st.InodeFree = u.Bytes, u.Free, u.Inodes, u.FreeInodes
	}
	return st
}

var _ mtakit.Collector = (*Spool)(nil)

type metric struct {
	mtakit.MetricFamily
	value func(*Stats) float64
}

var metrics = []metric{
	disk("disk_free_bytes", "available bytes", func(st *Stats) float64 { return float64(st.DiskFree) }),
	disk("disk_free_percent", "available space, floored percent", func(st *Stats) float64 { return percent(st.DiskFree, st.DiskBytes) }),
	disk("disk_free_inodes", "available inodes", func(st *Stats) float64 { return float64(st.InodeFree) }),
	disk("disk_free_inodes_percent", "available inodes, floored percent", func(st *Stats) float64 {
		return percent(st.InodeFree, st.DiskInodes)
	}),
	gauge("spool_messages", "messages in the spool", func(st *Stats) float64 { return float64(st.Messages) }),
	gauge("spool_log_bytes", "bytes of the spool's log", func(st *Stats) float64 { return float64(st.LogBytes) }),
	gauge("spool_segments", "files of the spool's log", func(st *Stats) float64 { return float64(st.Segments) }),
	gauge("spool_index_bytes", "memory of the spool's index", func(st *Stats) float64 { return float64(st.IndexBytes) }),
	{mtakit.MetricFamily{Name: "rocks_spool_load_shed_active", Help: "0/1 spool health gate latched", Type: mtakit.GaugeType, Labels: []string{"path"}},
		func(st *Stats) float64 { return flag(errors.Is(st.Err, mtakit.ErrUnhealthy)) }},
	gauge("spool_unhealthy", "1 while storage has failed and nothing is written", func(st *Stats) float64 {
		return flag(errors.Is(st.Err, mtakit.ErrUnhealthy))
	}),
	gauge("spool_full", "1 while a limit of the spool is met", func(st *Stats) float64 {
		return flag(errors.Is(st.Err, mtakit.ErrSpoolFull))
	}),
	count("spool_stored_total", "messages stored", func(st *Stats) float64 { return float64(st.Stored) }),
	count("spool_removed_total", "messages removed", func(st *Stats) float64 { return float64(st.Removed) }),
	count("spool_frames_total", "records written to the log", func(st *Stats) float64 { return float64(st.Frames) }),
	count("spool_syncs_total", "syncs of the log", func(st *Stats) float64 { return float64(st.Syncs) }),
	count("spool_checkpoints_total", "times the index was written", func(st *Stats) float64 { return float64(st.Checkpoints) }),
	count("spool_segments_freed_total", "segments freed", func(st *Stats) float64 { return float64(st.Freed) }),
	count("spool_messages_copied_total", "messages copied out of mostly dead segments", func(st *Stats) float64 {
		return float64(st.Copied)
	}),
	count("spool_failures_total", "times that storage failed", func(st *Stats) float64 { return float64(st.Failures) }),
	count("spool_damaged_total", "damaged pieces of the log set aside", func(st *Stats) float64 { return float64(st.Damaged) }),
}

func gauge(name, help string, value func(*Stats) float64) metric {
	return metric{mtakit.MetricFamily{Name: name, Help: help, Type: mtakit.GaugeType}, value}
}

func count(name, help string, value func(*Stats) float64) metric {
	return metric{mtakit.MetricFamily{Name: name, Help: help, Type: mtakit.CounterType}, value}
}

// disk is a gauge that KumoMTA has once for each of its two spools, which here are one.
func disk(name, help string, value func(*Stats) float64) metric {
	return metric{mtakit.MetricFamily{Name: name, Help: help, Type: mtakit.GaugeType, Labels: []string{"name"}}, value}
}

// histogram returns one of the three histograms, nil if family is none.
func (s *Spool) histogram(family string) *mtakit.Histogram {
	switch family {
	case "message_save_latency":
		return s.stats.saveLatency
	case "message_meta_load_latency":
		return s.stats.loadLatency
	case "message_data_load_latency":
		return s.stats.openLatency
	}
	return nil
}

// Families implements [mtakit.Collector].
func (s *Spool) Families() []mtakit.MetricFamily {
	f := []mtakit.MetricFamily{
		{Name: "message_save_latency", Help: "spool save time", Type: mtakit.HistogramType},
		{Name: "message_meta_load_latency", Help: "metadata load time from spool", Type: mtakit.HistogramType},
		{Name: "message_data_load_latency", Help: "body load time from spool", Type: mtakit.HistogramType},
	}
	for i := range metrics {
		f = append(f, metrics[i].MetricFamily)
	}
	return f
}

// Collect implements [mtakit.Collector].
func (s *Spool) Collect(family string, yield func(mtakit.Sample) bool) {
	if h := s.histogram(family); h != nil {
		yield(mtakit.Sample{Histogram: h})
		return
	}
	for i := range metrics {
		m := &metrics[i]
		if m.Name != family {
			continue
		}
		st := s.Stats()
		v := m.value(&st)
		switch {
		case len(m.Labels) == 0:
			yield(mtakit.Sample{Value: v})
		case m.Labels[0] == "path":
			yield(mtakit.Sample{Labels: []string{s.dir}, Value: v})
		case yield(mtakit.Sample{Labels: []string{"data spool"}, Value: v}):
			yield(mtakit.Sample{Labels: []string{"meta spool"}, Value: v})
		}
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func percent(part, all uint64) float64 {
	if all == 0 {
		return 100
	}
	return math.Floor(float64(part) * 100 / float64(all))
}
