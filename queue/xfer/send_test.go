package xfer_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/xfer"
	"github.com/mtakit/mtakit/spool/spooltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sender is a node that is used as an Egress alone.
func sender(t testing.TB, cfg xfer.Config) *xfer.Node {
	t.Helper()
	spool := &spooltest.Memory{}
	q, err := queue.New(queue.Config{Spool: spool, Router: mtakit.RouterFunc(nil), Egress: mtakit.EgressFunc(nil)})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Queue, cfg.Spool, cfg.NodeID = q, spool, "a"
	n, err := xfer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func pathTo(target string) *mtakit.Path {
	c := mtakit.DefaultPathConfig()
	return &mtakit.Path{Source: &mtakit.Source{Name: "unspecified"}, Site: &mtakit.Site{Name: "x"}, PathConfig: &c,
		Protocol: mtakit.Protocol{Xfer: &mtakit.XferProtocol{Target: target}}}
}

func delivery(n int) *mtakit.Delivery {
	return &mtakit.Delivery{Message: &mtakit.Message{ID: mtakit.FirstID(time.Unix(int64(n), 0)), To: []string{"u@d.test"}}, Body: mtakit.Bytes(text), Rcpts: []int{0}}
}

// recorder is a node that takes everything and counts connections.
type recorder struct {
	requests    []string
	connections atomic.Int32
	closing     bool
}

func (r *recorder) start(t testing.TB, withTLS bool) *httptest.Server {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		z, err := gzip.NewReader(req.Body)
		if err != nil {
			return // a request that was cut off, for which the sender has an error
		}
		b, err := io.ReadAll(z)
		if err != nil {
			return
		}
		r.requests = append(r.requests, fmt.Sprintf("%s %s %s %s %s", req.Method, req.URL.Path, req.Header.Get("Content-Type"), req.Header.Get("Authorization"), b))
		if r.closing {
			w.Header().Set("Connection", "close")
		}
		fmt.Fprintf(w, `{"id": "0196f4b2a5e07abc812345678900000%d"}`, len(r.requests))
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			r.connections.Add(1)
		}
	}
	if withTLS {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv
}

func send(t *testing.T, s mtakit.Session, d *mtakit.Delivery) mtakit.Response {
	t.Helper()
	if err := s.Send(t.Context(), d, func() *mtakit.Delivery { return nil }); err != nil {
		t.Fatal(err)
	}
	if len(d.Results) != 1 || d.Results[0].Rcpt != 0 {
		t.Fatalf("results are %+v", d.Results)
	}
	return d.Results[0].Response
}

// A session uses one connection, and another one where the other side has closed it. The path of the target does not matter.
func TestSession(t *testing.T) {
	t.Parallel()
	for _, closing := range []bool{false, true} {
		r := &recorder{closing: closing}
		srv := r.start(t, false)
		n := sender(t, xfer.Config{Authorization: "Basic eDp5"})
		s, err := n.Connect(t.Context(), pathTo(srv.URL+"/some/where"))
		if err != nil {
			t.Fatal(err)
		}
		if i := s.Info(); i.PeerName != "127.0.0.1" || i.PeerAddr.String() != srv.Listener.Addr().String() || !i.LocalAddr.IsValid() || len(i.ID) != 36 || i.TLSVersion != "" {
			t.Errorf("the session is %+v", i)
		}
		for i := range 3 {
			if got, want := send(t, s, delivery(i+1)).String(), fmt.Sprintf("250 new id is 0196f4b2a5e07abc812345678900000%d", i+1); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		want := int32(1)
		if closing {
			want = 3
		}
		if got := r.connections.Load(); got != want {
			t.Errorf("%d connections, want %d", got, want)
		}
		const first = `POST /api/xfer/inject/v1 application/octet-stream Basic eDp5 {"id":"000000003e8070008000000000000000","sender":"","recipient":["u@d.test"],` +
			`"meta":{"xfer_prior_id":"000000003e8070008000000000000000","xfer_prior_node":"a"}}` + "\n" + text
		if r.requests[0] != strings.Replace(first, "000000003e80", "0000000003e8", -1) {
			t.Errorf("the request is %q", r.requests[0])
		}
	}
}

// A node that does not answer is given up in time, and of one that does not stop only the beginning is read.
func TestAnswers(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		if req.Header.Get("Authorization") == "silent" {
			<-req.Context().Done()
			return
		}
		for err := error(nil); err == nil; {
			_, err = io.WriteString(w, strings.Repeat("x", 4096))
		}
	}))
	t.Cleanup(srv.Close)
	connect := func(how string, timeout time.Duration) mtakit.Session {
		p := pathTo(srv.URL)
		p.DataDotTimeout = mtakit.Duration(timeout)
		s, err := sender(t, xfer.Config{Authorization: how}).Connect(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	if err := connect("silent", time.Millisecond).Send(t.Context(), delivery(1), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
	if got := send(t, connect("endless", time.Minute), delivery(1)); got.Code != 400 || !strings.HasSuffix(got.Text, " answered without an id: "+strings.Repeat("x", 300)) {
		t.Errorf("an answer without an end: %v", got)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	srv := r.start(t, true)
	srv.Config.ErrorLog = nil
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	n := sender(t, xfer.Config{TLS: &tls.Config{RootCAs: roots}})
	s, err := n.Connect(t.Context(), pathTo(srv.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := send(t, s, delivery(1)); !got.OK() {
		t.Error(got)
	}
	if i := s.Info(); i.TLSVersion != "TLSv1.3" || !strings.HasPrefix(i.TLSCipher, "TLS_") {
		t.Errorf("TLS is %q %q", i.TLSVersion, i.TLSCipher)
	}
	var unknown *tls.CertificateVerificationError
	if _, err := sender(t, xfer.Config{}).Connect(t.Context(), pathTo(srv.URL)); !errors.As(err, &unknown) {
		t.Errorf("a certificate that nobody trusts: %v", err)
	}
}

// What can't be sent is kept, and says why.
func TestConnectFails(t *testing.T) {
	t.Parallel()
	n := sender(t, xfer.Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	for target, want := range map[string]int{"ftp://x": 451, "": 451, "http://x": 0} {
		p := pathTo(target)
		p.ConnectTimeout = mtakit.Duration(time.Millisecond)
		_, err := n.Connect(t.Context(), p)
		var settled *mtakit.PathError
		switch {
		case err == nil:
			t.Errorf("%q: there is a session", target)
		case errors.As(err, &settled) && settled.Response.Code != want, !errors.As(err, &settled) && want != 0:
			t.Errorf("%q: %v", target, err)
		}
	}
	r := &recorder{}
	s, err := sender(t, xfer.Config{}).Connect(t.Context(), pathTo(r.start(t, false).URL))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := delivery(1)
	d.Message.To = []string{"u@d.test", "v@d.test"}
	if got := send(t, s, d); got.Code != 400 || len(r.requests) > 0 {
		t.Errorf("part of the recipients: %v", got)
	}
	d = delivery(1)
	d.Message.Meta = map[string]any{"x": func() {}}
	if got := send(t, s, d); got.Code != 400 || len(r.requests) > 0 {
		t.Errorf("metadata that are no JSON: %v", got)
	}
	d = delivery(1)
	d.Body = broken{d.Body}
	if err := s.Send(t.Context(), d, nil); !errors.Is(err, errBroken) || len(d.Results) > 0 {
		t.Errorf("a body that can't be read: %v, %v", err, d.Results)
	}
}

var errBroken = errors.New("broken disk")

// broken is a body that can't be read.
type broken struct{ mtakit.Body }

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func BenchmarkSend(b *testing.B) {
	r := &recorder{}
	srv := r.start(b, false)
	s, err := sender(b, xfer.Config{}).Connect(b.Context(), pathTo(srv.URL))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	d := delivery(1)
	d.Body = mtakit.Bytes(strings.Repeat("0123456789", 1000))
	b.ReportAllocs()
	b.SetBytes(d.Body.Size())
	for b.Loop() {
		r.requests, d.Results = nil, nil
		if err := s.Send(b.Context(), d, nil); err != nil || !d.Results[0].Response.OK() {
			b.Fatal(err, d.Results)
		}
	}
}
