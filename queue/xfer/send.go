package xfer

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/uuid"
)

// injectPath is where a node takes messages.
const injectPath = "/api/xfer/inject/v1"

const (
	answerMax = 64 << 10 // of an answer
	quoteMax  = 300      // of it in a record
)

// Connect implements [mtakit.Egress]: it opens a connection to the node that is the target of the path's protocol.
func (n *Node) Connect(ctx context.Context, p *mtakit.Path) (mtakit.Session, error) {
	target := ""
	if p.Protocol.Xfer != nil {
		target = p.Protocol.Xfer.Target
	}
	u, err := parseTarget(target)
	if err != nil {
		return nil, &mtakit.PathError{Reason: "FailedToInsertIntoReadyQueue", Response: mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 3, 5},
			Text: mtakit.Internal + err.Error()}}
	}
	u.Path, u.RawPath = injectPath, ""
	s := &session{node: n, url: u, path: p, info: mtakit.SessionInfo{ID: uuid.New(), PeerName: u.Hostname()}}
	s.transport = &http.Transport{
		DialContext: s.take, DialTLSContext: s.take, MaxConnsPerHost: 1, DisableCompression: true, MaxResponseHeaderBytes: answerMax,
	}
	if s.conn, err = s.dial(ctx); err != nil {
		return nil, err
	}
	s.info.PeerAddr, s.info.LocalAddr = addrPort(s.conn.RemoteAddr()), addrPort(s.conn.LocalAddr())
	if t, ok := s.conn.(*tls.Conn); ok {
		st := t.ConnectionState()
		s.info.TLSVersion = strings.Replace(tls.VersionName(st.Version), "TLS ", "TLSv", 1)
		s.info.TLSCipher = tls.CipherSuiteName(st.CipherSuite)
	}
	return s, nil
}

// session is a connection to another node. It is opened anew where the other side has closed it between two messages.
type session struct {
	node      *Node
	url       *url.URL
	path      *mtakit.Path
	info      mtakit.SessionInfo // of the first connection
	transport *http.Transport

	mu   sync.Mutex
	conn net.Conn // opened and not used yet
}

func (s *session) Info() *mtakit.SessionInfo { return &s.info }

// dial opens a connection, with TLS if the target is https.
func (s *session) dial(ctx context.Context) (net.Conn, error) {
	if d := s.path.ConnectTimeout.Std(); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	port := s.url.Port()
	if port == "" {
		port = s.url.Scheme
	}
	c, err := s.node.cfg.Dial(ctx, "tcp", net.JoinHostPort(s.url.Hostname(), port))
	if err != nil {
		return nil, err
	}
	if s.url.Scheme != "https" {
		return c, nil
	}
	cfg := &tls.Config{}
	if s.node.cfg.TLS != nil {
		cfg = s.node.cfg.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = s.url.Hostname()
	}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// take gives the transport the connection that there is, or another one.
func (s *session) take(ctx context.Context, _, _ string) (net.Conn, error) {
	if c := s.unused(); c != nil {
		return c, nil
	}
	return s.dial(ctx)
}

// unused is the connection that Connect has opened, until it is in use.
func (s *session) unused() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	s.conn = nil
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	ap, _ := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Send implements [mtakit.Session].
func (s *session) Send(ctx context.Context, d *mtakit.Delivery, _ func() *mtakit.Delivery) error {
	r, err := s.transfer(ctx, d)
	if err != nil {
		return err
	}
	for _, i := range d.Rcpts {
		d.Results = append(d.Results, mtakit.Result{Rcpt: i, Response: r})
	}
	return nil
}

// transfer sends a message. An error means that there was no answer.
func (s *session) transfer(ctx context.Context, d *mtakit.Delivery) (mtakit.Response, error) {
	if len(d.Rcpts) != len(d.Message.To) {
		return failed("a message is transferred with all its recipients or not at all"), nil
	}
	head, err := appendEnvelope(nil, d.Message, s.node.cfg.NodeID)
	if err != nil {
		return failed(err.Error()), nil
	}
	if t := s.path.DataDotTimeout.Std(); t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	p := &payload{head: head, body: d.Body, writers: &s.node.writers}
	defer p.close()
	req := (&http.Request{
		Method: http.MethodPost, URL: s.url, Host: s.url.Host, ContentLength: -1, Body: p.reader(),
		GetBody: func() (io.ReadCloser, error) { return p.reader(), nil },
		Header:  http.Header{"Content-Type": {"application/octet-stream"}, "Content-Encoding": {"gzip"}, "User-Agent": {"mtakit"}},
	}).WithContext(ctx)
	if auth := s.node.cfg.Authorization; auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return mtakit.Response{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return mtakit.Response{}, fmt.Errorf("the answer is cut off: %w", err)
	}
	var answer struct {
		ID mtakit.ID `json:"id"`
	}
	switch {
	case resp.StatusCode/100 != 2:
		return failed(s.url.Host + " answered " + resp.Status + ": " + quote(b)), nil
	case json.Unmarshal(b, &answer) != nil || answer.ID.IsZero():
		return failed(s.url.Host + " answered without an id: " + quote(b)), nil
	}
	return mtakit.Response{Code: 250, Text: "new id is " + answer.ID.String()}, nil
}

// failed is a temporary failure: whatever another node says, the message stays here.
func failed(why string) mtakit.Response {
	return mtakit.Response{Code: 400, Text: mtakit.Internal + "failed to send message: " + why}
}

// quote is the beginning of an answer, on one line.
func quote(b []byte) string {
	b = bytes.TrimSpace(b[:min(len(b), quoteMax)])
	return strings.ToValidUTF8(string(mtakit.AppendOneLine(nil, string(b))), "\ufffd")
}

// Close implements [mtakit.Session].
func (s *session) Close() error {
	if c := s.unused(); c != nil {
		c.Close()
	}
	s.transport.CloseIdleConnections()
	return nil
}
