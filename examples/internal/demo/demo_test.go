package demo

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/shaping"
	"github.com/mtakit/mtakit/shaping/queuefile"
	"github.com/mtakit/mtakit/shaping/sourcefile"
	"github.com/mtakit/mtakit/smtpclient/route"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	w, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	found := shaping.Check(t.Context(), shaping.Config{Files: w.Shaping, Router: route.New(route.Config{Resolver: w.dns.Resolver()}), Automation: true, Checks: shaping.AllChecks()})
	found = append(found, queuefile.Check(queuefile.Config{Files: w.Queues})...)
	found = append(found, sourcefile.Check(w.Sources)...)
	for _, f := range found {
		t.Error(f)
	}
	sum := 0
	for _, d := range destinations {
		sum += d.share
	}
	if sum != 100 {
		t.Errorf("the shares are %d %% together", sum)
	}
}

// A rule acts when its threshold is passed, once, and its effect ends.
func TestReactions(t *testing.T) {
	t.Parallel()
	w, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	rules, err := shaping.Load(t.Context(), shaping.Config{Files: w.Shaping, Router: route.New(route.Config{Resolver: w.dns.Resolver()}), Automation: true})
	if err != nil {
		t.Fatal(err)
	}
	var suspended []string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		suspended = append(suspended, r.URL.Path+" "+string(b))
	}))
	defer srv.Close()
	var said []string
	rs := &reactions{http: srv.URL, file: filepath.Join(t.TempDir(), "reactions.toml"), rules: rules, seen: make(map[*shaping.Rule][]time.Time),
		set: make(map[string]setting), say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	reply := func(domain, text string) {
		r, err := mtakit.ParseResponse(text)
		if err != nil {
			t.Fatal(err)
		}
		rs.react(t.Context(), now, &mtakit.Record{Kind: mtakit.TransientFailure, Queue: mtakit.QueueName{Domain: domain}, Site: "mta-1->mx." + domain + "@smtp_client", Response: r})
	}
	file := func() string {
		b, _ := os.ReadFile(rs.file)
		return string(b)
	}
	for range 3 {
		reply("throttling.example", "421 4.7.0 you are sending too fast")
		reply("quick.example", "421 4.7.0 you are sending too fast") // has no rule
	}
	if len(said) > 0 {
		t.Errorf("three replies do: %q", said)
	}
	for range 5 {
		reply("throttling.example", "421 4.7.0 you are sending too fast")
	}
	if !strings.Contains(file(), "[\"throttling.example\"]\nmax_message_rate = \"10/s\" # until 12:00:20\n") || len(said) != 1 {
		t.Errorf("the file is %q; %q", file(), said)
	}
	reply("blocking.example", "451 4.7.1 blocked: unusual volume")
	reply("blocking.example", "451 4.7.1 blocked: unusual volume")
	want := []string{`/api/admin/suspend-ready-q/v1 {"duration":"10s","name":"mta-1-\u003emx.blocking.example@smtp_client","reason":"451 4.7.1 blocked: unusual volume"}`}
	if !slices.Equal(suspended, want) {
		t.Errorf("suspended %q, want %q", suspended, want)
	}
	now = now.Add(20 * time.Second)
	rs.expire(now)
	if strings.Contains(file(), "rate") || len(rs.set) != 0 {
		t.Errorf("afterwards the file is %q", file())
	}
}
