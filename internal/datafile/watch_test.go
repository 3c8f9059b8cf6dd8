package datafile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mtakit/mtakit/internal/datafile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness watches one file whose content is the version; "broken" does not load.
type harness struct {
	file            string
	changed, failed chan string
	watched         *datafile.Watched[string]
}

func watch(t *testing.T, cfg datafile.Watch[string]) *harness {
	t.Helper()
	h := &harness{file: filepath.Join(t.TempDir(), "f.toml"), changed: make(chan string, 10), failed: make(chan string, 10)}
	h.write(t, "one")
	cfg.Files = []string{h.file}
	cfg.Load = func(context.Context) (string, error) {
		b, err := os.ReadFile(h.file)
		if string(b) == "broken" {
			err = errors.New("it is broken")
		}
		return string(b), err
	}
	cfg.Tell = func(s string, err error) {
		if err != nil {
			h.failed <- err.Error()
			return
		}
		h.changed <- s
	}
	w, err := datafile.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.watched = w
	return h
}

func (h *harness) write(t *testing.T, s string) {
	t.Helper()
	tmp := h.file + ".new" // as editors do: the watched file becomes another one
	if err := os.WriteFile(tmp, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, h.file); err != nil {
		t.Fatal(err)
	}
}

func (h *harness) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.watched.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (h *harness) expect(t *testing.T, from chan string, want string) {
	t.Helper()
	select {
	case got := <-from:
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing came, want %q", want)
	}
}

func TestWatched(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]datafile.Watch[string]{"notified": {Poll: time.Hour}, "polled": {Poll: 10 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := watch(t, cfg)
			if got := h.watched.Current(); got != "one" {
				t.Errorf("Current() = %q", got)
			}
			h.write(t, "two") // before Run listens
			h.run(t)
			h.expect(t, h.changed, "two")
			h.write(t, "broken")
			h.expect(t, h.failed, "it is broken")
			if got := h.watched.Current(); got != "two" {
				t.Errorf("Current() = %q while the file is broken", got)
			}
			h.write(t, "three")
			h.expect(t, h.changed, "three")
			if len(h.failed) > 0 {
				t.Error("the broken version was reported twice")
			}
		})
	}
}

func TestWatchedRefresh(t *testing.T) {
	t.Parallel()
	loads := make(chan struct{}, 3)
	same := func(a, b string) bool {
		select {
		case loads <- struct{}{}:
		default:
		}
		return a == b
	}
	h := watch(t, datafile.Watch[string]{Poll: time.Hour, Refresh: time.Millisecond, Same: same})
	h.run(t)
	for range cap(loads) {
		<-loads
	}
	if len(h.changed) > 0 {
		t.Error("a version that is the same was taken for a new one")
	}
}

func TestWatchedReload(t *testing.T) {
	t.Parallel()
	h := watch(t, datafile.Watch[string]{})
	h.write(t, "broken")
	if err := h.watched.Reload(t.Context()); err == nil {
		t.Error("Reload of a broken file is no error")
	}
	h.write(t, "two")
	if err := h.watched.Reload(t.Context()); err != nil || h.watched.Current() != "two" {
		t.Errorf("Reload: %v, Current() = %q", err, h.watched.Current())
	}
	_, err := datafile.Open(t.Context(), datafile.Watch[string]{Load: func(context.Context) (string, error) { return "", errors.New("no") }})
	if err == nil {
		t.Error("Open without a good version is no error")
	}
}
