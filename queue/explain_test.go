package queue_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// explained is what the tests compare: who holds what, and what comes next.
func explained(t *testing.T, mta *queuetest.MTA, about queue.Subject) (*queue.Explanation, string) {
	t.Helper()
	x, err := mta.Queue.Explain(t.Context(), about)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, h := range x.Holds {
		s = append(s, string(h.Reason))
	}
	next := "never"
	if !x.Next.IsZero() {
		next = x.Next.Sub(x.Now).String()
	}
	chosen := "-"
	if x.Chosen >= 0 {
		chosen = x.Sources[x.Chosen].Source.Name
	}
	return x, fmt.Sprintf("%s by %s in %s: %s", x.Queue, chosen, next, strings.Join(s, " "))
}

func setting(all []queue.InForce, option string) string {
	for _, s := range all {
		if s.Option == option {
			return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", s.Value, s.Next, s.By, s.Place))
		}
	}
	return "none"
}

func use(all []queue.Use, name string) string {
	for _, u := range all {
		if u.Name == name {
			return fmt.Sprintf("%s %s %d/%d %v", u.Setting, u.Limit, u.Used, u.Most, u.Wait)
		}
	}
	return "none"
}

// explainPolicy has two sources with weights, and says where its answers are from.
func explainPolicy(path func(*mtakit.PathConfig)) (queue.Policy, queue.Provenance) {
	set := mtakit.DefaultQueueSettings()
	set.EgressPool = "p"
	conf := mtakit.DefaultPathConfig()
	path(&conf)
	at := func(line int) mtakit.Place { return mtakit.Place{File: "x.toml", Line: line} }
	return queue.Policy{
			Settings: func(_ context.Context, q mtakit.QueueName) (*mtakit.QueueSettings, error) {
				if q.Domain == "broken.test" {
					return nil, errors.New("broken")
				}
				return &set, nil
			},
			Pool: func(_ context.Context, name string) (*mtakit.Pool, error) {
				return &mtakit.Pool{Name: name, Entries: []mtakit.PoolEntry{{Name: "ip-1", Weight: 3}, {Name: "ip-2", Weight: 1}, {Name: "ip-3"}}}, nil
			},
			Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) { return &conf, nil },
		}, queue.Provenance{
			Settings: func(context.Context, mtakit.QueueName) ([]mtakit.Setting, error) {
				return []mtakit.Setting{{Option: "egress_pool", Value: `"p"`, By: "queue default", Place: at(1)}}, nil
			},
			Path: func(_ context.Context, domain, source string, site *mtakit.Site) ([]mtakit.Setting, error) {
				return []mtakit.Setting{{Option: "connection_limit", By: "domain " + domain + " source " + source + " site " + site.Name, Place: at(2)}}, nil
			},
			Pool: func(_ context.Context, name string) ([]mtakit.Setting, error) {
				return []mtakit.Setting{{Option: "ip-2", Value: "1", Place: at(3)}}, nil
			},
			Source: func(_ context.Context, name string) ([]mtakit.Setting, error) {
				return []mtakit.Setting{{Option: "name", By: "source " + name, Place: at(4)}}, nil
			},
			Rates: func(q mtakit.QueueName) mtakit.NamedRates {
				return mtakit.NamedRates{{Name: "tenant-" + q.Tenant, Rate: mtakit.Rate{N: 7, Per: time.Hour}}}
			},
		}
}

func newExplained(t *testing.T, path func(*mtakit.PathConfig)) *queuetest.MTA {
	t.Helper()
	policy, from := explainPolicy(path)
	return queuetest.New(t, queuetest.Options{Policy: policy, Change: func(c *queue.Config) { c.Provenance = from }})
}

// What is not there yet is explained as it would be, and nothing comes into being by that.
func TestExplainNew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := newExplained(t, func(c *mtakit.PathConfig) {
			c.MaxMessageRate = mtakit.Rate{N: 10, Per: time.Second}
			c.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "shared", Limit: mtakit.Limit{N: 4}}}
		})
		for range 3 {
			x, got := explained(t, mta, queue.Subject{Address: "user@D.test"})
			if want := "d.test by ip-1 in 0s: "; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if x.Scheduled != nil || x.Pool != "p" || x.Site.Name != "mx.d.test" || len(x.Sources) != 3 || x.Message != nil {
				t.Errorf("%+v", x)
			}
			for _, c := range []struct{ got, want string }{
				{setting(x.Settings, "egress_pool"), `"p"  queue default x.toml:1`},
				{setting(x.Settings, "retry_interval"), `"20m"`},
				{setting(x.Sources[0].Path, "connection_limit"), `{"limit":32,"force_local":false}  domain d.test source ip-1 site mx.d.test x.toml:2`},
				{setting(x.Sources[0].Settings, "name"), `"ip-1"  source ip-1 x.toml:4`},
				{fmt.Sprint(x.Sources[0].Share, x.Sources[1].Share, x.Sources[2].Share, x.Sources[1].Place), "0.75 0.25 0 x.toml:3"},
				{x.Sources[1].ReadyQueue, "ip-2->mx.d.test@smtp_client"},
				{x.Sources[0].Ceilings.MaxMessageRate.Display, "10/s"},
				{use(x.Sources[0].Limits, "shared"), "additional_connection_limits.shared 4 0/4 0s"},
				{use(x.Limits, "tenant-"), " 7/h 0/7 0s"},
			} {
				if c.got != c.want {
					t.Errorf("got %q, want %q", c.got, c.want)
				}
			}
		}
		if c := mta.Queue.Census(); c.Queues != 0 {
			t.Errorf("%+v", c)
		}
		for _, about := range []queue.Subject{
			{}, {Address: "nobody"}, {Address: "@d.test"}, {Address: "a@"}, {Address: "a@d.test", Queue: mtakit.ParseQueueName("d.test")},
		} {
			if _, err := mta.Queue.Explain(t.Context(), about); !errors.Is(err, queue.ErrSubject) {
				t.Errorf("%+v: %v", about, err)
			}
		}
		if _, err := mta.Queue.Explain(t.Context(), queue.Subject{ID: mta.Queue.NewID()}); !errors.Is(err, mtakit.ErrNotFound) {
			t.Error(err)
		}
	})
}

// A message is found wherever it is on its way, and how it goes on is told.
func TestExplainMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := newExplained(t, func(c *mtakit.PathConfig) { c.ConnectionLimit.N = 1 })
		const ready = "ip-1->mx.d.test@smtp_client"
		mta.Queue.SuspendReady("ip-2->mx.d.test@smtp_client", "cold", time.Now().Add(time.Hour))
		mta.Peer("d.test").Wait("DATA", time.Minute)
		mta.Peer("d.test").Reply("RCPT", "451 later").For("late@d.test")
		late := mta.Inject("a@x.test", "late@d.test", "x\r\n")
		first := mta.Inject("a@x.test", "one@d.test", "x\r\n")
		second := mta.Inject("a@x.test", "two@d.test", "x\r\n")
		third := mta.Inject("a@x.test", "three@d.test", "x\r\n")
		mta.Run(10 * time.Second)
		before, rates := mta.Log(), mta.Queue.Census()
		for _, c := range []struct {
			name    string
			id      mtakit.ID
			where   queue.Where
			ready   string
			ahead   int
			tries   int
			outcome string
		}{
			{"deferred", late, queue.Sleeping, "", 0, 1, "d.test by ip-1 in 19m"},
			{"sent", first, queue.InSession, ready, 0, 0, "d.test by ip-1 in 0s: "},
			{"waits", third, queue.InReadyQueue, ready, 1, 0, "d.test by ip-1 in 0s: "},
		} {
			x, got := explained(t, mta, queue.Subject{ID: c.id})
			m := x.Message
			if m.Where != c.where || m.ReadyQueue != c.ready || m.Ahead != c.ahead || m.Tries != c.tries || !strings.HasPrefix(got, c.outcome) ||
				(m.Where == queue.InSession) != (m.Session != "") || !m.Expires.Equal(c.id.Time().Add(7*24*time.Hour)) {
				t.Errorf("%s: %s %s ahead %d, tries %d, session %q, expires %v; %s", c.name, m.Where, m.ReadyQueue, m.Ahead, m.Tries, m.Session, m.Expires, got)
			}
			if x.Sources[1].Hold.Reason != queue.HeldSuspended || x.Sources[1].Hold.Text != "cold" || x.Sources[0].Hold.Reason != "" {
				t.Errorf("%s: %+v, %+v", c.name, x.Sources[0].Hold, x.Sources[1].Hold)
			}
			if got := use(x.Sources[0].Limits, ready); got != "max_ready 1024 2/1024 0s" {
				t.Errorf("%s: %s", c.name, got)
			}
		}
		if mta.Log() != before || mta.Queue.Census() != rates {
			t.Error("something has happened meanwhile")
		}
		mta.Run(10 * time.Minute)
		for _, id := range []mtakit.ID{first, second, third} {
			if _, err := mta.Queue.Explain(t.Context(), queue.Subject{ID: id}); !errors.Is(err, mtakit.ErrNotFound) {
				t.Errorf("a message that is done: %v", err)
			}
		}
	})
}

// Whatever holds mail up is told, with the time until which it does.
func TestExplainHolds(t *testing.T) {
	t.Parallel()
	hour := func() time.Time { return time.Now().Add(time.Hour) }
	domain := "d.test"
	for _, c := range []struct {
		name, want string
		limits     func(*mtakit.PathConfig)
		queue      string
		do         func(mta *queuetest.MTA)
	}{
		{name: "nothing", want: "d.test by ip-1 in 0s: ", do: func(*queuetest.MTA) {}},
		{name: "suspended", want: "d.test by ip-1 in 1h0m0s: suspended", do: func(mta *queuetest.MTA) { mta.Queue.Suspend(queue.Match{Domain: &domain}, "x", hour()) }},
		{name: "bounced", want: "d.test by ip-1 in never: bounced", do: func(mta *queuetest.MTA) { mta.Queue.AdminBounce(queue.Match{Domain: &domain}, "x", hour(), false) }},
		{name: "for another queue", want: "e.test by ip-1 in 0s: ", queue: "e.test", do: func(mta *queuetest.MTA) { mta.Queue.Suspend(queue.Match{Domain: &domain}, "x", hour()) }},
		{name: "one source suspended", want: "d.test by ip-2 in 0s: ", do: func(mta *queuetest.MTA) { mta.Queue.SuspendReady("ip-1->mx.d.test@smtp_client", "x", hour()) }},
		{name: "both sources suspended", want: "d.test by - in 30m0s: suspended", do: func(mta *queuetest.MTA) {
			mta.Queue.SuspendReady("ip-1->mx.d.test@smtp_client", "x", hour())
			mta.Queue.SuspendReady("ip-2->mx.d.test@smtp_client", "x", time.Now().Add(30*time.Minute))
		}},
		{name: "a source that is unwell", want: "d.test by ip-2 in 0s: ", do: func(mta *queuetest.MTA) {
			mta.Queue.SourceFailed(&mtakit.Source{Name: "ip-1", SuspendWhenUnplumbed: &mtakit.HealthRule{Duration: mtakit.Duration(time.Hour)}}, "Unplumbed", errors.New("x"))
		}},
		{name: "no site", want: "d.test by - in never: route", do: func(mta *queuetest.MTA) { mta.Unresolvable("d.test", true) }},
		{name: "no settings", want: "broken.test by - in never: settings", queue: "broken.test", do: func(*queuetest.MTA) {}},
		{name: "not due", want: "d.test by ip-1 in 5h0m0s: not_due", do: func(mta *queuetest.MTA) {
			for i := range 3 {
				mta.Submit(&mtakit.Message{To: []string{"b@d.test"}, Due: time.Now().Add(time.Duration(7-i) * time.Hour)}, "x\r\n")
			}
		}},
		{name: "selection rates are used up", want: "other@d.test by - in 12m0s: rate", limits: func(c *mtakit.PathConfig) { c.SourceSelectionRate = mtakit.Rate{N: 5, Per: time.Hour} },
			do: func(mta *queuetest.MTA) {
				for range 12 {
					mta.Inject("a@x.test", "b@d.test", "x\r\n")
				}
				mta.Settle()
			}, queue: "other@d.test"},
		{name: "the connection", want: "d.test by ip-1 in [0-9]*: not_due connect_failing", do: func(mta *queuetest.MTA) {
			mta.Queue.SuspendReady("ip-2->mx.d.test@smtp_client", "x", hour())
			mta.Peer("d.test").Refuse()
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
			mta.Run(20 * time.Minute)
		}},
		{name: "deferred injection leaves by no source", want: mtakit.DeferredInjectQueue + " by - in 0s: ", queue: mtakit.DeferredInjectQueue, do: func(*queuetest.MTA) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if c.limits == nil {
					c.limits = func(*mtakit.PathConfig) {}
				}
				mta := newExplained(t, c.limits)
				c.do(mta)
				name := c.queue
				if name == "" {
					name = "d.test"
				}
				x, got := explained(t, mta, queue.Subject{Queue: mtakit.ParseQueueName(name)})
				if ok, _ := path.Match(c.want, got); !ok {
					t.Errorf("got %q, want %q; %+v", got, c.want, x.Holds)
				}
			})
		})
	}
}

// What policy says by now is told beside what is in force, and use is read without being added to.
func TestExplainChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := 10
		set := mtakit.DefaultQueueSettings()
		now := &set
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Settings: func(context.Context, mtakit.QueueName) (*mtakit.QueueSettings, error) { return now, nil },
			Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) {
				c := mtakit.DefaultPathConfig()
				c.ConnectionLimit.N, c.MaxMessageRate = limit, mtakit.Rate{N: 100, Per: time.Hour}
				return &c, nil
			},
		}})
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Run(time.Second)
		limit = 20
		later := set
		later.MaxRetryInterval, later.MaxMessageRate = mtakit.Duration(time.Hour), mtakit.Rate{N: 1, Per: time.Hour}
		now = &later
		for range 200 {
			x, got := explained(t, mta, queue.Subject{Address: "b@d.test"})
			if got != "d.test by unspecified in 0s: " {
				t.Fatal(got)
			}
			for _, c := range []struct{ got, want string }{
				{setting(x.Settings, "max_retry_interval"), `null "1h"`}, {setting(x.Settings, "retry_interval"), `"20m"`},
				{setting(x.Sources[0].Path, "connection_limit"), `{"limit":10,"force_local":false} {"limit":20,"force_local":false}`},
				{use(x.Sources[0].Limits, "kumomta.max_message_rate.unspecified->mx.d.test@smtp_client"), "max_message_rate 100/h 1/100 0s"},
				{use(x.Limits, "schedq-d.test-message-rate"), "none"},
			} {
				if c.got != c.want {
					t.Fatalf("got %q, want %q", c.got, c.want)
				}
			}
		}
	})
}
