package queue_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// A tenant whose messages have one recipient has its share of the transactions beside one that came first and whose messages have a hundred, in ten
// transactions each, also when these fill the ready queue: for each transaction of the one, the other has as many as its weight, up to one turn and one message
// for every session.
func TestShare(t *testing.T) {
	t.Parallel()
	const small, large, perMessage = 200, 400, 10
	for _, tt := range []struct {
		weight, sessions, maxReady int
	}{{1, 1, 1000}, {1, 1, 20}, {3, 1, 1000}, {3, 1, 20}, {1, 4, 1000}, {5, 4, 50}} {
		t.Run(fmt.Sprintf("weight=%d sessions=%d max_ready=%d", tt.weight, tt.sessions, tt.maxReady), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				policy := pathPolicy(func(c *mtakit.PathConfig) {
					c.ConnectionLimit.N, c.MaxRecipientsPerBatch, c.MaxReady, c.MaxDeliveriesPerConnection = tt.sessions, 10, tt.maxReady, 1_000_000
				})
				policy.Settings = func(_ context.Context, q mtakit.QueueName) (*mtakit.QueueSettings, error) {
					s := mtakit.DefaultQueueSettings()
					if q.Tenant == "small" {
						s.Weight = tt.weight
					}
					return &s, nil
				}
				mta := queuetest.New(t, queuetest.Options{Policy: policy})
				mta.Peer("d.test").Wait(".", time.Second)
				inject := func(tenant string, messages, rcpts int) {
					batch := make([]mtakit.Submission, messages)
					for i := range batch {
						m := &mtakit.Message{Sender: tenant, Meta: map[string]any{mtakit.MetaTenant: tenant}}
						for j := range rcpts {
							m.To = append(m.To, fmt.Sprintf("u%d@d.test", j))
						}
						batch[i] = mtakit.Submission{Message: m, Body: mtakit.Bytes("x\r\n")}
					}
					if err := mta.Queue.Submit(t.Context(), batch, mtakit.Durable); err != nil {
						t.Fatal(err)
					}
				}
				inject("large", large, 10*perMessage)
				mta.Run(10 * time.Second)
				begin := len(mta.Peer("d.test").Received())
				inject("small", small, 1)
				mta.Drain(24 * time.Hour)
				ours, theirs := 0, 0
				allowed := perMessage*(1+tt.sessions) + tt.sessions
				for _, r := range mta.Peer("d.test").Received()[begin:] {
					if r.Sender == "small" {
						ours++
					} else {
						theirs++
					}
					switch {
					case ours == small: // the other has all from now on
						if c := mta.Queue.Census(); c.Done != small+large {
							t.Errorf("%+v", c)
						}
						return
					case theirs*tt.weight > ours+allowed*tt.weight:
						t.Fatalf("the small one has %d transactions and the other %d: by its weight %d it may have %d fewer, not %d",
							ours, theirs, tt.weight, allowed, theirs-ours/tt.weight)
					case ours > (theirs+allowed)*tt.weight:
						t.Fatalf("the large one has %d transactions and the other %d", theirs, ours)
					}
				}
				t.Errorf("the small one has %d transactions of %d", ours, small)
			})
		})
	}
}
