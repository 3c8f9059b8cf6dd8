package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// faults are what can go wrong in a callback. Each is made a few times, then the callback behaves.
var faults = map[string]func() error{
	"panics": func() error { panic("oh no") },
	"blocks": func() error { time.Sleep(10 * time.Minute); return nil }, // long after the timeout
	"fails":  func() error { return errors.New("no database") },
}

// TestBadCallbacks has each hook panic, block and fail: the message is put off, and delivered once in the end.
func TestBadCallbacks(t *testing.T) {
	t.Parallel()
	set := mtakit.DefaultQueueSettings()
	set.EgressPool = "pool"
	path := mtakit.DefaultPathConfig()
	pool := &mtakit.Pool{Name: "pool", Entries: []mtakit.PoolEntry{{Name: "source", Weight: 1}}}
	for _, hook := range []string{"Settings", "Pool", "Source", "Path", "Ready", "Retry", "Rewrite", "Enumerated", "Router", "Connect", "Send", "Rebind", "DeferredInject"} {
		for name, fault := range faults {
			t.Run(hook+" "+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var calls atomic.Int32
					var armed atomic.Bool
					bad := func(h string) error {
						if h != hook || !armed.Load() || calls.Add(1) > 2 {
							return nil
						}
						return fault()
					}
					policy := queue.Policy{
						Settings: func(context.Context, mtakit.QueueName) (*mtakit.QueueSettings, error) { return &set, bad("Settings") },
						Pool:     func(context.Context, string) (*mtakit.Pool, error) { return pool, bad("Pool") },
						Source: func(_ context.Context, name string) (*mtakit.Source, error) {
							return &mtakit.Source{Name: name}, bad("Source")
						},
						Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) {
							return &path, bad("Path")
						},
						Ready:          func(context.Context, *mtakit.Message) error { return bad("Ready") },
						Retry:          func(context.Context, *mtakit.Message, queue.Failure) error { return bad("Retry") },
						Rewrite:        func(context.Context, mtakit.QueueName, mtakit.Response) int { bad("Rewrite"); return 0 },
						Enumerated:     func(context.Context, *mtakit.Message) error { return bad("Enumerated") },
						Rebind:         func(context.Context, *mtakit.Message, map[string]string) error { return bad("Rebind") },
						DeferredInject: func(context.Context, *mtakit.Message) error { return bad("DeferredInject") },
					}
					mta := queuetest.New(t, queuetest.Options{Policy: policy, Change: func(c *queue.Config) {
						c.CallbackTimeout = 10 * time.Second
						route := c.Router.Route
						c.Router = mtakit.RouterFunc(func(ctx context.Context, domain string) (*mtakit.Site, error) {
							if err := bad("Router"); err != nil {
								return nil, err
							}
							return route(ctx, domain)
						})
						connect := c.Egress.Connect
						c.Egress = mtakit.EgressFunc(func(ctx context.Context, p *mtakit.Path) (mtakit.Session, error) {
							if err := bad("Connect"); err != nil {
								return nil, err
							}
							s, err := connect(ctx, p)
							return &badSession{s, func() error { return bad("Send") }}, err
						})
					}})
					peer := mta.Peer("d.test")
					peer.Reply("MAIL", "451 later").Times(2) // so that Retry and Rewrite are asked
					armed.Store(true)
					meta := map[string]any{}
					if hook == "DeferredInject" {
						meta[mtakit.MetaQueue] = mtakit.DeferredInjectQueue
					}
					m := func() *mtakit.Message {
						return &mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}, Meta: meta}
					}
					_, err := mta.TrySubmit(m(), "x\r\n", mtakit.Durable)
					if hook == "Settings" {
						if err == nil {
							t.Fatal("Submit succeeded without settings")
						}
						mta.Run(time.Hour)
						mta.WantRecords()
						mta.Restart() // nothing is in the spool
						mta.WantRecords()
						calls.Store(100)
						_, err = mta.TrySubmit(m(), "x\r\n", mtakit.Durable)
					}
					if err != nil {
						t.Fatal(err)
					}
					mta.Run(5 * time.Minute)
					switch hook {
					case "Enumerated":
						mta.Restart()
					case "Rebind":
						mta.Queue.Rebind(queue.Rebind{Ask: true})
					}
					mta.Drain(24 * time.Hour)
					if n := len(peer.Received()); n != 1 {
						t.Errorf("received %d times\n%s", n, mta.Log())
					}
					if calls.Load() == 0 {
						t.Errorf("%s was never called", hook)
					}
				})
			})
		}
	}
}

// A message that waits may be given another time when it is found in the spool.
func TestEnumeratedChangesTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{Enumerated: func(_ context.Context, m *mtakit.Message) error {
			m.Due = m.Due.Add(time.Hour)
			return nil
		}}})
		due := time.Now().Add(time.Hour)
		mta.Submit(&mtakit.Message{To: []string{"b@d.test"}, Due: due}, "x\r\n")
		mta.Restart()
		mta.Drain(3 * time.Hour)
		if all := mta.Peer("d.test").Received(); len(all) != 1 || all[0].Time.Before(due.Add(time.Hour)) {
			t.Errorf("received %+v, want one message after %v", all, due.Add(time.Hour))
		}
	})
}

// badSession is a session that fails in its own ways.
type badSession struct {
	mtakit.Session
	bad func() error
}

func (s *badSession) Send(ctx context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	if err := s.bad(); err != nil {
		return err
	}
	return s.Session.Send(ctx, d, next)
}

// TestNonsense is answers that make no sense.
func TestNonsense(t *testing.T) {
	t.Parallel()
	type policy = queue.Policy
	for _, c := range []struct {
		name   string
		policy func(*policy, *mtakit.QueueSettings)
		want   []mtakit.Kind // nil: delivered at once
		refuse bool          // by Submit
	}{
		{name: "settings nil", policy: func(p *policy, _ *mtakit.QueueSettings) {
			p.Settings = func(context.Context, mtakit.QueueName) (*mtakit.QueueSettings, error) { return nil, nil }
		}},
		{name: "settings zero", refuse: true, policy: func(p *policy, s *mtakit.QueueSettings) { *s = mtakit.QueueSettings{} }},
		{name: "settings negative", refuse: true, policy: func(p *policy, s *mtakit.QueueSettings) { s.MaxAge = -1 }},
		{name: "hosts unreadable", refuse: true, policy: func(p *policy, s *mtakit.QueueSettings) {
			s.Protocol.SMTP = &mtakit.SMTPProtocol{MXList: []mtakit.MXListEntry{{Name: "not a host:name"}}}
		}},
		{name: "pool unknown", policy: func(p *policy, s *mtakit.QueueSettings) {
			s.EgressPool = "x"
			p.Pool = func(context.Context, string) (*mtakit.Pool, error) { return nil, nil }
		}, want: []mtakit.Kind{"TransientFailure"}},
		{name: "weights negative", policy: func(p *policy, s *mtakit.QueueSettings) {
			s.EgressPool = "x"
			p.Pool = func(context.Context, string) (*mtakit.Pool, error) {
				return &mtakit.Pool{Entries: []mtakit.PoolEntry{{Name: "a", Weight: -5}}}, nil
			}
		}, want: []mtakit.Kind{"TransientFailure"}},
		{name: "source unknown", policy: func(p *policy, s *mtakit.QueueSettings) {
			s.EgressPool = "x"
			p.Pool = func(context.Context, string) (*mtakit.Pool, error) {
				return &mtakit.Pool{Entries: []mtakit.PoolEntry{{Name: "a", Weight: 1}}}, nil
			}
			p.Source = func(context.Context, string) (*mtakit.Source, error) { return nil, nil }
		}, want: []mtakit.Kind{"TransientFailure"}},
		{name: "path zero", policy: func(p *policy, _ *mtakit.QueueSettings) {
			p.Path = func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) {
				return &mtakit.PathConfig{}, nil
			}
		}},
		{name: "path nil", policy: func(p *policy, _ *mtakit.QueueSettings) {
			p.Path = func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) { return nil, nil }
		}},
		{name: "ready takes the recipients", policy: func(p *policy, _ *mtakit.QueueSettings) {
			once := true
			p.Ready = func(_ context.Context, m *mtakit.Message) error {
				if once {
					once, m.To = false, nil
				}
				return nil
			}
		}, want: []mtakit.Kind{"Delayed"}},
		{name: "ready takes the id", policy: func(p *policy, _ *mtakit.QueueSettings) {
			once := true
			p.Ready = func(_ context.Context, m *mtakit.Message) error {
				if once {
					once, m.ID = false, mtakit.ID{}
				}
				return nil
			}
		}, want: []mtakit.Kind{"Delayed"}},
		{name: "ready delays into the past", policy: func(p *policy, _ *mtakit.QueueSettings) {
			n := 0
			p.Ready = func(context.Context, *mtakit.Message) error {
				if n++; n < 10 {
					return &mtakit.Delay{For: -time.Hour}
				}
				return nil
			}
		}, want: []mtakit.Kind{"Delayed", "Delayed", "Delayed", "Delayed", "Delayed", "Delayed", "Delayed", "Delayed", "Delayed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				set := mtakit.DefaultQueueSettings()
				p := queue.Policy{Settings: settingsPolicy(&set)}
				c.policy(&p, &set)
				mta := queuetest.New(t, queuetest.Options{Policy: p})
				_, err := mta.TrySubmit(&mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}}, "x\r\n", mtakit.Durable)
				if c.refuse {
					if err == nil {
						t.Error("accepted")
					}
					mta.WantRecords()
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				mta.Settle()
				want := append([]mtakit.Kind{"Reception"}, c.want...)
				if len(c.want) == 0 || c.want[0] == "Delayed" {
					mta.Run(time.Hour)
					want = append(want, "Delivery")
				}
				mta.WantRecords(want...)
			})
		})
	}
}

// scripted is a session that answers with whatever results it is given.
type scripted struct {
	results func(*mtakit.Delivery) error
}

func (s scripted) Send(_ context.Context, d *mtakit.Delivery, _ func() *mtakit.Delivery) error {
	return s.results(d)
}
func (s scripted) Info() *mtakit.SessionInfo { return &mtakit.SessionInfo{} }
func (s scripted) Close() error              { return nil }

// TestBadSessions is sessions that don't do what Session says: no recipient is taken for delivered without an answer.
func TestBadSessions(t *testing.T) {
	t.Parallel()
	result := func(n, code int) mtakit.Result {
		return mtakit.Result{Rcpt: n, Response: mtakit.Response{Code: code, Text: fmt.Sprint(code)}}
	}
	for _, c := range []struct {
		name string
		send func(*mtakit.Delivery) error
		want []mtakit.Kind
	}{
		{"no results", func(*mtakit.Delivery) error { return nil }, []mtakit.Kind{"TransientFailure"}},
		{"one of two", func(d *mtakit.Delivery) error {
			d.Results = append(d.Results, result(0, 250))
			return nil
		}, []mtakit.Kind{"Delivery", "TransientFailure"}},
		{"one of two twice", func(d *mtakit.Delivery) error {
			d.Results = append(d.Results, result(1, 250), result(1, 550))
			return nil
		}, []mtakit.Kind{"Delivery", "TransientFailure"}},
		{"recipients that don't exist", func(d *mtakit.Delivery) error {
			d.Results = append(d.Results, result(-1, 250), result(2, 250), result(99, 550))
			return nil
		}, []mtakit.Kind{"TransientFailure"}},
		{"codes that don't exist", func(d *mtakit.Delivery) error {
			d.Results = append(d.Results, result(0, 0), result(1, 999))
			return nil
		}, []mtakit.Kind{"TransientFailure", "TransientFailure"}},
		{"results and an error", func(d *mtakit.Delivery) error {
			d.Results = append(d.Results, result(0, 250), result(1, 550))
			return errors.New("then the line went dead")
		}, []mtakit.Kind{"Delivery", "Bounce"}},
		{"a panic", func(*mtakit.Delivery) error { panic("oh no") }, []mtakit.Kind{"Delayed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mta := queuetest.New(t, queuetest.Options{Change: func(cfg *queue.Config) {
					cfg.Egress = mtakit.EgressFunc(func(context.Context, *mtakit.Path) (mtakit.Session, error) { return scripted{c.send}, nil })
				}})
				mta.Submit(&mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test", "c@d.test"}}, "x\r\n")
				mta.Settle()
				mta.WantRecords(append([]mtakit.Kind{"Reception"}, c.want...)...)
			})
		})
	}
}

// faithful is a session whose host fails at each message and is there again at once.
type faithful struct {
	scripted
	redials int
}

func (f *faithful) Redial(context.Context) error {
	if f.redials++; f.redials > 100 {
		return errors.New("enough")
	}
	return nil
}

// A host that fails at each message is not the next host, even if the strategy is to go on with it.
func TestNextHostIsAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		policy := pathPolicy(func(c *mtakit.PathConfig) {
			c.TryNextHostOnTransportError, c.ReconnectStrategy, c.ConnectionLimit.N = true, mtakit.ReconnectSameHost, 1
		})
		mta := queuetest.New(t, queuetest.Options{Policy: policy, Change: func(cfg *queue.Config) {
			cfg.Egress = mtakit.EgressFunc(func(context.Context, *mtakit.Path) (mtakit.Session, error) {
				return &faithful{scripted: scripted{func(*mtakit.Delivery) error { return errors.New("reset by peer") }}}, nil
			})
		}})
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Settle()
		mta.WantRecords("Reception", "TransientFailure")
	})
}

// What the peer says may be turned into another code, and so may what we say for it; but not that it says nothing.
func TestRewrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ reply, want string }{
		{"451 4.7.1 later", "550 4.7.1 later (kumomta: status was rewritten from 451 -> 550)"},
		{"421 4.3.2 bye", "550 4.3.2 bye (kumomta: status was rewritten from 421 -> 550)"},
		{"554 5.6.3 KumoMTA internal: DATA is 8bit", "550 5.6.3 KumoMTA internal: DATA is 8bit (kumomta: status was rewritten from 554 -> 550)"},
		{"421 4.4.2 KumoMTA internal: failed to send message to x: Timed Out waiting 5m for response to .",
			"421 4.4.2 KumoMTA internal: failed to send message to x: Timed Out waiting 5m for response to ."},
		{"250 ok", "250 ok"},
	} {
		t.Run(c.reply, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
					Rewrite: func(context.Context, mtakit.QueueName, mtakit.Response) int { return 550 },
				}})
				mta.Peer("d.test").Reply(".", c.reply).Times(1)
				mta.Inject("a@x.test", "b@d.test", "x\r\n")
				mta.Settle()
				if r := mta.Records()[1]; r.Response.String() != c.want {
					t.Errorf("%s %s, want %s", r.Kind, r.Response, c.want)
				}
			})
		})
	}
}

// A callback that comes back too late changes nothing: it has a copy.
func TestLateCallback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spool := new(spooltest.Memory)
		mta := queuetest.New(t, queuetest.Options{
			Spool: spool,
			Policy: queue.Policy{Retry: func(_ context.Context, m *mtakit.Message, _ queue.Failure) error {
				m.Meta["x_seen"] = "yes"
				if m.Tries == 0 && m.To[0] == "late@d.test" {
					time.Sleep(10 * time.Minute)
					m.Meta["x_late"], m.To[0] = "yes", "changed@d.test"
				}
				return nil
			}},
			Change: func(c *queue.Config) { c.CallbackTimeout = time.Second },
		})
		mta.Peer("d.test").Reply("RCPT", "451 later").Times(2)
		late := mta.Submit(&mtakit.Message{To: []string{"late@d.test"}, Meta: map[string]any{"x_a": "b"}}, "x\r\n")
		fine := mta.Submit(&mtakit.Message{To: []string{"fine@d.test"}, Meta: map[string]any{"x_a": "b"}}, "x\r\n")
		mta.Run(15 * time.Minute)
		m, err := spool.Load(t.Context(), fine)
		if err != nil || m.Meta["x_seen"] != "yes" || m.Tries != 1 {
			t.Errorf("%+v, %v: a change is not saved", m, err)
		}
		m, err = spool.Load(t.Context(), late)
		if err != nil || len(m.Meta) != 1 || m.To[0] != "late@d.test" || m.Tries != 1 {
			t.Errorf("%+v, %v: a late change is saved", m, err)
		}
		mta.Drain(time.Hour)
	})
}

// One who does not wait for the settings of a queue has nobody else refused.
func TestSubmitCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := mtakit.DefaultQueueSettings()
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Settings: func(ctx context.Context, _ mtakit.QueueName) (*mtakit.QueueSettings, error) {
				select {
				case <-time.After(2 * time.Second):
				case <-ctx.Done():
				}
				return &set, ctx.Err()
			},
		}})
		submit := func(ctx context.Context) error {
			m := &mtakit.Message{To: []string{"b@d.test"}}
			return mta.Queue.Submit(ctx, []mtakit.Submission{{Message: m, Body: mtakit.Bytes("x\r\n")}}, mtakit.Durable)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := submit(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Submit gives %v after its deadline", err)
		}
		if err := submit(t.Context()); err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
}

// A Retry that changes nothing costs no Update, which would wait for the disk.
func TestRetryWithoutChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var updates atomic.Int32
		spool := &spooltest.Memory{Before: func(method string, _ mtakit.ID) error {
			if method == "Update" {
				updates.Add(1)
			}
			return nil
		}}
		mta := queuetest.New(t, queuetest.Options{Spool: spool, Policy: queue.Policy{
			Retry: func(context.Context, *mtakit.Message, queue.Failure) error { return nil },
		}})
		mta.Peer("d.test").Reply("RCPT", "451 later").Times(3)
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Drain(24 * time.Hour)
		if n := updates.Load(); n != 0 {
			t.Errorf("%d updates", n)
		}
	})
}

// Answers are asked for again when they are old, or after BumpEpoch, also while messages take the short way into the ready queue.
func TestRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var paths, pools, sources atomic.Int32
		path := mtakit.DefaultPathConfig()
		set := mtakit.DefaultQueueSettings()
		set.EgressPool = "p"
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Settings: settingsPolicy(&set),
			Pool: func(context.Context, string) (*mtakit.Pool, error) {
				pools.Add(1)
				return &mtakit.Pool{Entries: []mtakit.PoolEntry{{Name: "s", Weight: 1}}, TTL: mtakit.Duration(time.Minute)}, nil
			},
			Source: func(context.Context, string) (*mtakit.Source, error) {
				sources.Add(1)
				return &mtakit.Source{Name: "s", EHLODomain: fmt.Sprint("e", sources.Load()), TTL: mtakit.Duration(time.Minute)}, nil
			},
			Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) {
				paths.Add(1)
				return &path, nil
			},
		}})
		send := func(minutes int) {
			for range minutes * 20 {
				mta.Inject("a@x.test", "b@d.test", "x\r\n")
				mta.Run(3 * time.Second)
			}
		}
		send(10)
		for name, n := range map[string]int32{"Path": paths.Load(), "Pool": pools.Load(), "Source": sources.Load()} {
			if n < 8 || n > 21 {
				t.Errorf("%s was asked %d times in 10 minutes", name, n)
			}
		}
		before := paths.Load()
		mta.Queue.BumpEpoch()
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Run(time.Second)
		if paths.Load() == before {
			t.Error("after BumpEpoch the path isn't asked for")
		}
	})
}

// Pool, source and path that all queues of a site want at once are asked for once.
func TestAskedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set, path := mtakit.DefaultQueueSettings(), mtakit.DefaultPathConfig()
		set.EgressPool = "p"
		asked := make(map[string]*atomic.Int32)
		for _, name := range []string{"pool", "bad pool", "source", "path"} {
			asked[name] = new(atomic.Int32)
		}
		ask := func(name string) { asked[name].Add(1); time.Sleep(time.Second) }
		var bad atomic.Bool
		bad.Store(true)
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Settings: settingsPolicy(&set),
			Pool: func(context.Context, string) (*mtakit.Pool, error) {
				if bad.Load() {
					ask("bad pool")
					return nil, errors.New("no database")
				}
				ask("pool")
				return &mtakit.Pool{Entries: []mtakit.PoolEntry{{Name: "s", Weight: 1}}}, nil
			},
			Source: func(context.Context, string) (*mtakit.Source, error) {
				ask("source")
				return &mtakit.Source{Name: "s", TTL: mtakit.Duration(time.Hour)}, nil
			},
			Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) {
				ask("path")
				return &path, nil
			},
		}})
		const n = 200
		var domains []string
		for i := range n {
			domains = append(domains, fmt.Sprintf("d%d.test", i))
		}
		mta.SameSite(domains...)
		for _, d := range domains {
			mta.Inject("a@x.test", "b@"+d, "x\r\n")
		}
		mta.Run(10 * time.Minute)
		bad.Store(false)
		mta.Run(30 * time.Minute)
		if got := len(mta.Peer(domains[0]).Received()); got != n {
			t.Errorf("%d of %d messages have arrived", got, n)
		}
		for name, got := range asked {
			if got.Load() != 1 {
				t.Errorf("%s: asked %d times", name, got.Load())
			}
		}
	})
}

// changingPath has what the paths are at the time.
func changingPath(path *atomic.Pointer[mtakit.PathConfig]) queue.Policy {
	return queue.Policy{Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) {
		return path.Load(), nil
	}}
}

// A ready queue that has messages, and gets no more, goes by the path of today.
func TestRefreshWithoutNewMail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var path atomic.Pointer[mtakit.PathConfig]
		paced, free := mtakit.DefaultPathConfig(), mtakit.DefaultPathConfig()
		paced.MaxMessageRate = mtakit.Rate{N: 1, Burst: 1, Per: 4 * time.Second}
		path.Store(&paced)
		mta := queuetest.New(t, queuetest.Options{Policy: changingPath(&path)})
		for range 500 {
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
		}
		mta.Run(10 * time.Second)
		path.Store(&free)
		mta.Queue.BumpEpoch()
		mta.Run(10 * time.Second)
		if n := len(mta.Peer("d.test").Received()); n != 500 {
			t.Errorf("%d of 500 messages have been sent after the rate was lifted", n)
		}
	})
}

// A rate of selection holds as soon as the path that has it does.
func TestRefreshSelectionRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var path atomic.Pointer[mtakit.PathConfig]
		free, few := mtakit.DefaultPathConfig(), mtakit.DefaultPathConfig()
		few.SourceSelectionRate = mtakit.Rate{N: 2, Per: 24 * time.Hour}
		path.Store(&free)
		mta := queuetest.New(t, queuetest.Options{Policy: changingPath(&path)})
		send := func(n int) {
			for range n {
				mta.Inject("a@x.test", "b@d.test", "x\r\n")
				mta.Run(time.Second)
			}
		}
		send(1)
		path.Store(&few)
		mta.Queue.BumpEpoch()
		send(10) // the first has the path renewed
		if n := len(mta.Peer("d.test").Received()); n != 4 {
			t.Errorf("%d messages have been sent, want two more than before the rate", n)
		}
	})
}

// Messages in a ready queue go where the settings of their queue say today.
func TestOtherHosts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var host atomic.Pointer[string]
		from, to := "old", "new"
		host.Store(&from)
		policy := pathPolicy(func(c *mtakit.PathConfig) { c.ConnectionLimit.N = 1 })
		policy.Settings = func(_ context.Context, q mtakit.QueueName) (*mtakit.QueueSettings, error) {
			set, h := mtakit.DefaultQueueSettings(), *host.Load()
			if q.Domain == "stays.test" {
				h = from
			}
			set.Protocol.SMTP = &mtakit.SMTPProtocol{MXList: []mtakit.MXListEntry{{Name: h}}}
			return &set, nil
		}
		mta := queuetest.New(t, queuetest.Options{Policy: policy})
		mta.Peer("mx_list:old").Wait(".", time.Minute)
		for range 50 {
			mta.Inject("a@x.test", "b@moves.test", "x\r\n")
		}
		for range 3 {
			mta.Inject("a@x.test", "b@stays.test", "x\r\n")
		}
		mta.Run(10 * time.Second)
		host.Store(&to)
		mta.Queue.BumpEpoch()
		mta.Run(10 * time.Minute)
		if n := len(mta.Peer("mx_list:new").Received()); n < 45 { // some were sent, one in hand and one announced
			t.Errorf("%d of 50 messages go to the new host", n)
		}
		mta.Drain(time.Hour)
		if n := len(mta.Peer("mx_list:new").Received()) + len(mta.Peer("mx_list:old").Received()); n != 53 {
			t.Errorf("%d of 53 messages have arrived", n)
		}
	})
}

// A message that Retry has moved is in its new queue after a restart too, also if it waits there for a rate.
func TestMovedSurvivesRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fast, slow := mtakit.DefaultQueueSettings(), mtakit.DefaultQueueSettings()
		slow.MaxMessageRate = mtakit.Rate{N: 1, Per: time.Hour}
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Settings: func(_ context.Context, q mtakit.QueueName) (*mtakit.QueueSettings, error) {
				if q.Tenant == "slow" {
					return &slow, nil
				}
				return &fast, nil
			},
			Retry: func(_ context.Context, m *mtakit.Message, _ queue.Failure) error {
				m.Meta = map[string]any{mtakit.MetaTenant: "slow"}
				return nil
			},
		}})
		for _, to := range []string{"a@d.test", "b@d.test", "c@d.test"} {
			mta.Peer("d.test").Reply("RCPT", "451 later").For(to).Times(1)
			mta.Inject("a@x.test", to, "x\r\n")
		}
		mta.Run(time.Minute)
		mta.Restart()
		mta.Run(3 * time.Hour)
		for _, r := range mta.Records() {
			if r.Kind == mtakit.Delivered && (r.Queue.Tenant != "slow" || r.Tries != 1) {
				t.Errorf("delivered from %s after %d tries", r.Queue, r.Tries)
			}
		}
		if n := len(mta.Peer("d.test").Received()); n != 3 {
			t.Errorf("%d received", n)
		}
	})
}

// A policy that moves a message round and round makes it wait in the end.
func TestRetryRoundAndRound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Retry: func(_ context.Context, m *mtakit.Message, _ queue.Failure) error {
				m.Queue.Tenant = map[string]string{"": "a", "a": "b", "b": "a"}[m.Queue.Tenant]
				return nil
			},
		}})
		mta.Unresolvable("d.test", true)
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Run(time.Minute)
		if n := len(mta.Records()); n > 20 {
			t.Errorf("%d records in a minute", n)
		}
		mta.Unresolvable("d.test", false)
		mta.Drain(7 * 24 * time.Hour)
	})
}
