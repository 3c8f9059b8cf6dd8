package mtakit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

func ExampleParseQueueName() {
	q := mtakit.ParseQueueName("spring:acme@example.com")
	fmt.Println(q.Campaign, q.Tenant, q.Domain)
	fmt.Println(q)
	// Output:
	// spring acme example.com
	// spring:acme@example.com
}

func ExampleMessage_DeriveQueue() {
	m := mtakit.Message{
		To:   []string{"someone@Example.com"},
		Meta: map[string]any{mtakit.MetaTenant: "acme"},
	}
	q, err := m.DeriveQueue()
	fmt.Println(q, err)
	// Output: acme@example.com <nil>
}

func ExampleIDSource() {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ids := mtakit.IDSource{Rand: strings.NewReader(strings.Repeat("random..", 2))}
	a, b := ids.New(now), ids.New(now)
	fmt.Println(a)
	fmt.Println(a.Compare(b), a.Time().Format(time.DateTime))
	// Output:
	// 019b7ca98c887000b2616e646f6d2e2e
	// -1 2026-01-02 03:04:05
}

func ExampleParseResponse() {
	r, err := mtakit.ParseResponse("550-5.1.1 The account\r\n550 5.1.1 does not exist\r\n")
	fmt.Println(r.Code, r.Enhanced, r.Permanent(), err)
	fmt.Println(r)
	// Output:
	// 550 [5 1 1] true <nil>
	// 550 5.1.1 The account does not exist
}

func ExampleParseRate() {
	r, err := mtakit.ParseRate("1,000/5min,max_burst=20")
	fmt.Println(r.N, r.Per, r.Burst, err)
	fmt.Println(r)
	// Output:
	// 1000 5m0s 20 <nil>
	// 1000/300s,max_burst=20
}

func ExampleParseDuration() {
	d, err := mtakit.ParseDuration("1day 2h")
	fmt.Println(d.Std(), d, err)
	// Output: 26h0m0s 1day 2h <nil>
}

func ExampleSchedule_Adjust() {
	var s mtakit.Schedule
	if err := json.Unmarshal([]byte(`{"dow":"Mon,Tue,Wed,Thu,Fri","tz":"America/Phoenix","start":"09:00:00","end":"17:00:00"}`), &s); err != nil {
		fmt.Println(err)
	}
	friday := time.Date(2026, 5, 8, 18, 0, 0, 0, s.Window.Zone)
	fmt.Println(s.Adjust(friday))
	// Output: 2026-05-11 09:00:00 -0700 MST
}

// Recorders are combined, and write records in their JSON form.
func ExampleTee() {
	bounces := 0
	rec := mtakit.Tee{
		mtakit.RecorderFunc(func(r *mtakit.Record) {
			if r.Kind == mtakit.Bounce {
				bounces++
			}
		}),
		mtakit.RecorderFunc(func(r *mtakit.Record) {
			line := r.AppendJSON(nil)
			os.Stdout.Write(append(line[:68], "…\n"...))
		}),
	}
	rec.Record(&mtakit.Record{Kind: mtakit.Bounce, Sender: "me@sender.example", To: []string{"you@example.com"}})
	fmt.Println(bounces, "bounce")
	// Output:
	// {"type":"Bounce","id":"","sender":"me@sender.example","recipient":"y…
	// 1 bounce
}

// A Router is one function, here one that sends everything to a smart host.
func ExampleRouterFunc() {
	var router mtakit.Router = mtakit.RouterFunc(func(_ context.Context, domain string) (*mtakit.Site, error) {
		return mtakit.ListSite("smarthost.example:587")
	})
	site, err := router.Route(context.Background(), "example.com")
	fmt.Println(site.Name, site.Hosts[0].Port, err)
	// Output: mx_list:smarthost.example:587 587 <nil>
}

// One who watches sees what sessions publish from then on.
func ExampleTraces() {
	var traces mtakit.Traces // smtpclient.TraceTo(&traces) publishes what an Egress does
	w := traces.Watch(func(e *mtakit.TraceEvent) bool { return e.Meta["domain"] == "example.com" })
	defer w.Close()
	for _, domain := range []string{"example.com", "example.net"} {
		traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceWrite, Meta: map[string]any{"domain": domain}, Text: "MAIL FROM:<me@sender.example>\r\n"})
	}
	e, err := w.Next(context.Background())
	fmt.Printf("%s %q %v\n", e.Kind, e.Text, err)
	// Output: Write "MAIL FROM:<me@sender.example>\r\n" <nil>
}
