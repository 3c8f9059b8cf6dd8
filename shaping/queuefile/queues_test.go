package queuefile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/shaping"
	"github.com/mtakit/mtakit/shaping/queuefile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t testing.TB, texts ...string) []string {
	t.Helper()
	dir := t.TempDir()
	var files []string
	for i, text := range texts {
		name := filepath.Join(dir, string(rune('a'+i))+".toml")
		if strings.HasPrefix(text, "{") {
			name = filepath.Join(dir, string(rune('a'+i))+".conf")
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	return files
}

func load(t testing.TB, texts ...string) *queuefile.Queues {
	t.Helper()
	q, err := queuefile.Load(queuefile.Config{Files: write(t, texts...)})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

const policy = `
scheduling_header = "X-Schedule"
tenant_header = "X-Tenant"
remove_tenant_header = true
campaign_header = "X-Campaign"
default_tenant = "acme"

[tenant.acme]
egress_pool = "pool-a"
overall_max_message_rate = "1000/s"
max_age = "2 days"
[tenant.acme.campaigns.welcome]
overall_max_message_rate = "10/s"
[tenant.strict]
require_authz = ["scott", "tiger"]
[tenant.free]

[queue.default]
max_age = "24 hours"
routing_domain = "smart.example"
egress_pool = "pool-0"
[queue."dest.example"]
retry_interval = "17 mins"
max_age = "3 days"
[queue."dest.example".acme]
max_age = "3h"
[queue."dest.example".acme.welcome]
routing_domain = "relay.example"
retry_interval = "18 mins"
[queue."*.wild.example"]
retry_interval = "19 mins"
`

func TestSettings(t *testing.T) {
	t.Parallel()
	q := load(t, policy)
	tests := []struct{ queue, want string }{
		{"other.example", "20m 1day pool-0"},
		{"dest.example", "17m 3days pool-0"},
		{"free@dest.example", "17m 3days pool-0"},
		{"acme@dest.example", "17m 3h pool-a"},
		{"acme@other.example", "20m 2days pool-a"},
		{"welcome:acme@dest.example", "18m 3h pool-a"},
		{"welcome:acme@other.example", "20m 2days pool-a"},
		{"nobody@other.example", "20m 1day pool-0"},
		{"a.b.wild.example", "19m 1day pool-0"},
		{"wild.example", "20m 1day pool-0"},
	}
	for _, tt := range tests {
		s, err := q.Settings(t.Context(), mtakit.ParseQueueName(tt.queue))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(s.RetryInterval, s.MaxAge, " ", s.EgressPool); got != tt.want && strings.ReplaceAll(got, "  ", " ") != tt.want {
			t.Errorf("%s: got %s, want %s", tt.queue, got, tt.want)
		}
		if s.RefreshStrategy != mtakit.RefreshEpoch {
			t.Errorf("%s: refresh_strategy = %s", tt.queue, s.RefreshStrategy)
		}
	}
	a, _ := q.Settings(t.Context(), mtakit.ParseQueueName("acme@one.example"))
	b, _ := q.Settings(t.Context(), mtakit.ParseQueueName("other:acme@two.example"))
	if a != b {
		t.Error("queues to which the same parts apply have settings of their own")
	}
	e := q.Explain(t.Context(), mtakit.ParseQueueName("acme@dest.example"))
	var got []string
	for _, s := range e {
		got = append(got, fmt.Sprintf("%s=%s :%d %s", s.Option, s.Value, s.Place.Line, s.By))
	}
	want := `retry_interval="17 mins" :23 queue dest.example, egress_pool="pool-a" :9 tenant acme, max_age="3h" :26 queue dest.example tenant acme`
	if strings.Join(got, ", ") != want {
		t.Errorf("Explain: got  %s\nwant %s", strings.Join(got, ", "), want)
	}
}

func TestProvider(t *testing.T) {
	t.Parallel()
	q, err := queuefile.Load(queuefile.Config{
		Files:    write(t, "[queue.'b.example']\nprovider_name = 'mine'\n"),
		Provider: func(_ context.Context, domain string) string { return "of " + domain },
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a.example": "of a.example", "a.example!r.example": "of r.example", "b.example": "mine"} {
		if s, _ := q.Settings(t.Context(), mtakit.ParseQueueName(name)); s.ProviderName != want {
			t.Errorf("%s: provider is %q, want %q", name, s.ProviderName, want)
		}
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		file   string
		header map[string]string
		authz  string
		tenant string // set by the application
		want   string // queue and names of removed fields, or the reply
	}{
		{name: "default tenant", want: "acme@dest.example!smart.example []"},
		{name: "tenant", header: map[string]string{"X-Tenant": "free"}, want: "free@dest.example!smart.example [X-Tenant]"},
		{name: "campaign", header: map[string]string{"X-Campaign": "welcome"}, want: "welcome:acme@dest.example!relay.example []"},
		{name: "unknown tenant", header: map[string]string{"X-Tenant": "nobody"}, want: "500 tenant 'nobody' specified by 'X-Tenant' header is not defined in your queue config"},
		{name: "tenant with line ends", header: map[string]string{"X-Tenant": "a\r\nb"}, want: "500 tenant 'a  b' specified by 'X-Tenant' header is not defined in your queue config"},
		{name: "empty tenant", header: map[string]string{"X-Tenant": ""}, want: "500 tenant '' specified by 'X-Tenant' header is not defined in your queue config"},
		{name: "strict without AUTH", header: map[string]string{"X-Tenant": "strict"}, want: "500 tenant 'strict' requires SMTP AUTH"},
		{name: "strict for another", header: map[string]string{"X-Tenant": "strict"}, authz: "mallory", want: "500 authz_id 'mallory' is not authorized to send as tenant 'strict'"},
		{name: "strict", header: map[string]string{"X-Tenant": "strict"}, authz: "tiger", want: "strict@dest.example!smart.example [X-Tenant]"},
		{name: "schedule", header: map[string]string{"X-Schedule": `{"first_attempt": "2030-01-01T00:00:00Z"}`}, want: "acme@dest.example!smart.example [X-Schedule] from 2030-01-01"},
		{name: "bad schedule", header: map[string]string{"X-Schedule": `{"first": 1}`}, want: `500 'X-Schedule' header: bad schedule: json: unknown field "first"`},
		{name: "nothing configured", file: "[queue.default]\n", header: map[string]string{"X-Tenant": "free"}, want: "dest.example []"},
		{name: "tenant of the application", file: "[queue.'dest.example'.app]\nrouting_domain='r.example'\n", tenant: "app", want: "app@dest.example!r.example []"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.file == "" {
				tt.file = policy
			}
			m := &mtakit.Message{To: []string{"user@DEST.example"}}
			if tt.authz != "" {
				m.Meta = map[string]any{mtakit.MetaAuthzID: tt.authz}
			}
			if tt.tenant != "" {
				m.Meta = map[string]any{mtakit.MetaTenant: tt.tenant}
			}
			remove, err := load(t, tt.file).Apply(m, func(name string) (string, bool) {
				text, ok := tt.header[name]
				return text, ok
			})
			var got string
			var rej *mtakit.Reject
			switch {
			case errors.As(err, &rej):
				got = rej.Error()
			case err != nil:
				t.Fatal(err)
			default:
				name, err := m.DeriveQueue()
				if err != nil {
					t.Fatal(err)
				}
				got = fmt.Sprint(name, " ", remove)
				if m.Schedule != nil {
					got += " from " + m.Schedule.First.Format(time.DateOnly)
				}
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	q := load(t, "[tenant.t]\noverall_max_message_rate='3/h'\ncampaigns.c.overall_max_message_rate='1/h'\n[tenant.u]\n")
	th := shaping.NewThrottles()
	ready := func(tenant, campaign string) error {
		return q.Ready(t.Context(), th, &mtakit.Message{Meta: map[string]any{"tenant": tenant, "campaign": campaign}})
	}
	for i, err := range []error{ready("t", "c"), ready("t", ""), ready("u", ""), ready("", "c")} {
		if err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	var d *mtakit.Delay
	if err := ready("t", "c"); !errors.As(err, &d) || d.Reason != "queue-helper-tenant-campaign-overall_max_message_rate-t-c" || d.For < 59*time.Minute {
		t.Errorf("over the campaign's rate: %v", err)
	}
	if err := ready("t", ""); !errors.As(err, &d) || d.Reason != "queue-helper-tenant-overall_max_message_rate-t" || d.For > 20*time.Minute {
		t.Errorf("over the tenant's rate: %v", err)
	}
}

func TestSeveralFiles(t *testing.T) {
	t.Parallel()
	q := load(t, "[tenant.t]\nrequire_authz=['a','b']\n[queue.default]\nmax_age='1h'\nretry_interval='1m'\n",
		`{"tenant": {"t": {"require_authz": ["c"]}}, # as a whole
		  "queue": {"default": {"max_age": 7200}}}`)
	s, err := q.Settings(t.Context(), mtakit.QueueName{})
	if err != nil || s.MaxAge.Std() != 2*time.Hour || s.RetryInterval.Std() != time.Minute {
		t.Errorf("max_age = %v, retry_interval = %v, %v", s.MaxAge, s.RetryInterval, err)
	}
	m := &mtakit.Message{To: []string{"x@y"}, Meta: map[string]any{"authz_id": "b"}}
	_, err = load(t, "tenant_header='T'\n[tenant.t]\nrequire_authz=['a','b']\n", `{"tenant":{"t":{"require_authz":["c"]}}}`).
		Apply(m, func(string) (string, bool) { return "t", true })
	if err == nil {
		t.Error("a shorter list of a later file does not replace the whole of the earlier one")
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, file, want string }{
		{"unknown at the top", "tenant_haeder = 'x'", "a.toml:1:1: error: unknown key tenant_haeder; did you mean tenant_header?"},
		{"not a table", "queue = 1\n[tenant]\nx = 1", "a.toml:1:9: error: queue: expected a table, got the integer 1\na.toml:3:5: error: tenant.x: expected a table, got the integer 1"},
		{"option", "[queue.default]\nmax_age = 'long'\nretry = 5\nstrategy='Best'\nretry_interval=0", "a.toml:2:11: error: max_age: invalid value: string \"long\", expected a duration: a number is missing at \"long\"\n" +
			"a.toml:3:1: error: unknown key retry\na.toml:4:10: error: strategy: expected one of TimerWheel, SkipList, SingletonTimerWheel, SingletonTimerWheelV2, got the string \"Best\"\n" +
			"a.toml:5:16: error: retry_interval: expected more than 0"},
		{"option that looks like a tenant", "[queue.'a.b'.shrink_polcy]\n", "a.toml:1:14: warning: shrink_polcy is taken for the name of a tenant; did you mean shrink_policy?"},
		{"tenant that is not defined", "[tenant.a]\n[queue.'a.b'.b]\n[queue.'a.b'.a.c]\n", "a.toml:2:14: warning: b is taken for the name of a tenant, but no tenant of that name is defined"},
		{"tenant of default", "[queue.default.a]\n", "a.toml:1:16: warning: tenant a: tenants have no effect in queue.default"},
		{"below a campaign", "[queue.'a.b'.t.c.d]\n", "a.toml:1:18: error: unknown key d"},
		{"without effect", "[queue.'a.b'.t]\noverall_max_message_rate='1/s'\n[tenant.t.campaigns.c]\nmax_age='1h'\nrouting_domain='x'", "a.toml:2:1: warning: overall_max_message_rate has no effect here; it belongs into the tenant's table under tenant\n" +
			"a.toml:4:1: warning: max_age has no effect here; it belongs into the campaign's table under queue\n" +
			"a.toml:5:1: warning: routing_domain has no effect here; it belongs into the campaign's table under queue"},
		{"default tenant", "default_tenant = 't'", "a.toml:1:18: error: default_tenant: tenant t is not defined"},
		{"upper case", "[queue.'A.b']", "a.toml:1:8: warning: queue.A.b: domains are looked up in lower case; nothing matches this"},
		{"tenant keys", "[tenant.t]\nrouting_domain = 'x'\nrequire_authz = 'x'\ncampaigns.c = 1", "a.toml:2:1: error: unknown key routing_domain\na.toml:3:17: error: require_authz: expected an array, got the string \"x\"\na.toml:4:15: error: campaigns.c: expected a table, got the integer 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files := write(t, tt.file)
			var got []string
			for _, f := range queuefile.Check(queuefile.Config{Files: files}) {
				f.File = filepath.Base(f.File)
				got = append(got, f.String())
			}
			if strings.Join(got, "\n") != tt.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n"), tt.want)
			}
		})
	}
	_, err := queuefile.Load(queuefile.Config{Files: []string{"/nonexistent/q.toml"}})
	if want := "/nonexistent/q.toml: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("err = %v, want %s", err, want)
	}
}

func TestPools(t *testing.T) {
	t.Parallel()
	q := load(t, policy+"[queue.'z.example'.acme.c]\negress_pool='pool-z'\n")
	var got []string
	for name, at := range q.Pools() {
		got = append(got, fmt.Sprint(name, ":", at.Line))
	}
	if want := "pool-a:9 pool-0:21 pool-z:33"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, " "), want)
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	files := write(t, "[queue.default]\nmax_age='1h'\n")
	told := make(chan error, 1)
	l, err := queuefile.Watch(t.Context(), queuefile.Config{Files: files}, func(_ *queuefile.Queues, err error) { told <- err })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	for _, step := range []struct {
		text string
		bad  bool
		want time.Duration
	}{{"[queue.default]\nmax_age='2h'\n", false, 2 * time.Hour}, {"[queue", true, 2 * time.Hour}, {"[queue.default]\nmax_age='3h'\n", false, 3 * time.Hour}} {
		if err := os.WriteFile(files[0]+".new", []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(files[0]+".new", files[0]); err != nil {
			t.Fatal(err)
		}
		if err := <-told; (err != nil) != step.bad {
			t.Errorf("%q: told %v", step.text, err)
		}
		if s, _ := l.Settings(ctx, mtakit.QueueName{}); s.MaxAge.Std() != step.want {
			t.Errorf("%q: max_age = %v, want %v", step.text, s.MaxAge, step.want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func BenchmarkSettings(b *testing.B) {
	q := load(b, policy)
	name := mtakit.ParseQueueName("welcome:acme@dest.example")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := q.Settings(context.Background(), name); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzLoad: a file is refused with a place for each error, or gives settings for every queue, the same when it is named twice.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{policy, "[queue.default]\nprotocol.smtp.mx_list=['a']\n", "[queue.'*'.t.c]\n", "tenant.a.campaigns.b = {}"} {
		f.Add(s)
	}
	file := filepath.Join(f.TempDir(), "q.toml")
	f.Fuzz(func(t *testing.T, text string) {
		if os.WriteFile(file, []byte(text), 0o600) != nil {
			t.Skip()
		}
		q, err := queuefile.Load(queuefile.Config{Files: []string{file}})
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, file+":") {
					t.Fatalf("an error without a place: %s", line)
				}
			}
			return
		}
		twice, err := queuefile.Load(queuefile.Config{Files: []string{file, file}})
		if err != nil {
			t.Fatalf("named twice: %v", err)
		}
		for _, name := range []string{"other.example", "acme@dest.example", "welcome:acme@dest.example", "a.wild.example"} {
			a, _ := q.Settings(t.Context(), mtakit.ParseQueueName(name))
			b, _ := twice.Settings(t.Context(), mtakit.ParseQueueName(name))
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("%s: %+v, named twice %+v", name, a, b)
			}
		}
	})
}
