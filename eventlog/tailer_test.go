package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	dir, err := os.MkdirTemp("", "events")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	log, err := eventlog.Open(eventlog.Config{Dir: dir, Headers: []string{"Subject"}})
	if err != nil {
		panic(err)
	}
	log.Record(&mtakit.Record{
		Kind: mtakit.Bounce, To: []string{"nobody@example.com"}, Response: mtakit.Response{Code: 550, Text: "no such user"},
		Body: mtakit.Bytes("Subject: hello\r\n\r\nworld\r\n"),
	})
	if err := log.Flush(context.Background()); err != nil {
		panic(err)
	}

	tail, err := eventlog.OpenTailer(eventlog.TailerConfig{Dir: dir, Checkpoint: "printer", BatchLatency: time.Millisecond})
	if err != nil {
		panic(err)
	}
	defer tail.Close()
	batch, err := tail.Next(context.Background())
	if err != nil {
		panic(err)
	}
	for r, err := range batch.Records() {
		fmt.Println(r.Seq, r.Kind, r.To, r.Response, r.Headers, err)
	}
	if err := batch.Commit(); err != nil {
		panic(err)
	}
	if err := log.Close(); err != nil {
		panic(err)
	}
	// Output: 1 Bounce [nobody@example.com] 550 no such user map[Subject:hello] <nil>
}

func tail(t testing.TB, cfg eventlog.TailerConfig) *eventlog.Tailer {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	if cfg.BatchLatency == 0 {
		cfg.BatchLatency = time.Millisecond
	}
	tl, err := eventlog.OpenTailer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tl.Close(); err != nil {
			t.Error(err)
		}
	})
	return tl
}

// next collects n lines in as many batches as that takes, and returns the last batch.
func next(t testing.TB, tl *eventlog.Tailer, n int) (lines []string, last *eventlog.Batch) {
	t.Helper()
	for len(lines) < n {
		b, err := tl.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for line := range b.Lines() {
			lines = append(lines, string(line))
		}
		last = b
	}
	if len(lines) != n {
		t.Fatalf("got %d lines, want %d: %q", len(lines), n, lines)
	}
	return lines, last
}

// segment writes a complete segment of lines, or one that is being written.
func segment(t testing.TB, dir, name string, mode os.FileMode, lines ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), compress(lines...), mode); err != nil {
		t.Fatal(err)
	}
}

func compress(lines ...string) []byte {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	defer enc.Close()
	return enc.EncodeAll([]byte(strings.Join(lines, "\n")+"\n"), nil)
}

func TestTailerFollowsALog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := eventlog.Open(eventlog.Config{Dir: dir, MaxFileSize: 5000, Logger: quiet, MinFreeSpace: "0", MinFreeInodes: "0"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tl := tail(t, eventlog.TailerConfig{Dir: dir})
	var seq uint64
	for i := range 50 {
		l.Record(record(i))
		if i%10 > 6 { // some come one by one, some together
			continue
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for seq < uint64(i+1) {
			b, err := tl.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for r, err := range b.Records() {
				if err != nil || r.Seq != seq+1 {
					t.Fatalf("record %d after %d: %v", r.Seq, seq, err)
				}
				seq = r.Seq
			}
		}
	}
}

func TestTailerCheckpoint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	segment(t, dir, "1", 0o444, "a", "b", "c")
	segment(t, dir, "2", 0o444, "d", "e")
	segment(t, dir, "3", 0o644, "f")
	segment(t, dir, ".hidden", 0o444, "no")
	cfg := eventlog.TailerConfig{Dir: dir, Checkpoint: "mine", BatchSize: 2}

	patient := cfg
	patient.BatchLatency = time.Hour
	tl := tail(t, patient)
	got, b := next(t, tl, 4) // "a b", "c d": a batch spans files
	if want := []string{"a", "b", "c", "d"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	next(t, tl, 2) // not committed
	cp, err := os.ReadFile(filepath.Join(dir, ".mine"))
	if want := fmt.Sprintf(`{"file":%q,"line":1}`, filepath.Join(dir, "2")); err != nil || string(cp) != want {
		t.Errorf("checkpoint is %s, %v, want %s", cp, err, want)
	}

	got, _ = next(t, tail(t, cfg), 2)
	if want := []string{"e", "f"}; !slices.Equal(got, want) {
		t.Errorf("after the checkpoint: %q, want %q", got, want)
	}
	got, _ = next(t, tail(t, eventlog.TailerConfig{Dir: dir, Checkpoint: "mine", FromNewest: true}), 1)
	if want := []string{"f"}; !slices.Equal(got, want) {
		t.Errorf("from the newest: %q, want %q", got, want)
	}
	got, _ = next(t, tail(t, eventlog.TailerConfig{Dir: dir, Pattern: "[23]"}), 3)
	if want := []string{"d", "e", "f"}; !slices.Equal(got, want) {
		t.Errorf("by pattern: %q, want %q", got, want)
	}
	// The directory had another name, or was named in another way, when the checkpoint was made.
	for _, was := range []string{"logs", "/a/logs", "/z/logs"} {
		if err := os.WriteFile(filepath.Join(dir, ".moved"), []byte(`{"file":"`+was+`/2","line":1}`), 0o644); err != nil {
			t.Fatal(err)
		}
		got, _ = next(t, tail(t, eventlog.TailerConfig{Dir: dir, Checkpoint: "moved", BatchSize: 2}), 2)
		if want := []string{"e", "f"}; !slices.Equal(got, want) {
			t.Errorf("after a checkpoint in %s: %q, want %q", was, got, want)
		}
	}
	// The checkpoint's file is gone: on with the next.
	if err := os.Remove(filepath.Join(dir, "2")); err != nil {
		t.Fatal(err)
	}
	got, _ = next(t, tail(t, cfg), 1)
	if want := []string{"f"}; !slices.Equal(got, want) {
		t.Errorf("without the checkpoint's file: %q, want %q", got, want)
	}
}

func TestTailerPassesDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	whole := compress("a", "b", "c")
	var diag bytes.Buffer
	for name, data := range map[string][]byte{
		"1": whole[:len(whole)-6], // cut in the last frame
		"2": []byte("this is not zstd at all"),
		"3": nil,
		"4": append(slices.Clone(whole), "garbage"...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o444); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "5"), 0o755); err != nil {
		t.Fatal(err)
	}
	segment(t, dir, "6", 0o644, "end")
	tl, err := eventlog.OpenTailer(eventlog.TailerConfig{Dir: dir, Logger: slog.New(slog.NewTextHandler(&diag, nil)), BatchSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for !slices.Contains(got, "end") {
		b, err := tl.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for line := range b.Lines() {
			got = append(got, string(line))
		}
	}
	if err := tl.Close(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "c", "end"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := strings.Count(diag.String(), "damaged"); n != 3 {
		t.Errorf("%d warnings, want one each for 1, 2 and 4:\n%s", n, diag.String())
	}
}

func TestTailerWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tl := tail(t, eventlog.TailerConfig{Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tl.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next with an ended context: %v", err)
	}
	// A line that comes in pieces.
	data := compress("one line")
	f, err := os.Create(filepath.Join(dir, "1"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	go func() {
		for i := range data {
			f.Write(data[i : i+1])
		}
	}()
	if got, _ := next(t, tl, 1); got[0] != "one line" {
		t.Errorf("got %q", got)
	}
	// The file is removed while it is read: it counts as finished.
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	segment(t, dir, "2", 0o644, "next file")
	if got, _ := next(t, tl, 1); got[0] != "next file" {
		t.Errorf("got %q", got)
	}
	if _, err := eventlog.OpenTailer(eventlog.TailerConfig{Dir: filepath.Join(dir, "missing")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
}

// FuzzReadLines: a segment cut anywhere gives the lines that were flushed before the cut, and garbage does no harm.
func FuzzReadLines(f *testing.F) {
	f.Add([]byte("a\nbb\n\nccc"), uint16(20), byte(0))
	f.Add([]byte(strings.Repeat("x", 300)+"\n"), uint16(9), byte(7))
	f.Fuzz(func(t *testing.T, text []byte, cut uint16, flip byte) {
		// Each line is flushed, as the log does when it is idle; ends notes where.
		var out bytes.Buffer
		enc, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		var ends []int
		for line := range bytes.Lines(text) {
			if line[len(line)-1] != '\n' {
				break
			}
			enc.Write(line)
			enc.Flush()
			want, ends = append(want, string(line)), append(ends, out.Len())
		}
		enc.Close()
		n := min(int(cut), out.Len())
		data := slices.Clone(out.Bytes()[:n])
		if flip != 0 && n > 0 {
			data[int(flip)%n] ^= flip
		}
		var got []string
		err = eventlog.ReadLines(bytes.NewReader(data), func(line []byte) bool {
			got = append(got, string(line))
			return true
		})
		whole := 0
		for whole < len(ends) && ends[whole] <= n && (flip == 0 || ends[whole] <= int(flip)%n) {
			whole++
		}
		if len(got) < whole || !slices.Equal(got[:whole], want[:whole]) {
			t.Fatalf("cut at %d: got %q, want at least %q", n, got, want[:whole])
		}
		if flip == 0 && (n < out.Len() && n > 0) != (err != nil) {
			t.Fatalf("cut at %d of %d: error %v", n, out.Len(), err)
		}
		if flip == 0 && err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v, want io.ErrUnexpectedEOF", n, err)
		}
		// Garbage.
		eventlog.ReadLines(bytes.NewReader(text), func([]byte) bool { return true })
	})
}

// A real segment, cut at every byte.
func TestCutSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openReal(t, dir)
	name := func() string { return filepath.Join(dir, segments(t, vfs.OS, dir)[0]) }
	var sizes []int64 // after each record
	for i := range 10 {
		l.Record(record(i))
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(name())
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, st.Size())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name())
	if err != nil {
		t.Fatal(err)
	}
	for cut := range data {
		want := 0
		for want < len(sizes) && sizes[want] <= int64(cut) {
			want++
		}
		got := 0
		eventlog.ReadLines(bytes.NewReader(data[:cut]), func(line []byte) bool {
			var r mtakit.Record
			if err := r.UnmarshalJSON(line); err != nil || r.Seq != uint64(got+1) {
				t.Errorf("cut at %d: record %d: %v", cut, got, err)
			}
			got++
			return true
		})
		if got < want {
			t.Errorf("cut at %d: %d records, want %d", cut, got, want)
		}
	}
}

// onWarn calls a function at the first warning.
type onWarn struct {
	slog.Handler
	f func()
}

func (h onWarn) Handle(context.Context, slog.Record) error {
	h.f()
	return nil
}

func (h onWarn) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// A segment that can't be opened now, for lack of file descriptors perhaps, is not passed over.
func TestTailerWaitsForASegmentThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "1")
	if err := os.Symlink(name, name); err != nil {
		t.Fatal(err)
	}
	segment(t, dir, "2", 0o444, "second")
	mend := sync.OnceFunc(func() {
		segment(t, dir, ".1", 0o444, "first")
		if err := os.Rename(filepath.Join(dir, ".1"), name); err != nil {
			t.Error(err)
		}
	})
	tl := tail(t, eventlog.TailerConfig{Dir: dir, BatchSize: 1, Logger: slog.New(onWarn{slog.DiscardHandler, mend})})
	for _, want := range []string{"first", "second"} {
		if got, _ := next(t, tl, 1); got[0] != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}
