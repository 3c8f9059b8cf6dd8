package dashboard_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/queue/httpapi/dashboard"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// hostile is markup where names and answers are.
const (
	hostile       = `<img src=x onerror=alert(1)>:"><script>alert(2)</script>@evil.example`
	hostileAnswer = `<script>alert(3)</script> <b onmouseover=alert(4)>see</b> https://evil.example/?a&lt;`
)

// station is an MTA with peers of all kinds, and its HTTP interface.
type station struct {
	queue    *queue.Queue
	activity *queue.Activity
	outbound mtakit.Traces
	url      string
	server   *httptest.Server
}

// peer answers by domain; it never goes through a network.
type peer struct {
	domain string
	info   mtakit.SessionInfo
}

var sessions atomic.Int64

func connect(_ context.Context, p *mtakit.Path) (mtakit.Session, error) {
	domain := strings.TrimPrefix(p.Site.Name, "mx.")
	if strings.HasPrefix(domain, "dark") {
		return nil, errors.New("192.0.2.1:25: connection refused")
	}
	return &peer{domain, mtakit.SessionInfo{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", sessions.Add(1)), PeerName: p.Site.Name}}, nil
}

func (p *peer) Send(ctx context.Context, d *mtakit.Delivery, _ func() *mtakit.Delivery) error {
	r := mtakit.Response{Code: 250, Text: "ok"}
	switch {
	case strings.HasPrefix(p.domain, "slow"):
		<-ctx.Done()
		return ctx.Err()
	case strings.HasPrefix(p.domain, "busy"):
		r = mtakit.Response{Code: 421, Enhanced: [3]uint16{4, 7, 28}, Text: "Our system has detected an unusual rate of mail. Please slow down and visit https://support.example/a/81126", Command: "MAIL FROM:<news@shop.example>"}
	case strings.HasPrefix(p.domain, "full"):
		r = mtakit.Response{Code: 452, Enhanced: [3]uint16{4, 2, 2}, Text: "mailbox full"}
	case strings.HasPrefix(p.domain, "nobody"):
		r = mtakit.Response{Code: 550, Enhanced: [3]uint16{5, 1, 1}, Text: "no such user here", Command: "RCPT TO:<u@nobody.example>"}
	case strings.HasPrefix(p.domain, "evil"):
		r = mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 7, 1}, Text: hostileAnswer}
	}
	for _, n := range d.Rcpts {
		d.Results = append(d.Results, mtakit.Result{Rcpt: n, Response: r})
	}
	return nil
}

func (p *peer) Info() *mtakit.SessionInfo { return &p.info }
func (p *peer) Close() error              { return nil }

func classify(r mtakit.Response) mtakit.Class {
	switch r.Enhanced {
	case [3]uint16{4, 7, 28}:
		return "RateLimited"
	case [3]uint16{4, 2, 2}:
		return "QuotaIssues"
	case [3]uint16{5, 1, 1}:
		return "InvalidRecipient"
	case [3]uint16{4, 7, 1}:
		return `<u>Policy</u>`
	}
	return ""
}

// newStation starts an MTA that has had mail for all its peers.
func newStation(t testing.TB, change func(*httpapi.Config)) *station {
	t.Helper()
	s := &station{activity: &queue.Activity{}}
	path := mtakit.DefaultPathConfig()
	path.ConnectionLimit.N, path.MaxReady = 3, 40
	limited := mtakit.DefaultQueueSettings()
	limited.MaxMessageRate = mtakit.Rate{N: 1, Per: time.Hour, Burst: 1}
	normal := mtakit.DefaultQueueSettings()
	normal.EgressPool = "pool"
	pool := &mtakit.Pool{Name: "pool", Entries: []mtakit.PoolEntry{{Name: "ip-198-51-100-7", Weight: 2}, {Name: "ip-198-51-100-8", Weight: 1}}}
	q, err := queue.New(queue.Config{
		Spool: &spooltest.Memory{}, MemoryLimit: -1, GracePeriod: time.Millisecond, Record: s.activity, Classify: mtakit.ClassifierFunc(classify),
		Router: mtakit.RouterFunc(func(_ context.Context, domain string) (*mtakit.Site, error) {
			return &mtakit.Site{Name: "mx." + domain, Hosts: []mtakit.Host{{Name: "mx." + domain}}}, nil
		}),
		Egress: mtakit.EgressFunc(connect),
		Policy: queue.Policy{
			Settings: func(_ context.Context, n mtakit.QueueName) (*mtakit.QueueSettings, error) {
				if n.Domain == "throttled.example" {
					return &limited, nil
				}
				return &normal, nil
			},
			Pool: func(_ context.Context, name string) (*mtakit.Pool, error) {
				if name == "pool" {
					return pool, nil
				}
				return &mtakit.Pool{Name: name, Entries: []mtakit.PoolEntry{{Name: mtakit.Unspecified, Weight: 1}}}, nil
			},
			Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) { return &path, nil },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.queue = q
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	cfg := httpapi.Config{Queue: q, Activity: s.activity, Outbound: &s.outbound, Hostname: "mta1.shop.example"}
	if change != nil {
		change(&cfg)
	}
	api, err := httpapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dashboard.Mount(api)
	s.server = httptest.NewServer(api)
	s.url = s.server.URL
	t.Cleanup(func() {
		s.server.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.past()
	for domain, n := range map[string]int{"slow.example": 180, "busy.example": 320, "full.example": 45, "nobody.example": 30, "dark.example": 12, "throttled.example": 64, "fine.example": 400} {
		s.inject(t, mtakit.QueueName{Campaign: "autumn", Tenant: "shop", Domain: domain}, n, 0)
	}
	s.inject(t, mtakit.ParseQueueName(hostile), 7, 0)
	for i := range 120 {
		s.inject(t, mtakit.QueueName{Tenant: fmt.Sprintf("tenant%d", i%9), Domain: fmt.Sprintf("d%d.example", i)}, 1+i%7, time.Duration(1+i)*time.Minute)
	}
	return s
}

// inject submits n messages for a queue, due after a while.
func (s *station) inject(t testing.TB, name mtakit.QueueName, n int, after time.Duration) {
	t.Helper()
	batch := make([]mtakit.Submission, n)
	for i := range batch {
		m := &mtakit.Message{Sender: "news@shop.example", To: []string{fmt.Sprintf("u%d@%s", i, name.Domain)}, Meta: map[string]any{}}
		if name.Campaign != "" {
			m.Meta["campaign"] = name.Campaign
		}
		if name.Tenant != "" {
			m.Meta["tenant"] = name.Tenant
		}
		if name.Routing != "" {
			m.Meta["routing_domain"] = name.Routing
		}
		if after > 0 {
			m.Due = time.Now().Add(after)
		}
		batch[i] = mtakit.Submission{Message: m, Body: mtakit.Bytes("Subject: x\r\n\r\nx\r\n")}
	}
	if err := s.queue.Submit(t.Context(), batch, mtakit.Durable); err != nil {
		t.Fatal(err)
	}
}

// talk has a session of a ready queue be traced.
func (s *station) talk(readyQueue string) {
	meta := map[string]any{"id": "7f3a0000-0000-4000-8000-000000000001", "ready_queue_name": readyQueue, "mx_host": "mx.busy.example",
		"mx_address": "192.0.2.1", "source_address": "198.51.100.7:40001", "message_id": "0199", "sender": "news@shop.example", "recipient": []string{"u@busy.example"}, "queue_name": hostile}
	say := func(kind mtakit.TraceKind, text string) {
		s.outbound.Publish(&mtakit.TraceEvent{Kind: kind, Meta: meta, Text: text})
	}
	say(mtakit.TraceBegin, "")
	say(mtakit.TraceDiagnostic, "Attempting connection to 192.0.2.1:25")
	say(mtakit.TraceConnected, "")
	say(mtakit.TraceRead, "220 mx.busy.example ESMTP\r\n")
	say(mtakit.TraceWrite, "EHLO mta1.shop.example\r\n")
	say(mtakit.TraceRead, "250-mx.busy.example\r\n250 PIPELINING\r\n")
	say(mtakit.TraceMessage, "")
	say(mtakit.TraceWrite, "MAIL FROM:<news@shop.example>\r\n")
	say(mtakit.TraceRead, "421 4.7.28 "+hostileAnswer+"\r\n")
	say(mtakit.TraceWrite, "QUIT\r\n")
	say(mtakit.TraceRead, "221 bye\r\n")
	say(mtakit.TraceClosed, "")
}

// past makes up two days of traffic, the last ten minutes second by second, and an hour of failures.
func (s *station) past() {
	to := make([]string, 20000)
	record := func(at time.Time, kind mtakit.Kind, domain string, n float64, r mtakit.Response) {
		if n >= 1 {
			s.activity.Record(&mtakit.Record{Kind: kind, Time: at, To: to[:int(n)], Class: classify(r), Site: "ip-198-51-100-7->mx." + domain + "@smtp_client", PeerName: "mx." + domain,
				Queue: mtakit.QueueName{Campaign: "autumn", Tenant: "shop", Domain: domain}, Response: r})
		}
	}
	wave := func(at time.Time, period float64) float64 { return math.Sin(float64(at.Unix()) / period * 2 * math.Pi) }
	now, step := time.Now(), 10*time.Second
	for at := now.Add(-48 * time.Hour).Truncate(step); at.Before(now); at = at.Add(step) {
		if now.Sub(at) <= 10*time.Minute {
			step = time.Second
		}
		in := (240 + 140*wave(at, 86400) + 50*wave(at, 410)) * (1 + 0.05*wave(at, 17) + 0.03*wave(at, 61)) * step.Seconds()
		record(at, mtakit.Reception, "fine.example", in, mtakit.Response{Code: 250})
		record(at, mtakit.Delivered, "fine.example", in*(0.84+0.06*wave(at, 300)), mtakit.Response{Code: 250})
		if at.Unix()%10 != 0 {
			continue
		}
		record(at, mtakit.Bounce, "nobody.example", 30*(1+wave(at, 900)), mtakit.Response{Code: 550, Enhanced: [3]uint16{5, 1, 1}, Text: "no such user here"})
		record(at, mtakit.TransientFailure, "busy.example", 120*(1.2+wave(at, 500)), mtakit.Response{Code: 421, Enhanced: [3]uint16{4, 7, 28}, Text: "unusual rate of mail"})
		record(at, mtakit.TransientFailure, "full.example", 20*(1+wave(at, 1700)), mtakit.Response{Code: 452, Enhanced: [3]uint16{4, 2, 2}, Text: "mailbox full"})
	}
}
