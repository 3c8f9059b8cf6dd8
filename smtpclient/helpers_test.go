package smtpclient_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// pathTo is a path to the peers, in the order given, with clear text unless change says otherwise.
func pathTo(change func(*mtakit.PathConfig), peers ...*smtptest.Peer) *mtakit.Path {
	c := mtakit.DefaultPathConfig()
	c.ProhibitedHosts = nil
	c.EnableTLS = mtakit.TLSDisabled
	if change != nil {
		change(&c)
	}
	site := &mtakit.Site{Name: "mx.test", Ordered: true}
	for i, p := range peers {
		a := p.Addr()
		site.Hosts = append(site.Hosts, mtakit.Host{Name: "mx" + string(rune('1'+i)) + ".test", Pref: uint16(i), Port: a.Port(), Addrs: []netip.Addr{a.Addr()}})
	}
	return &mtakit.Path{Name: "unspecified->mx.test@smtp_client", Site: site, PathConfig: &c}
}

// egress works on n, or on sockets if that is nil.
func egress(n *smtptest.Network) *smtpclient.Egress {
	e := &smtpclient.Egress{Hostname: "client.test"}
	if n != nil {
		e.Dial = n.Dial
	}
	return e
}

func connect(t testing.TB, e *smtpclient.Egress, p *mtakit.Path) mtakit.Session {
	t.Helper()
	s, err := e.Connect(t.Context(), p)
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func delivery(from, body string, to ...string) *mtakit.Delivery {
	d := &mtakit.Delivery{Message: &mtakit.Message{Sender: from, To: to}, Body: mtakit.Bytes(body)}
	for i := range to {
		d.Rcpts = append(d.Rcpts, i)
	}
	return d
}

// results renders results one after the other: "0: 250 2.0.0 taken [.]".
func results(d *mtakit.Delivery) string {
	var b strings.Builder
	for i, r := range d.Results {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteByte(byte('0' + r.Rcpt))
		b.WriteString(": " + r.Response.String() + " [" + r.Response.Command + "]")
	}
	return b.String()
}

func wantResults(t *testing.T, d *mtakit.Delivery, want string) {
	t.Helper()
	if got := results(d); got != want {
		t.Errorf("results are\n%s\nwant\n%s", got, want)
	}
}

// onDisk is a Body that isn't in memory.
type onDisk struct{ *bytes.Reader }

func (onDisk) Close() error     { return nil }
func (b onDisk) Size() int64    { return b.Reader.Size() }
func disk(s string) mtakit.Body { return onDisk{bytes.NewReader([]byte(s))} }

func asError(t *testing.T, err error) *smtpclient.Error {
	t.Helper()
	var e *smtpclient.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *Error", err)
	}
	return e
}

// send sends over a new session that is closed afterwards.
func send(ctx context.Context, t testing.TB, e *smtpclient.Egress, p *mtakit.Path, d *mtakit.Delivery) error {
	t.Helper()
	s, err := e.Connect(ctx, p)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Send(ctx, d, nil)
}
