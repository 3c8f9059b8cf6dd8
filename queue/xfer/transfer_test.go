package xfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/queue/queuetest"
	"github.com/mtakit/mtakit/queue/xfer"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// network is nodes that reach each other by name, in virtual time.
type network struct {
	t     *testing.T
	mu    sync.Mutex
	hosts map[string]*pipes
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8000} }

// peer is a pipe with addresses.
type peer struct{ net.Conn }

func (peer) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }
func (peer) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8000} }

// serve has h answer at http://name:8000 until the test ends.
func (n *network) serve(name string, h http.Handler) {
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	n.hosts[name+":8000"] = l
	n.mu.Unlock()
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go srv.Serve(l)
	n.t.Cleanup(func() { srv.Close() })
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.hosts[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- peer{theirs}:
		return peer{ours}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// node is an MTA of which messages can be transferred.
type node struct {
	*queuetest.MTA
	*xfer.Node
	spool *flaky
	api   *httpapi.API
}

// flaky is a spool that fails after it has stored, as often as was said.
type flaky struct {
	spooltest.Memory
	failures atomic.Int32
}

func (s *flaky) Store(ctx context.Context, batch []mtakit.Submission, d mtakit.Durability) error {
	err := s.Memory.Store(ctx, batch, d)
	if err == nil && s.failures.Add(-1) >= 0 {
		err = mtakit.ErrUnhealthy
	}
	return err
}

// node starts one. change may change its configuration.
func (n *network) node(name string, change ...func(*xfer.Config)) *node {
	nd := &node{spool: &flaky{}}
	nd.MTA = queuetest.New(n.t, queuetest.Options{Spool: nd.spool, Seed: uint64(len(name)) + uint64(name[0]), Change: func(cfg *queue.Config) {
		cfg.NodeID = name
		cfg.Egress = mtakit.EgressMap{"smtp_client": cfg.Egress, "xfer": mtakit.EgressFunc(func(ctx context.Context, p *mtakit.Path) (mtakit.Session, error) {
			return nd.Node.Connect(ctx, p)
		})}
	}})
	cfg := xfer.Config{Queue: nd.Queue, Spool: nd.spool, NodeID: name, Dial: n.dial}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if nd.Node, err = xfer.New(cfg); err != nil {
		n.t.Fatal(err)
	}
	if nd.api, err = httpapi.New(httpapi.Config{Queue: nd.Queue, Xfer: nd.Node, Hostname: name}); err != nil {
		n.t.Fatal(err)
	}
	n.serve(name, nd.api)
	return nd
}

// bubble runs f in virtual time.
func bubble(t *testing.T, f func(t *testing.T, n *network)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, &network{t: t, hosts: make(map[string]*pipes)}) })
}

// has are the records of a node, one a line: kind, queue, response; without Reception and Delayed unless these are asked for.
func (nd *node) has(kinds ...mtakit.Kind) string {
	var lines []string
	for _, r := range nd.Records() {
		if len(kinds) == 0 && r.Kind != mtakit.Reception && r.Kind != mtakit.Delayed || slices.Contains(kinds, r.Kind) {
			lines = append(lines, fmt.Sprintf("%s %s %s", r.Kind, r.Queue, r.Response))
		}
	}
	return strings.Join(lines, "\n")
}

// stored are the messages that a spool has.
func stored(t *testing.T, s mtakit.Spool) (all []*mtakit.Message) {
	t.Helper()
	var above mtakit.ID
	for i := range above {
		above[i] = 0xff
	}
	for e, err := range s.Scan(context.Background(), above) {
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.Load(context.Background(), e.ID)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

const text = "Subject: hello\r\n\r\n.dots\r\nand \x00 bytes\xff\r\n"

// A message has the same age, tries, time, schedule, metadata and bytes on the other side.
func TestTransfer(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b := n.node("a"), n.node("b")
		a.Peer("d.test").Reply("RCPT", "451 4.7.1 later")
		expires := time.Now().Add(48 * time.Hour)
		id := a.Submit(&mtakit.Message{Sender: "s@src.test", To: []string{"u@d.test"}, Schedule: &mtakit.Schedule{Expires: expires},
			Meta: map[string]any{"tenant": "acme", "campaign": "spring", "x_list": []any{"1", 2.5}, "received_from": "192.0.2.1:25"}}, text)
		a.Run(70 * time.Minute) // attempts at 0, 20m, 60m
		before := stored(t, a.spool)[0]
		if before.Tries != 3 {
			t.Fatalf("there were %d tries", before.Tries)
		}
		if err := a.Start(xfer.Order{Target: "http://b:8000", Reason: "moving"}); err != nil {
			t.Fatal(err)
		}
		a.Run(time.Second)
		if left := stored(t, a.spool); len(left) != 0 {
			t.Fatalf("still there: %+v\n%s", left[0], a.Log())
		}
		after := stored(t, b.spool)
		if len(after) != 1 {
			t.Fatalf("b has %d messages\n%s", len(after), a.Log())
		}
		m := after[0]
		if m.ID == id || !m.ID.Time().Equal(id.Time()) {
			t.Errorf("the id is %v, that of a was %v", m.ID, id)
		}
		if m.Sender != before.Sender || !slices.Equal(m.To, before.To) || m.Tries != 3 || !m.Due.Equal(before.Due) || m.Queue != before.Queue ||
			m.Schedule == nil || !m.Schedule.Expires.Equal(expires) {
			t.Errorf("it is\n%+v\nwas\n%+v", m, before)
		}
		for key, want := range map[string]any{
			"tenant": "acme", "campaign": "spring", "received_from": "192.0.2.1:25", "xfer_prior_id": id.String(), "xfer_prior_node": "a",
			"xfer_from": "127.0.0.1", "xfer_via": "127.0.0.1:8000", "xfer_auth": "127.0.0.1",
		} {
			if m.Meta[key] != want {
				t.Errorf("metadata %s is %v, want %v", key, m.Meta[key], want)
			}
		}
		if _, ok := m.Meta["xfer_queue_info"]; ok || m.Meta["queue"] != nil || fmt.Sprint(m.Meta["x_list"]) != "[1 2.5]" {
			t.Errorf("metadata are %v", m.Meta)
		}
		body, err := b.spool.Open(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		if string(got) != text {
			t.Errorf("the text is %q", got)
		}
		b.Drain(3 * time.Hour)
		if got, want := a.has(), `TransientFailure spring:acme@d.test 451 4.7.1 later
TransientFailure spring:acme@d.test 451 4.7.1 later
TransientFailure spring:acme@d.test 451 4.7.1 later
AdminRebind spring:acme@d.test 250 Rebound from spring:acme@d.test to http://b:8000/.xfer.kumomta.internal: moving
XferOut http://b:8000/.xfer.kumomta.internal 250 new id is `+m.ID.String(); got != want {
			t.Errorf("records of a are\n%s\nwant\n%s", got, want)
		}
		if got, want := b.has(mtakit.XferIn, mtakit.Reception, mtakit.Delivered), "XferIn spring:acme@d.test 250 \nDelivery spring:acme@d.test 250 2.0.0 ok"; got != want {
			t.Errorf("records of b are\n%s\nwant\n%s", got, want)
		}
		b.WantRecords(mtakit.XferIn, mtakit.Delayed, mtakit.Delivered)
		in, out := b.Records()[0], a.Records()[len(a.Records())-1]
		if in.DeliveryProtocol != "xfer" || in.PeerAddr.String() != "127.0.0.1:0" || in.Tries != 3 || in.Site != "" || in.PeerName != "" {
			t.Errorf("XferIn is %s", in.AppendJSON(nil))
		}
		if out.DeliveryProtocol != "xfer" || out.PeerName != "b" || out.Site != "unspecified->http://b:8000/.xfer.kumomta.internal@xfer" || out.SessionID == "" {
			t.Errorf("XferOut is %s", out.AppendJSON(nil))
		}
	})
}

// A message that is repeated since the answer was lost arrives once, whether it is still there or has been delivered meanwhile.
func TestAnswerLost(t *testing.T) {
	for name, due := range map[string]time.Duration{"waiting": time.Hour, "delivered": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *network) {
				a, b := n.node("a"), n.node("b")
				var requests atomic.Int32
				n.serve("lossy.localhost", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if requests.Add(1) > 3 {
						b.api.ServeHTTP(w, r)
						return
					}
					b.api.ServeHTTP(&nowhere{header: http.Header{}}, r)
					panic(http.ErrAbortHandler)
				}))
				a.Submit(&mtakit.Message{Sender: "s@src.test", To: []string{"u@d.test"}, Due: time.Now().Add(due)}, text)
				if err := a.Start(xfer.Order{Target: "http://lossy.localhost:8000"}); err != nil {
					t.Fatal(err)
				}
				a.Run(5 * time.Minute)
				if left := stored(t, a.spool); len(left) != 0 {
					t.Errorf("still at a: %+v", left[0])
				}
				a.WantRecords(mtakit.Reception, mtakit.Delayed, mtakit.AdminRebind, mtakit.TransientFailure, mtakit.TransientFailure, mtakit.TransientFailure, mtakit.XferOut)
				b.Run(2 * time.Hour)
				b.WantRecords(mtakit.XferIn, mtakit.Delayed, mtakit.Delivered)
				if got := len(b.Peer("d.test").Received()); got != 1 {
					t.Errorf("%d messages were delivered", got)
				}
			})
		})
	}
}

// nowhere takes an answer that nobody gets.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n *nowhere) WriteHeader(int)             {}

// Whatever another node answers, the message is kept and tried again.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"overloaded", 503, "Error: load\r\nshedding", "KumoMTA internal: failed to send message: x:8000 answered 503 Service Unavailable: Error: load shedding"},
		{"too large", 413, "", "KumoMTA internal: failed to send message: x:8000 answered 413 Request Entity Too Large: "},
		{"elsewhere", 302, "", "KumoMTA internal: failed to send message: x:8000 answered 302 Found: "},
		{"no JSON", 200, "OK", "KumoMTA internal: failed to send message: x:8000 answered without an id: OK"},
		{"no id", 200, `{"id": ""}`, `KumoMTA internal: failed to send message: x:8000 answered without an id: {"id": ""}`},
		{"cut off", 0, "", "KumoMTA internal: failed to send message: unexpected EOF"},
		{"long", 500, strings.Repeat("x", 10000), "KumoMTA internal: failed to send message: x:8000 answered 500 Internal Server Error: " + strings.Repeat("x", 300)},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *network) {
				a := n.node("a")
				var requests atomic.Int32
				n.serve("x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					requests.Add(1)
					io.Copy(io.Discard, r.Body)
					if test.status == 0 {
						panic(http.ErrAbortHandler)
					}
					w.Header().Set("Location", "http://elsewhere")
					w.WriteHeader(test.status)
					io.WriteString(w, test.body)
				}))
				a.Submit(&mtakit.Message{Sender: "s@src.test", To: []string{"u@d.test"}, Due: time.Now().Add(time.Hour)}, text)
				a.Settle()
				if err := a.Start(xfer.Order{Target: "http://x:8000"}); err != nil {
					t.Fatal(err)
				}
				a.Run(25 * time.Second) // attempts at 0 and 10s
				if requests.Load() != 2 || len(stored(t, a.spool)) != 1 {
					t.Errorf("%d requests, %d messages are left", requests.Load(), len(stored(t, a.spool)))
				}
				for _, r := range a.Records() {
					if r.Kind == mtakit.TransientFailure && r.Response.Text != test.want && test.status != 0 ||
						r.Kind == mtakit.XferOut || r.Kind == mtakit.TransientFailure && !strings.HasPrefix(r.Response.Text, mtakit.Internal+"failed to send message: ") {
						t.Errorf("record %s, want text %s", r.AppendJSON(nil), test.want)
					}
				}
			})
		})
	}
}

// Cancel brings back what is in the ready queue as well; what is in hand follows when it has failed.
func TestCancel(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a := n.node("a")
		n.serve("x", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}))
		due := time.Now().Add(24 * time.Hour).Truncate(time.Second)
		for i := range 500 {
			a.Submit(&mtakit.Message{Sender: "s@src.test", To: []string{fmt.Sprintf("u%d@d.test", i)}, Due: due, Tries: 2}, text)
		}
		if err := a.Start(xfer.Order{Target: "http://x:8000"}); err != nil {
			t.Fatal(err)
		}
		a.Run(time.Second)
		const name = "http://x:8000/.xfer.kumomta.internal"
		if q, ok := a.Queue.ScheduledQueue(name); !ok || q.InFlight != 500 {
			t.Fatalf("the queue is %+v", q)
		}
		cancel := func() {
			if err := a.Cancel(name, "stop"); err != nil {
				t.Fatal(err)
			}
			a.Settle()
		}
		cancel()
		q, _ := a.Queue.ScheduledQueue(name)
		if q.Messages > 32 { // as many connections
			t.Errorf("%d messages are left", q.Messages)
		}
		a.Run(6 * time.Minute) // data_dot_timeout and a pause
		cancel()
		for q, ok := a.Queue.ScheduledQueue(name); ok && q.Messages > 0; q, ok = a.Queue.ScheduledQueue(name) {
			a.Run(6 * time.Minute)
			cancel()
		}
		all := stored(t, a.spool)
		for _, m := range all {
			if m.Queue != (mtakit.QueueName{Domain: "d.test"}) || !m.Due.Equal(due) || m.Tries != 2 || m.Meta["xfer_queue_info"] != nil {
				t.Fatalf("after Cancel there is %+v", m)
			}
		}
		if len(all) != 500 {
			t.Errorf("%d of 500 messages are left", len(all))
		}
		a.Run(time.Until(due) + time.Minute)
		if got := len(a.Peer("d.test").Received()); got != 500 {
			t.Errorf("%d of 500 messages were delivered", got)
		}
	})
}

// A message goes with all its recipients, however many the path has in one transaction.
func TestManyRecipients(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b := n.node("a"), n.node("b")
		var to []string
		for i := range 250 {
			to = append(to, fmt.Sprintf("u%d@d.test", i))
		}
		a.Submit(&mtakit.Message{Sender: "s@src.test", To: to, Due: time.Now().Add(time.Hour)}, text)
		a.Settle()
		if err := a.Start(xfer.Order{Target: "http://b:8000"}); err != nil {
			t.Fatal(err)
		}
		a.Run(time.Second)
		if all := stored(t, b.spool); len(all) != 1 || !slices.Equal(all[0].To, to) || len(stored(t, a.spool)) != 0 {
			t.Errorf("b has %v", all)
		}
	})
}

// A large message goes through without being in memory as a whole on the way out.
func TestLarge(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b := n.node("a"), n.node("b")
		big := strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 5<<20/72)
		a.Submit(&mtakit.Message{Sender: "s@src.test", To: []string{"u@d.test"}, Due: time.Now().Add(time.Hour)}, big)
		a.Settle()
		if err := a.Start(xfer.Order{Target: "http://b:8000"}); err != nil {
			t.Fatal(err)
		}
		a.Run(time.Second)
		all := stored(t, b.spool)
		if len(all) != 1 {
			t.Fatalf("b has %v\n%s", all, a.Log())
		}
		body, err := b.spool.Open(t.Context(), all[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(io.NewSectionReader(body, 0, body.Size())); !bytes.Equal(got, []byte(big)) {
			t.Errorf("%d bytes are not the %d sent", len(got), len(big))
		}
	})
}

// A node that is told to send to itself is refused, and keeps its mail.
func TestSelf(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a := n.node("a")
		a.Submit(&mtakit.Message{Sender: "s@src.test", To: []string{"u@d.test"}, Due: time.Now().Add(time.Hour)}, text)
		a.Settle()
		if err := a.Start(xfer.Order{Target: "http://a:8000"}); err != nil {
			t.Fatal(err)
		}
		a.Run(time.Second)
		if got := a.has(mtakit.TransientFailure); !strings.HasSuffix(got, "answered 400 Bad Request: Error: cannot xfer to myself. xfer_prior_node=a") {
			t.Errorf("records are %s", got)
		}
	})
}

// What policy refuses is tried again, and what it changes holds.
func TestReceived(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a := n.node("a")
		var obliging atomic.Bool
		b := n.node("b", func(c *xfer.Config) {
			c.Received = func(_ context.Context, m *mtakit.Message, o xfer.Origin) error {
				if !obliging.Load() {
					return errors.New("not now, and the secret reason is not told")
				}
				m.Meta["x_from"] = o.From.String()
				return nil
			}
		})
		a.Submit(&mtakit.Message{Sender: "s@src.test", To: []string{"u@d.test"}, Due: time.Now().Add(time.Hour)}, text)
		a.Settle()
		if err := a.Start(xfer.Order{Target: "http://b:8000"}); err != nil {
			t.Fatal(err)
		}
		a.Run(time.Second)
		if got := a.has(mtakit.TransientFailure); !strings.HasSuffix(got, "answered 500 Internal Server Error: Error: internal error") {
			t.Errorf("records are %s", got)
		}
		obliging.Store(true)
		a.Run(20 * time.Second)
		if all := stored(t, b.spool); len(all) != 1 || all[0].Meta["x_from"] != "127.0.0.1" {
			t.Errorf("b has %+v", all)
		}
	})
}

// A message that the spool may have, although it said that it failed, is taken over once, and somebody looks after it.
func TestUnhealthy(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b := n.node("a"), n.node("b")
		b.spool.failures.Store(2)
		a.Submit(&mtakit.Message{Sender: "s@src.test", To: []string{"u@d.test"}, Due: time.Now().Add(time.Hour)}, text)
		if err := a.Start(xfer.Order{Target: "http://b:8000"}); err != nil {
			t.Fatal(err)
		}
		a.Run(time.Minute)
		a.WantRecords(mtakit.Reception, mtakit.Delayed, mtakit.AdminRebind, mtakit.TransientFailure, mtakit.TransientFailure, mtakit.XferOut)
		if all := stored(t, b.spool); len(all) != 1 {
			t.Errorf("b has %d messages", len(all))
		}
		b.Restart()
		b.Run(time.Hour)
		b.WantRecords(mtakit.XferIn, mtakit.Delayed, mtakit.Delivered)
		if all := stored(t, b.spool); len(all) != 0 {
			t.Errorf("b has %d messages", len(all))
		}
	})
}
