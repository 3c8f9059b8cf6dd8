package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
)

// lockedBuffer is what a process writes, read while it does.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func contextFor(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// readLog reads the segments in dir, also those that are still written, as far as they are.
func readLog(t testing.TB, dir string) (records []mtakit.Record) {
	t.Helper()
	eachRecord(t, dir, func(r *mtakit.Record) { records = append(records, *r) })
	return records
}

// eachRecord is readLog for a log that is too large for memory.
func eachRecord(t testing.TB, dir string, f func(*mtakit.Record)) {
	t.Helper()
	// A tailer waits for more: a last segment of our own tells it where the end is.
	const marker = "zzz-end"
	copied := t.TempDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name()[0] == '.' {
			continue
		}
		from, to := filepath.Join(dir, e.Name()), filepath.Join(copied, e.Name())
		if info, err := e.Info(); err == nil && info.Mode()&0o222 == 0 && os.Link(from, to) == nil {
			continue // it is finished
		}
		b, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(to, b, 0o444)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	end, err := eventlog.Open(eventlog.Config{Dir: filepath.Join(copied, "end"), MinFreeSpace: "0", MinFreeInodes: "0"})
	if err != nil {
		t.Fatal(err)
	}
	end.Record(&mtakit.Record{Kind: mtakit.Delayed, Sender: marker})
	if err := end.Close(); err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(filepath.Join(copied, "end", "2*"))
	if err != nil || len(made) != 1 {
		t.Fatalf("%v, %v", made, err)
	}
	if err := os.Rename(made[0], filepath.Join(copied, marker)); err != nil {
		t.Fatal(err)
	}
	tail, err := eventlog.OpenTailer(eventlog.TailerConfig{Dir: copied, BatchLatency: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	for {
		b, err := tail.Next(t.Context())
		if err != nil {
			t.Fatalf("reading %s: %v", dir, err)
		}
		for r, err := range b.Records() {
			if err != nil {
				t.Fatal(err)
			}
			if r.Sender == marker {
				return
			}
			f(&r)
		}
	}
}

// streams checks that the numbers of each stream go from 1 on without a gap.
type streams map[string]uint64

func (next streams) check(t testing.TB, r *mtakit.Record) {
	t.Helper()
	want := next[r.Stream] + 1
	if r.Seq > want {
		t.Errorf("stream %s: records %d to %d are missing", r.Stream, want, r.Seq-1)
	}
	next[r.Stream] = max(next[r.Stream], r.Seq)
}

// attempts checks that each message was tried at its times: attempt n+1 not before the interval after attempt n.
type attempts struct {
	interval time.Duration
	last     map[mtakit.ID]attempt
	early    int // came before their time
	again    int // have the number of the one before: that was being written down at a kill
}

type attempt struct {
	tries int
	at    int64 // Unix milliseconds
}

func (a *attempts) check(t testing.TB, r *mtakit.Record) {
	t.Helper()
	if r.Kind != mtakit.TransientFailure && r.Kind != mtakit.Delivered {
		return
	}
	if a.last == nil {
		a.last = map[mtakit.ID]attempt{}
	}
	before, ok := a.last[r.ID]
	a.last[r.ID] = attempt{r.Tries, r.Time.UnixMilli()}
	switch {
	case !ok && r.Tries != 0:
		t.Errorf("first attempt of %s has number %d", r.ID, r.Tries)
	case ok && r.Tries == before.tries:
		a.again++
	case ok && r.Tries != before.tries+1:
		t.Errorf("attempt %d of %s follows attempt %d", r.Tries, r.ID, before.tries)
	case ok && r.Time.UnixMilli()-before.at < (a.interval-a.interval/40-time.Second).Milliseconds(): // with jitter, in whole seconds
		a.early++
	}
}

// report fails the test if attempts came too early, or more were repeated than can have been in flight.
func (a *attempts) report(t testing.TB, inFlight int) {
	t.Helper()
	if a.early > 0 {
		t.Errorf("%d attempts came before their time", a.early)
	}
	if a.again > inFlight {
		t.Errorf("%d attempts were repeated; at most %d were in flight", a.again, inFlight)
	}
	t.Logf("%d attempts repeated (most: %d)", a.again, inFlight)
}
