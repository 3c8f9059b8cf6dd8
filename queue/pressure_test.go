package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/pressure"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// machine is a system on which the process uses so many of 100 pages.
type machine struct{ pages atomic.Int64 }

func (m *machine) Open(name string) (fs.File, error) {
	return fstest.MapFS{"proc/self/statm": {Data: fmt.Appendf(nil, "0 %d", m.pages.Load())}}.Open(name)
}

// memory is to be low from 81 pages on, and used up at 100.
func (m *machine) memory(t *testing.T) *pressure.Memory {
	mem, err := pressure.New(pressure.Config{
		Soft: 100 * int64(os.Getpagesize()), Hard: 1000 * int64(os.Getpagesize()), Root: m, Getenv: func(string) string { return "" },
	})
	if err != nil {
		t.Fatal(err)
	}
	return mem
}

// When memory gets short, bodies go first, then envelopes, and never a message; what was never saved is saved, once, and then goes too. New messages are not
// kept in memory, and none are accepted when there is none left. Afterwards everything is as before, and all is delivered once.
func TestMemoryPressure(t *testing.T) {
	t.Parallel()
	const ready, due, inHand = 10, 30, 2 // one is sent, one announced
	for _, tt := range []struct {
		name       string
		durability mtakit.Durability
		broken     bool // the spool takes nothing while memory is short
		stores     int  // calls of Store that are expected in all
	}{
		{"durable", mtakit.Durable, false, ready + due + inHand},
		{"volatile", mtakit.Volatile, false, ready + due},
		{"volatile, on a broken disk", mtakit.Volatile, true, 2 * (ready + due)}, // once when it gets low, once when there is none
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var sys machine
				var stores atomic.Int32
				var broken atomic.Bool
				spool := &spooltest.Memory{Before: func(method string, _ mtakit.ID) error {
					if method == "Store" {
						stores.Add(1)
						if broken.Load() {
							return errors.New("broken disk")
						}
					}
					return nil
				}}
				mta := queuetest.New(t, queuetest.Options{
					Spool: spool,
					Policy: pathPolicy(func(c *mtakit.PathConfig) {
						c.ConnectionLimit.N, c.MaxReady, c.LowMemoryReductionPolicy = 1, ready, mtakit.ShrinkData
					}),
					Change: func(c *queue.Config) { c.MaxResident = 256 << 20; c.SetMemory(sys.memory(t)) },
				})
				mta.Peer("d.test").Wait("CONNECT", time.Second).Times(1) // until all messages are there
				mta.Peer("d.test").Wait(".", 30*time.Minute).Times(1)
				text := "Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 1000)
				for range ready + due + inHand {
					if _, err := mta.TrySubmit(&mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}}, text, tt.durability); err != nil {
						t.Fatal(err)
					}
				}
				want := func(when string, bodies, envelopes int) {
					t.Helper()
					mta.Run(4 * time.Second)
					if b, e := mta.Queue.InMemory(); int(b) != bodies || int(e) != envelopes {
						t.Errorf("%s: %d bodies and %d envelopes are in memory, want %d and %d", when, b, e, bodies, envelopes)
					}
					if c := mta.Queue.Census(); c.Ready+c.Waiting != ready+due || c.Ready == 0 || c.Done != 0 {
						t.Errorf("%s: %+v", when, c)
					}
				}
				const all = ready + due + inHand
				want("at first", all, all)
				broken.Store(tt.broken)
				sys.pages.Store(85)
				if tt.broken {
					want("low", all, all)
				} else {
					want("low", inHand, all)
				}
				sys.pages.Store(100)
				if tt.broken {
					want("none", all, all)
				} else {
					want("none", inHand, inHand)
				}
				if _, err := mta.TrySubmit(&mtakit.Message{To: []string{"b@d.test"}}, text, tt.durability); !errors.Is(err, mtakit.ErrOverloaded) {
					t.Errorf("a new message: %v", err)
				}
				mta.Run(5 * time.Minute)
				if n := int(stores.Load()); n != tt.stores {
					t.Errorf("Store is called %d times, want %d", n, tt.stores)
				}
				broken.Store(false)
				sys.pages.Store(90)
				mta.Run(4 * time.Second)
				before, _ := mta.Queue.InMemory()
				mta.Inject("a@x.test", "b@d.test", text)
				mta.Settle()
				if n, _ := mta.Queue.InMemory(); n != before {
					t.Errorf("a new message is kept in memory, which is low: %d bodies, %d before", n, before)
				}
				sys.pages.Store(10)
				mta.Drain(2 * time.Hour)
				if n := len(mta.Peer("d.test").Received()); n != all+1 {
					t.Errorf("%d messages arrived, want %d", n, all+1)
				}
				if b, e := mta.Queue.InMemory(); b != 0 || e != 0 {
					t.Errorf("at the end %d bodies and %d envelopes are in memory", b, e)
				}
			})
		})
	}
}

// What policy has changed on the way into the ready queue, and is not in the spool as it is now, is saved when there is no memory, and let go as well.
func TestMemoryPressureOfChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sys machine
		spool := new(spooltest.Memory)
		policy := pathPolicy(func(c *mtakit.PathConfig) { c.ConnectionLimit.N = 1 })
		policy.Ready = func(_ context.Context, m *mtakit.Message) error {
			m.Meta = map[string]any{"x_seen": "yes"}
			return nil
		}
		mta := queuetest.New(t, queuetest.Options{
			Spool: spool, Policy: policy, Change: func(c *queue.Config) { c.MaxResident = 256 << 20; c.SetMemory(sys.memory(t)) },
		})
		mta.Peer("d.test").Wait("CONNECT", time.Second).Times(1) // until all messages are there
		mta.Peer("d.test").Wait(".", 30*time.Minute).Times(1)
		var last mtakit.ID
		for range 10 {
			last = mta.Inject("a@x.test", "b@d.test", "x\r\n")
		}
		mta.Run(4 * time.Second)
		sys.pages.Store(100)
		mta.Run(4 * time.Second)
		if b, e := mta.Queue.InMemory(); b != 2 || e != 2 { // one is sent, one announced
			t.Errorf("%d bodies and %d envelopes are in memory", b, e)
		}
		if m, err := spool.Load(t.Context(), last); err != nil || m.Meta["x_seen"] != "yes" {
			t.Errorf("%+v, %v: the change is lost", m, err)
		}
		sys.pages.Store(10)
		mta.Drain(2 * time.Hour)
		if n := len(mta.Peer("d.test").Received()); n != 10 {
			t.Errorf("%d messages arrived", n)
		}
	})
}
