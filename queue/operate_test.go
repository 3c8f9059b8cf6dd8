package queue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// A has 20,000 messages for a peer that takes one at a time, and B one: it waits for the one in hand, the one whose envelope is at the peer already, and
// one turn of A.
func TestFairness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) { c.ConnectionLimit.N = 1 })})
		mta.SameSite("a.test", "b.test")
		mta.Peer("a.test").Wait(".", time.Second)
		batch := make([]mtakit.Submission, 20_000)
		for i := range batch {
			batch[i] = mtakit.Submission{Message: &mtakit.Message{To: []string{"x@a.test"}}, Body: mtakit.Bytes("x\r\n")}
		}
		if err := mta.Queue.Submit(t.Context(), batch, mtakit.Durable); err != nil {
			t.Fatal(err)
		}
		mta.Run(100 * time.Second)
		start := time.Now()
		id := mta.Inject("s@x.test", "y@b.test", "x\r\n")
		mta.Run(10 * time.Second)
		for _, r := range mta.Peer("b.test").Received() {
			if r.ID == id && r.Time.Sub(start) <= 4*time.Second {
				return
			}
		}
		t.Error("B's message has not been delivered within 4 seconds")
	})
}

// A thousand domains whose name servers don't answer hold up nobody else.
func TestSlowRouter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Change: func(c *queue.Config) {
			route := c.Router.Route
			c.Router = mtakit.RouterFunc(func(ctx context.Context, domain string) (*mtakit.Site, error) {
				if strings.HasPrefix(domain, "dead") {
					time.Sleep(time.Minute)
					return nil, errors.New("no answer")
				}
				return route(ctx, domain)
			})
		}})
		batch := make([]mtakit.Submission, 1000)
		for i := range batch {
			batch[i] = mtakit.Submission{Message: &mtakit.Message{To: []string{fmt.Sprintf("x@dead%d.test", i)}}, Body: mtakit.Bytes("x\r\n")}
		}
		if err := mta.Queue.Submit(t.Context(), batch, mtakit.Durable); err != nil {
			t.Fatal(err)
		}
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Run(time.Second)
		if n := len(mta.Peer("d.test").Received()); n != 1 {
			t.Error("the message is not delivered within a second")
		}
	})
}

// A session that makes no progress is cut, and its message goes back without an attempt.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		mta.Peer("d.test").Wait("DATA", 24*time.Hour).Times(1)
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Run(30 * time.Minute)
		mta.WantRecords("Reception", "Delayed", "Delivery")
		r := mta.Records()[1]
		text := r.Response.Text
		if r.Response.Code != 451 || r.Response.Enhanced != [3]uint16{4, 4, 1} ||
			!strings.HasPrefix(text, "dispatcher watchdog aborted task; phase=DeliveringMessage detail=send msg with 1 recip(s) session=mx.d.test by unspecified age=10m") {
			t.Errorf("%s", r.Response)
		}
		if d := mta.Records()[2]; d.Tries != 0 {
			t.Errorf("the abort cost %d tries", d.Tries)
		}
		n := 0.0
		mta.Queue.Collect("dispatcher_watchdog_aborted_total", func(s mtakit.Sample) bool {
			if s.Labels[0] == "smtp_client" {
				n = s.Value
			}
			return true
		})
		if n != 1 {
			t.Errorf("counted %v", n)
		}
	})
}

// The policy of retries is asked about a message that the watchdog, or an operator, has taken from its session.
func TestRetryOfCutSession(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"watchdog", "operator"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
					Retry: func(context.Context, *mtakit.Message, queue.Failure) error { return &mtakit.Delay{For: 3 * time.Hour} },
				}})
				mta.Peer("d.test").Wait("DATA", 24*time.Hour).Times(1)
				mta.Inject("a@x.test", "b@d.test", "x\r\n")
				mta.Settle()
				if by == "operator" {
					if _, err := mta.Queue.AbortAll("unspecified->mx.d.test@smtp_client"); err != nil {
						t.Fatal(err)
					}
				}
				mta.Run(2 * time.Hour)
				if n := len(mta.Peer("d.test").Received()); n != 0 {
					t.Error("the message is sent before the time that policy says")
				}
				mta.Run(2 * time.Hour)
				if n := len(mta.Peer("d.test").Received()); n != 1 {
					t.Errorf("the message is sent %d times", n)
				}
			})
		})
	}
}

// Hosts that don't answer, so many that the watchdog loses patience, are a failure to connect like any other: it counts, and the message waits longer each time.
func TestWatchdogWhileConnecting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		mta.Peer("d.test").Wait("CONNECT", 24*time.Hour)
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Run(95 * time.Minute)
		mta.WantRecords("Reception", "TransientFailure", "TransientFailure", "TransientFailure")
		want := "KumoMTA internal: failed to connect to any candidate hosts: connect to mx.d.test: no progress"
		for i, r := range mta.Records()[1:] {
			if r.Response.Code != 400 || r.Response.Text != want || r.Tries != i {
				t.Errorf("%s after %d tries", r.Response, r.Tries)
			}
		}
		if r, err := mta.Queue.Ready("unspecified->mx.d.test@smtp_client"); err != nil || r.ConnectFailures != 1 { // it was forgotten between the attempts
			t.Errorf("%d failures in a row, %v", r.ConnectFailures, err)
		}
	})
}

// A source whose address is gone is suspended; the other one of the pool takes over, and it comes back.
func TestSourceHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := mtakit.DefaultQueueSettings()
		set.EgressPool = "p"
		rule := &mtakit.HealthRule{Duration: mtakit.Duration(time.Hour)}
		source := func(_ context.Context, name string) (*mtakit.Source, error) {
			return &mtakit.Source{Name: name, SuspendWhenUnplumbed: rule}, nil
		}
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Settings: settingsPolicy(&set), Source: source,
			Pool: func(context.Context, string) (*mtakit.Pool, error) {
				return &mtakit.Pool{Entries: []mtakit.PoolEntry{{Name: "good", Weight: 1}, {Name: "bad", Weight: 1}}}, nil
			},
		}})
		count := func() map[string]int {
			m := make(map[string]int)
			for _, r := range mta.Peer("d.test").Received() {
				m[r.Source]++
			}
			return m
		}
		send := func(n int) {
			for range n {
				mta.Inject("a@x.test", "b@d.test", "x\r\n")
			}
			mta.Settle()
		}
		send(10)
		bad, _ := source(t.Context(), "bad")
		for range 3 { // each failure prolongs it
			mta.Queue.SourceFailed(bad, "Unplumbed", errors.New("cannot assign requested address"))
			mta.Run(10 * time.Minute)
		}
		send(10)
		if c := count(); c["good"] != 15 || c["bad"] != 5 {
			t.Errorf("%v, want ten more by good", c)
		}
		mta.Run(time.Hour)
		send(10)
		if c := count(); c["good"] != 20 || c["bad"] != 10 {
			t.Errorf("%v, want five more by each", c)
		}
		mta.Queue.SourceFailed(bad, "ProxyUnhealthy", errors.New("refused")) // there is no rule for that
		send(2)
		if c := count(); c["bad"] != 11 {
			t.Errorf("%v", c)
		}
	})
}

// Messages leave the ready queue of a source that is suspended by another one, also while all its sessions are busy.
func TestSourceHealthOfBusySessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := mtakit.DefaultQueueSettings()
		set.EgressPool = "p"
		bad := &mtakit.Source{Name: "bad", SuspendWhenUnplumbed: &mtakit.HealthRule{Duration: mtakit.Duration(time.Hour)}}
		policy := pathPolicy(func(c *mtakit.PathConfig) { c.ConnectionLimit.N = 1 })
		policy.Settings = settingsPolicy(&set)
		policy.Source = func(_ context.Context, name string) (*mtakit.Source, error) {
			if name == bad.Name {
				return bad, nil
			}
			return &mtakit.Source{Name: name}, nil
		}
		policy.Pool = func(context.Context, string) (*mtakit.Pool, error) {
			return &mtakit.Pool{Entries: []mtakit.PoolEntry{{Name: "good", Weight: 1}, {Name: "bad", Weight: 1}}}, nil
		}
		mta := queuetest.New(t, queuetest.Options{Policy: policy})
		mta.Peer("d.test").Wait("DATA", 5*time.Minute).Times(2) // one by each
		for range 20 {
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
		}
		mta.Run(time.Minute)
		mta.Queue.SourceFailed(bad, "Unplumbed", errors.New("cannot assign requested address"))
		mta.Run(time.Minute + 10*time.Second)
		for name, want := range map[string]int{"good": 18, "bad": 0} { // one of each is in hand
			if r, err := mta.Queue.Ready(name + "->mx.d.test@smtp_client"); err != nil || r.ReadyQueue.Ready != want {
				t.Errorf("%d messages are in the ready queue by %s, want %d; %v", r.ReadyQueue.Ready, name, want, err)
			}
		}
		mta.Drain(time.Hour)
	})
}

// A source that is suspended for two reasons is so until the later time, also when others are suspended meanwhile.
func TestSourceHealthReasons(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		rule := func(d time.Duration) *mtakit.HealthRule { return &mtakit.HealthRule{Duration: mtakit.Duration(d)} }
		s := &mtakit.Source{Name: mtakit.Unspecified, SuspendWhenUnplumbed: rule(time.Hour), SuspendWhenProxyUnhealthy: rule(time.Minute)}
		other := &mtakit.Source{Name: "other", SuspendWhenUnplumbed: rule(time.Second)}
		mta.Queue.SourceFailed(s, "Unplumbed", errors.New("x"))
		mta.Queue.SourceFailed(s, "ProxyUnhealthy", errors.New("x"))
		for _, want := range []int{0, 1} {
			mta.Run(30*time.Minute + time.Second)
			mta.Queue.SourceFailed(other, "Unplumbed", errors.New("x"))
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
			mta.Settle()
			if got := len(mta.Peer("d.test").Received()); got != want {
				t.Errorf("%d messages have left, want %d", got, want)
			}
		}
	})
}

// With a threshold it takes so many failures within the time.
func TestSourceHealthThreshold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		s := &mtakit.Source{Name: mtakit.Unspecified, SuspendWhenUnplumbed: &mtakit.HealthRule{
			Threshold: mtakit.Rate{N: 3, Per: time.Minute}, Duration: mtakit.Duration(time.Hour)}}
		fails := func(n int, every time.Duration) (received int) {
			for range n {
				mta.Queue.SourceFailed(s, "Unplumbed", errors.New("no such address"))
				mta.Run(every)
			}
			before := len(mta.Peer("d.test").Received())
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
			mta.Settle()
			return len(mta.Peer("d.test").Received()) - before
		}
		if fails(10, time.Minute) != 1 {
			t.Error("ten failures in ten minutes suspend")
		}
		if fails(3, time.Second) != 0 {
			t.Error("three failures in a minute don't suspend")
		}
	})
}

func TestDeferredInject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var verdict atomic.Pointer[error]
		say := func(err error) { verdict.Store(&err) }
		say(nil)
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			DeferredInject: func(_ context.Context, m *mtakit.Message) error {
				m.Meta[mtakit.MetaTenant] = "late"
				return *verdict.Load()
			},
		}})
		inject := func() {
			mta.Submit(&mtakit.Message{To: []string{"b@d.test"}, Meta: map[string]any{mtakit.MetaQueue: mtakit.DeferredInjectQueue}}, "x\r\n")
			mta.Settle()
		}
		inject()
		mta.WantRecords("Reception", "DeferredInjectionRebind", "Delivery")
		if r := mta.Records(); r[0].Queue.Domain != mtakit.DeferredInjectQueue || r[2].Queue.String() != "late@d.test" {
			t.Errorf("%s", mta.Log())
		}
		say(errors.New("no database"))
		inject()
		say(nil)
		mta.Run(2 * time.Minute)
		mta.WantRecords("Reception", "DeferredInjectionRebind", "Delivery", "Reception", "TransientFailure", "DeferredInjectionRebind", "Delivery")
		say(&mtakit.Reject{Response: mtakit.Response{Code: 550, Text: "no"}})
		inject()
		if r := mta.Records()[8]; r.Kind != mtakit.Bounce || r.Response.String() != "550 no" {
			t.Errorf("%s", mta.Log())
		}
	})
}

// Rules survive a restart, with the expiry they had, and are applied to what the spool has.
func TestRulesSurvive(t *testing.T) {
	t.Parallel()
	file := queue.StateFile(filepath.Join(t.TempDir(), "rules"))
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Change: func(c *queue.Config) { c.State = file }})
		d, e := "d.test", "e.test"
		suspended := mta.Queue.Suspend(queue.Match{Domain: &d}, "why", time.Now().Add(time.Hour))
		mta.Queue.Suspend(queue.Match{Domain: &e}, "short", time.Time{})
		mta.Queue.SuspendReady("unspecified->mx.f.test@smtp_client", "ready", time.Now().Add(time.Hour))
		mta.Restart()
		mta.Run(6 * time.Minute)
		mta.Restart()
		if list := mta.Queue.Suspensions(); len(list) != 1 || list[0].ID != suspended.ID || list[0].Reason != "why" {
			t.Errorf("%+v", list)
		}
		if list := mta.Queue.ReadySuspensions(); len(list) != 1 || list[0].Reason != "ready" {
			t.Errorf("%+v", list)
		}
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Settle()
		mta.WantRecords("Reception", "TransientFailure")
		if err := mta.Queue.CancelSuspension(suspended.ID); err != nil {
			t.Fatal(err)
		}
		if err := mta.Queue.CancelSuspension(suspended.ID); !errors.Is(err, queue.ErrNoRule) {
			t.Errorf("cancelled twice: %v", err)
		}
		mta.Restart()
		if list := mta.Queue.Suspensions(); len(list) != 0 {
			t.Errorf("%+v", list)
		}
		r := mta.Queue.AdminBounce(queue.Match{Domain: &d}, "gone", time.Now().Add(time.Hour), true)
		mta.Settle()
		mta.WantRecords("Reception", "TransientFailure") // logging is suppressed
		if n := r.Bounced()["d.test"]; n != 1 {
			t.Errorf("%d bounced", n)
		}
		mta.Stop()
	})
	for text, want := range map[string]string{"{": "can't be read", `{"version": 9}`: "version 9"} {
		if err := os.WriteFile(string(file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := queue.New(queue.Config{Spool: &noSpool{}, Router: mtakit.RouterFunc(oneSite), Egress: instant{Code: 250}, State: file})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rules %q: %v", text, err)
		}
	}
	if list, _ := filepath.Glob(filepath.Join(filepath.Dir(string(file)), "*")); len(list) != 1 {
		t.Errorf("files are left: %v", list)
	}
}

// An expired rule is forgotten in time, so that messages take the short ways again.
func TestRulesArePruned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		d := "other.test"
		mta.Queue.Suspend(queue.Match{Domain: &d}, "x", time.Time{})
		if mta.Queue.Rules() != 1 {
			t.Errorf("%d rules", mta.Queue.Rules())
		}
		mta.Run(7 * time.Minute)
		if mta.Queue.Rules() != 0 {
			t.Errorf("%d rules after they have expired", mta.Queue.Rules())
		}
	})
}

// Sums of what was counted don't go down when a ready queue is forgotten.
func TestCountersStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		value := func(family, label string) (v float64) {
			mta.Queue.Collect(family, func(s mtakit.Sample) bool {
				if s.Labels[0] == label {
					v = s.Value
				}
				return true
			})
			return v
		}
		for i := range 5 {
			mta.Inject("a@x.test", fmt.Sprintf("b@d%d.test", i), "x\r\n")
		}
		mta.Run(time.Minute)
		if n := value("total_messages_delivered", "smtp_client"); n != 5 {
			t.Errorf("delivered %v", n)
		}
		if n := value("total_messages_delivered", "smtp_client:unspecified->mx.d1.test@smtp_client"); n != 1 {
			t.Errorf("delivered to one %v", n)
		}
		mta.Run(time.Hour)
		if n := value("total_messages_delivered", "smtp_client"); n != 5 {
			t.Errorf("delivered %v, after the ready queues are forgotten", n)
		}
		if n := value("total_messages_delivered", "smtp_client:unspecified->mx.d1.test@smtp_client"); n != 0 {
			t.Error("a ready queue is not forgotten")
		}
		if c := mta.Queue.Census(); c.Queues != 0 {
			t.Errorf("%d scheduled queues are not forgotten", c.Queues)
		}
		for _, f := range mta.Queue.Families() {
			mta.Queue.Collect(f.Name, func(s mtakit.Sample) bool {
				if len(s.Labels) != len(f.Labels) {
					t.Errorf("%s: labels %v, want %v", f.Name, s.Labels, f.Labels)
				}
				return false // may stop at any time
			})
		}
	})
}

// A Submit that waits for room in the event log holds up no shutdown, and neither it nor a session goes on without room.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{}
		mta := queuetest.New(t, queuetest.Options{
			Policy: pathPolicy(func(c *mtakit.PathConfig) { c.ConnectionLimit.N = 1 }),
			Change: func(c *queue.Config) { c.Record = mtakit.Tee{c.Record, p} },
		})
		mta.Peer("d.test").Wait(".", time.Second)
		for range 10 {
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
		}
		mta.Settle()
		room := make(chan struct{})
		p.room.Store(&room)
		mta.Run(time.Minute)
		if n := len(mta.Peer("d.test").Received()); n > 2 { // one in hand, and one announced
			t.Errorf("%d delivered without room in the event log", n)
		}
		refused := make(chan error, 1)
		go func() {
			_, err := mta.TrySubmit(&mtakit.Message{To: []string{"b@d.test"}}, "x\r\n", mtakit.Durable)
			refused <- err
		}()
		mta.Settle()
		mta.Stop()
		close(room)
		if err := <-refused; !errors.Is(err, mtakit.ErrClosed) {
			t.Errorf("Submit after the end: %v", err)
		}
		mta.Restart()
		mta.Run(time.Minute)
		if n := len(mta.Peer("d.test").Received()); n != 10 {
			t.Errorf("%d delivered", n)
		}
	})
}

// pacer is a Recorder that has room when the channel is closed, or nil.
type pacer struct{ room atomic.Pointer[chan struct{}] }

func (*pacer) Record(*mtakit.Record) {}

func (p *pacer) Pace(ctx context.Context) error {
	room := p.room.Load()
	if room == nil {
		return nil
	}
	select {
	case <-*room:
		return nil
	default:
	}
	select {
	case <-*room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := queue.Config{Spool: &noSpool{}, Router: mtakit.RouterFunc(oneSite), Egress: instant{Code: 250}}
	for want, change := range map[string]func(*queue.Config){
		"":             func(*queue.Config) {},
		"Spool":        func(c *queue.Config) { c.Spool = nil },
		"Router":       func(c *queue.Config) { c.Router = nil },
		"Egress":       func(c *queue.Config) { c.Egress = nil },
		"Shards is 3":  func(c *queue.Config) { c.Shards = 3 },
		"negative":     func(c *queue.Config) { c.GracePeriod = -1 },
		"negative ":    func(c *queue.Config) { c.MaxResident = -1 },
		"power of two": func(c *queue.Config) { c.Shards = -1 },
	} {
		c := good
		change(&c)
		_, err := queue.New(c)
		if want = strings.TrimSpace(want); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// The other Schedulers work as well.
func TestSchedulers(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]func() mtakit.Scheduler{"heap": queue.NewHeap, "wheel": queue.NewWheel} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mta := queuetest.New(t, queuetest.Options{Change: func(c *queue.Config) { c.Scheduler = s }})
				for i := range 5 {
					mta.Peer(fmt.Sprintf("d%d.test", i)).Reply("RCPT", "451 later").Times(3)
					mta.Inject("a@x.test", fmt.Sprintf("b@d%d.test", i), "x\r\n")
				}
				mta.Run(30 * time.Minute)
				mta.Restart()
				d := "d3.test"
				mta.Queue.AdminBounce(queue.Match{Domain: &d}, "x", time.Time{}, false)
				mta.Drain(24 * time.Hour)
				kinds := make(map[mtakit.Kind]int)
				for _, r := range mta.Records() {
					kinds[r.Kind]++
				}
				if kinds["Delivery"] != 4 || kinds["AdminBounce"] != 1 || kinds["TransientFailure"] != 14 {
					t.Errorf("%v", kinds)
				}
			})
		})
	}
}

// What queues need on the way is counted, and forgotten with them also when they are forgotten soon.
func TestFlowsAreForgotten(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 10 * time.Second, time.Hour} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				set := mtakit.DefaultQueueSettings()
				set.ReapInterval = mtakit.Duration(after)
				mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{Settings: settingsPolicy(&set)}})
				mta.Run(30 * time.Second)
				for i := range 10 {
					mta.Inject("a@x.test", fmt.Sprintf("b@d%d.test", i), "x\r\n")
				}
				mta.Run(3 * time.Minute)
				if n := mta.Queue.Flows(); n != 0 {
					t.Errorf("%d are left", n)
				}
			})
		})
	}
}
