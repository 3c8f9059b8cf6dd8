package mtakit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/mtakit/mtakit"
)

func TestTraces(t *testing.T) {
	t.Parallel()
	var traces mtakit.Traces
	if traces.Watched() {
		t.Error("somebody watches")
	}
	all, some := traces.Watch(nil), traces.Watch(func(e *mtakit.TraceEvent) bool { return e.Meta["id"] != "b" })
	for _, text := range []string{"a", "b", "c"} {
		traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceRead, Text: text, Meta: map[string]any{"id": text}})
	}
	if !traces.Wanted(&mtakit.TraceEvent{Kind: mtakit.TraceRead, Meta: map[string]any{"id": "b"}}) {
		t.Error("nobody wants what one watches")
	}
	read := func(w *mtakit.TraceWatch) (texts string) {
		w.Close()
		for {
			e, err := w.Next(t.Context())
			if errors.Is(err, mtakit.ErrClosed) {
				return texts
			}
			if err != nil || e.Time.IsZero() {
				t.Fatal(e, err)
			}
			texts += e.Text
		}
	}
	if got := read(all) + " " + read(some); got != "abc ac" {
		t.Errorf("seen: %s", got)
	}
	if traces.Watched() {
		t.Error("somebody still watches")
	}
	w := traces.Watch(func(e *mtakit.TraceEvent) bool { return e.Kind != mtakit.TraceRead })
	if traces.Wanted(&mtakit.TraceEvent{Kind: mtakit.TraceRead}) || !traces.Wanted(&mtakit.TraceEvent{Kind: mtakit.TraceWrite}) {
		t.Error("what is wanted is not what one wants")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next with an ended context: %v", err)
	}
	traces.Close()
	for _, w := range []*mtakit.TraceWatch{w, traces.Watch(nil)} {
		if _, err := w.Next(t.Context()); !errors.Is(err, mtakit.ErrClosed) {
			t.Errorf("Next after Close: %v", err)
		}
		w.Close()
	}
	if traces.Watched() {
		t.Error("somebody watches what is closed")
	}
}

// One that does not keep up loses the oldest events, and learns how many.
func TestTracesLag(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text string
		n    int
		keep int
	}{
		"many":  {"x", 140000, 131072},
		"large": {strings.Repeat("x", 1<<20), 70, 63}, // in 64 MiB, with what an event itself takes
		"huge":  {strings.Repeat("x", 70<<20), 2, 1},
	} {
		var traces mtakit.Traces
		w := traces.Watch(nil)
		for range tt.n {
			traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceRead, Text: tt.text, Meta: map[string]any{}})
		}
		w.Close()
		e, err := w.Next(t.Context())
		if want := fmt.Sprintf("Tracer Lagged behind and missed %d events", tt.n-tt.keep); err != nil || e.Kind != mtakit.TraceDiagnostic || e.Level != slog.LevelError ||
			e.Text != want || e.Meta != nil || e.Time.IsZero() {
			t.Errorf("%s: %v, %v", name, e, err)
		}
		n := 0
		for ; ; n++ {
			if _, err := w.Next(t.Context()); err != nil {
				break
			}
		}
		if n != tt.keep {
			t.Errorf("%s: %d events are left, want %d", name, n, tt.keep)
		}
	}
}

func TestTracesConcurrent(t *testing.T) {
	t.Parallel()
	var traces mtakit.Traces
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				if traces.Watched() {
					traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceRead, Meta: map[string]any{}})
				}
			}
		})
		wg.Go(func() {
			for range 50 {
				w := traces.Watch(nil)
				traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceClosed, Meta: map[string]any{}})
				for {
					if e, err := w.Next(t.Context()); err != nil || e.Kind == mtakit.TraceClosed {
						break
					}
				}
				w.Close()
			}
		})
	}
	wg.Wait()
}

// BenchmarkTraces is what a session pays for each event: with nobody who watches, and with one who wants other sessions.
func BenchmarkTraces(b *testing.B) {
	var traces mtakit.Traces
	meta := map[string]any{"id": "x"}
	event := func() {
		if traces.Watched() {
			if e := (&mtakit.TraceEvent{Kind: mtakit.TraceRead, Meta: meta}); traces.Wanted(e) {
				e.Text = "250 ok\r\n"
				traces.Publish(e)
			}
		}
	}
	b.Run("unwatched", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			event()
		}
	})
	b.Run("others", func(b *testing.B) {
		w := traces.Watch(func(e *mtakit.TraceEvent) bool { return e.Meta["id"] == "y" })
		defer w.Close()
		b.ReportAllocs()
		for b.Loop() {
			event()
		}
	})
}
