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
	// The last record of the last segment is where to stop; to find the end without one, a marker segment is put behind all others.
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
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(copied, e.Name()), b, 0o444)
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
	ctx, cancel := contextFor(t, 2*time.Minute)
	defer cancel()
	for {
		b, err := tail.Next(ctx)
		if err != nil {
			t.Fatalf("reading %s: %v", dir, err)
		}
		for r, err := range b.Records() {
			if err != nil {
				t.Fatal(err)
			}
			if r.Sender == marker {
				return records
			}
			records = append(records, r)
		}
	}
}

// checkStreams checks that the numbers of each stream go from 1 on without a gap.
func checkStreams(t testing.TB, records []mtakit.Record) {
	t.Helper()
	next := map[string]uint64{}
	for i := range records {
		r := &records[i]
		want := next[r.Stream] + 1
		if r.Seq > want {
			t.Errorf("stream %s: records %d to %d are missing", r.Stream, want, r.Seq-1)
		}
		next[r.Stream] = max(next[r.Stream], r.Seq)
	}
}
