package smtpserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is a listener in memory. Both directions of a connection are unbuffered, as in net.Pipe.
type network struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newNetwork() *network { return &network{conns: make(chan net.Conn), done: make(chan struct{})} }

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.once.Do(func() { close(n.done) })
	return nil
}

func (n *network) Addr() net.Addr { return addr("198.51.100.1:25") }

func addr(s string) net.Addr {
	a, err := net.ResolveTCPAddr("tcp", s)
	if err != nil {
		panic(err)
	}
	return a
}

// pipe is an end of a connection, with addresses as TCP has them.
type pipe struct {
	net.Conn
	local, remote net.Addr
}

func (p pipe) LocalAddr() net.Addr  { return p.local }
func (p pipe) RemoteAddr() net.Addr { return p.remote }

// stored is a message that was delivered.
type stored struct {
	mtakit.Message
	head, text string // fields of ours, and what the client sent
}

// host is a server in memory with what it delivered and recorded.
type host struct {
	t   testing.TB
	srv *smtpserver.Server
	net *network

	mu      sync.Mutex
	mail    []stored
	records []mtakit.Record
	fail    error // what Deliver returns
}

// start serves until the test ends. Deliver, Record, Log and the host name are filled in where they are missing; clients from 192.0.2.1 may relay.
func start(t testing.TB, srv *smtpserver.Server) *host {
	t.Helper()
	h := &host{t: t, srv: srv, net: newNetwork()}
	if srv.Deliver == nil {
		srv.Deliver = h.deliver
	}
	if srv.Record == nil {
		srv.Record = mtakit.RecorderFunc(h.record)
	}
	if srv.Log == nil {
		srv.Log = slog.New(slog.DiscardHandler)
	}
	if srv.Options.Hostname == "" {
		srv.Options.Hostname = "mx.test"
	}
	if srv.Options.RelayHosts == nil {
		srv.Options.RelayHosts = prefixes("192.0.2.1/32")
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(h.net) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, smtpserver.ErrServerClosed) {
			t.Errorf("Serve: %v, want ErrServerClosed", err)
		}
	})
	return h
}

func (h *host) deliver(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		return h.fail
	}
	for _, s := range batch {
		chunks := s.Body.(mtakit.ChunkedBody).Chunks(nil)
		h.mail = append(h.mail, stored{*s.Message, string(chunks[0]), string(chunks[1])})
		if whole := readAll(h.t, s.Body); whole != string(chunks[0])+string(chunks[1]) {
			h.t.Errorf("ReadAt gives %q, Chunks %q", whole, chunks)
		}
		if s.Message.Size != s.Body.Size() {
			h.t.Errorf("Message.Size is %d, the body's %d", s.Message.Size, s.Body.Size())
		}
		s.Body.Close()
	}
	return nil
}

func readAll(t testing.TB, b mtakit.Body) string {
	var sb strings.Builder
	if _, err := io.Copy(&sb, io.NewSectionReader(b, 0, b.Size())); err != nil {
		t.Errorf("reading the body: %v", err)
	}
	return sb.String()
}

func (h *host) record(r *mtakit.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := *r
	c.To = append([]string(nil), r.To...)
	h.records = append(h.records, c)
}

// got is what was delivered.
func (h *host) got() []stored {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]stored(nil), h.mail...)
}

// dial connects from an address.
func (h *host) dial(from string) net.Conn {
	client, server := net.Pipe()
	select {
	case h.net.conns <- pipe{server, addr("198.51.100.1:25"), addr(from)}:
	case <-h.net.done:
		h.t.Fatal("the listener is closed")
	}
	return client
}

// talk sends everything at once and returns all there is to read until the server hangs up.
func (h *host) talk(input string) string { return h.talkFrom("192.0.2.1:4000", input) }

func (h *host) talkFrom(from, input string) string {
	h.t.Helper()
	c := h.dial(from)
	defer c.Close()
	return exchange(h.t, c, input)
}

// exchange writes and reads at the same time: the server may close before it has read everything.
func exchange(t testing.TB, c net.Conn, input string) string {
	t.Helper()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		io.WriteString(c, input)
	}()
	out, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("read: %v", err)
	}
	c.Close()
	<-wrote
	return string(out)
}

// replies are the lines of output behind the banner, without the last QUIT's.
func replies(output string) []string {
	lines := strings.Split(strings.TrimSuffix(output, "\r\n"), "\r\n")
	if n := len(lines); n > 1 && strings.HasPrefix(lines[n-1], "221 ") {
		lines = lines[:n-1]
	}
	return lines[1:]
}

// last is the last of replies.
func last(output string) string {
	r := replies(output)
	if len(r) == 0 {
		return ""
	}
	return r[len(r)-1]
}

// startTLS does the handshake over c and returns the encrypted connection.
func startTLS(t testing.TB, c net.Conn, config *tls.Config) *tls.Conn {
	t.Helper()
	expect(t, c, "220 ")
	io.WriteString(c, "STARTTLS\r\n")
	expect(t, c, "220 Ready")
	if config == nil {
		config = &tls.Config{InsecureSkipVerify: true}
	}
	return tls.Client(c, config)
}

// expect reads one line.
func expect(t testing.TB, c net.Conn, prefix string) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil {
			t.Fatalf("got %q and %v, want %q", line, err, prefix)
		}
		if line = append(line, b[0]); b[0] == '\n' {
			break
		}
	}
	if !strings.HasPrefix(string(line), prefix) {
		t.Fatalf("got %q, want %q", line, prefix)
	}
	return string(line)
}
