package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/gcra"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// A message that is not sent costs no unit of any rate, whatever it had got by then.
func TestUnitsComeBack(t *testing.T) {
	t.Parallel()
	// Nothing comes back by itself during the test.
	rate := func(n int) mtakit.Rate { return mtakit.Rate{N: n, Per: 10000 * time.Hour} }
	const mx = "unspecified->mx.d.test@smtp_client"
	own, source, sched := "kumomta.max_message_rate."+mx, "kumomta.source_selection_rate."+mx+".unspecified", "schedq-d.test-message-rate"
	for _, tt := range []struct {
		name   string
		path   func(*mtakit.PathConfig)
		queue  mtakit.Rate // of the scheduled queue
		used   map[string]int
		peer   func(*queuetest.Peer)
		inject int
		rcpts  int  // of each message, default 1
		apart  bool // each when the one before it has been sent
		sent   int
		rates  map[string]mtakit.Rate
		left   map[string]int
	}{
		{
			name: "the tight one refuses",
			path: func(c *mtakit.PathConfig) {
				c.AdditionalMessageRateThrottles = mtakit.NamedRates{{Name: "loose", Rate: rate(50)}}
			},
			rates:  map[string]mtakit.Rate{own: rate(3), "loose": rate(50)},
			inject: 10, sent: 3, left: map[string]int{own: 0, "loose": 47},
		},
		{
			name: "the loose one, which others use, refuses",
			path: func(c *mtakit.PathConfig) {
				c.AdditionalMessageRateThrottles = mtakit.NamedRates{{Name: "loose", Rate: rate(50)}}
			},
			rates:  map[string]mtakit.Rate{own: rate(20), "loose": rate(50)},
			used:   map[string]int{"loose": 47},
			inject: 10, sent: 3, left: map[string]int{own: 17, "loose": 0},
		},
		{
			name: "source selection",
			path: func(c *mtakit.PathConfig) {
				c.AdditionalSourceSelectionRates = mtakit.NamedRates{{Name: "loose", Rate: rate(50)}}
			},
			rates:  map[string]mtakit.Rate{source: rate(20), "loose": rate(50)},
			used:   map[string]int{"loose": 47},
			inject: 10, sent: 3, left: map[string]int{source: 17, "loose": 0},
		},
		{
			name:  "a connection ends that another message was announced on",
			rates: map[string]mtakit.Rate{own: rate(20)},
			peer: func(p *queuetest.Peer) {
				p.HangUp(".").Times(3)
				p.Wait("CONNECT", 0).Times(3)
				p.HangUp("CONNECT")
			},
			// Each of the three was attempted, the one announced after it was not.
			inject: 10, sent: 0, left: map[string]int{own: 17},
		},
		{
			name:  "a connection ends that the next batch of the message was announced on",
			rates: map[string]mtakit.Rate{own: rate(20)},
			path:  func(c *mtakit.PathConfig) { c.MaxRecipientsPerBatch = 1 },
			peer: func(p *queuetest.Peer) {
				p.HangUp(".").Times(1)
				p.Wait("CONNECT", 0).Times(1)
				p.HangUp("CONNECT")
			},
			inject: 1, rcpts: 3, sent: 0, left: map[string]int{own: 19},
		},
		{
			name:  "an idle connection that the peer has closed",
			rates: map[string]mtakit.Rate{own: rate(20)},
			peer: func(p *queuetest.Peer) {
				p.Wait("IDLE", 0).Times(1)
				p.HangUp("IDLE")
				p.Wait("CONNECT", 0).Times(1)
				p.HangUp("CONNECT")
			},
			inject: 2, apart: true, sent: 1, left: map[string]int{own: 19},
		},
		{
			name:  "the ready queue is full",
			path:  func(c *mtakit.PathConfig) { c.MaxReady = 2 },
			queue: rate(20), rates: map[string]mtakit.Rate{sched: rate(20)},
			peer:   func(p *queuetest.Peer) { p.Wait(".", 1000*time.Hour) },
			inject: 10, sent: 0, left: map[string]int{sched: 16}, // one is sent, one announced, two wait
		},
		{
			name:  "no source may be selected",
			queue: rate(20), rates: map[string]mtakit.Rate{sched: rate(20), source: rate(3)},
			inject: 10, sent: 3, left: map[string]int{sched: 17, source: 0},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				set := mtakit.DefaultQueueSettings()
				set.MaxMessageRate, set.MaxAge = tt.queue, mtakit.Duration(time.Hour)
				policy := pathPolicy(func(c *mtakit.PathConfig) {
					c.MaxMessageRate, c.SourceSelectionRate, c.ConnectionLimit.N = tt.rates[own], tt.rates[source], 1
					if tt.path != nil {
						tt.path(c)
					}
				})
				policy.Settings = settingsPolicy(&set)
				throttles := gcra.NewStore()
				for name, n := range tt.used {
					if _, err := throttles.Take(t.Context(), name, tt.rates[name], n); err != nil {
						t.Fatal(err)
					}
				}
				mta := queuetest.New(t, queuetest.Options{Policy: policy, Change: func(c *queue.Config) { c.Throttles = throttles }})
				if tt.peer != nil {
					tt.peer(mta.Peer("d.test"))
				}
				for range tt.inject {
					mta.Submit(&mtakit.Message{Sender: "a@x.test", To: slices.Repeat([]string{"b@d.test"}, max(tt.rcpts, 1))}, "x\r\n")
					if tt.apart {
						mta.Settle()
					}
				}
				mta.Run(30 * time.Second)
				if n := len(mta.Peer("d.test").Received()); n != tt.sent {
					t.Errorf("%d messages arrived, want %d", n, tt.sent)
				}
				for name, want := range tt.left {
					if got := unitsLeft(t, throttles, name, tt.rates[name]); got != want {
						t.Errorf("%d units of %s are left, want %d", got, name, want)
					}
				}
			})
		})
	}
}

// unitsLeft takes all there are.
func unitsLeft(t *testing.T, th mtakit.Throttles, key string, r mtakit.Rate) (n int) {
	for {
		wait, err := th.Take(t.Context(), key, r, 1)
		if err != nil {
			t.Fatal(err)
		}
		if wait > 0 {
			return n
		}
		n++
	}
}

// keeper is Throttles that take nothing back, or fail to.
type keeper struct {
	mtakit.Throttles
	err error
}

// failingRefunder is a keeper that is asked.
type failingRefunder struct{ keeper }

func (f failingRefunder) Refund(context.Context, string, mtakit.Rate, int) error { return f.err }

// Throttles that take nothing back only lose units.
func TestThrottlesThatKeep(t *testing.T) {
	t.Parallel()
	for i, wrap := range []func(mtakit.Throttles) mtakit.Throttles{
		func(th mtakit.Throttles) mtakit.Throttles { return keeper{Throttles: th} },
		func(th mtakit.Throttles) mtakit.Throttles {
			return failingRefunder{keeper{th, errors.New("no connection")}}
		},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mta := queuetest.New(t, queuetest.Options{
					Policy: pathPolicy(func(c *mtakit.PathConfig) {
						c.MaxMessageRate = mtakit.Rate{N: 5, Per: time.Minute}
						c.AdditionalMessageRateThrottles = mtakit.NamedRates{{Name: "loose", Rate: mtakit.Rate{N: 8, Per: time.Minute}}}
					}),
					Change: func(c *queue.Config) { c.Throttles = wrap(gcra.NewStore()) },
				})
				for range 40 {
					mta.Inject("a@x.test", "b@d.test", "x\r\n")
				}
				mta.Drain(3 * time.Hour)
				if n := len(mta.Peer("d.test").Received()); n != 40 {
					t.Errorf("%d messages arrived", n)
				}
			})
		})
	}
}

// A session that waits for work when a rate lets its ready queue go on takes what there is.
func TestReopenWakesIdleSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) {
			c.MaxMessageRate, c.IdleTimeout, c.MaxDeliveriesPerConnection = mtakit.Rate{N: 2, Per: 200 * time.Second}, mtakit.Duration(30*time.Second), 1
		})})
		peer := mta.Peer("d.test")
		peer.Wait(".", 50*time.Second).Times(1) // its session finds that the rate is used up
		peer.Wait(".", 80*time.Second).Times(1) // and the other one that nothing may leave
		start := time.Now()
		for range 3 {
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
			mta.Settle()
		}
		mta.Drain(time.Hour)
		all := peer.Received()
		if at := all[len(all)-1].Time.Sub(start); len(all) != 3 || at > 101*time.Second {
			t.Errorf("the last of %d messages is sent after %v, want the 100s that the rate asks for", len(all), at)
		}
	})
}

// never is Throttles that give nothing, ever.
type never struct {
	mtakit.Throttles
	asked atomic.Int32
}

func (n *never) Take(context.Context, string, mtakit.Rate, int) (time.Duration, error) {
	if n.asked.Add(1) > 1000 {
		panic("asked again and again")
	}
	return math.MaxInt64, nil
}

// A rate that allows nothing for longer than time can be told is not asked again and again.
func TestForever(t *testing.T) {
	t.Parallel()
	for _, sched := range []bool{false, true} {
		t.Run(fmt.Sprintf("scheduled %v", sched), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				set, rate := mtakit.DefaultQueueSettings(), mtakit.Rate{N: 1, Per: time.Hour}
				policy := pathPolicy(func(c *mtakit.PathConfig) { c.MaxMessageRate = rate })
				if sched {
					set.MaxMessageRate = rate
				}
				policy.Settings = settingsPolicy(&set)
				throttles := &never{Throttles: gcra.NewStore()}
				mta := queuetest.New(t, queuetest.Options{Policy: policy, Change: func(c *queue.Config) { c.Throttles = throttles }})
				mta.Run(time.Second)
				mta.Inject("a@x.test", "b@d.test", "x\r\n")
				mta.Run(time.Hour)
				if n := throttles.asked.Load(); n == 0 || n > 100 {
					t.Errorf("asked %d times in an hour", n)
				}
			})
		})
	}
}
