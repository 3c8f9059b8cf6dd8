package route

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// transport carries questions to servers, over UDP and, where an answer is too large or doubtful, over TCP. It starts no goroutine.
type transport struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	timeout time.Duration // of one question to one server

	mu     sync.Mutex
	idle   map[string][]*idleConn // TCP connections by server, the last used last
	closed bool
}

// idleConn is a connection without a question on it. Its timer closes it.
type idleConn struct {
	net.Conn
	timer *time.Timer
}

const (
	maxIdle  = 4                // connections kept per server
	idleTime = 10 * time.Second // that they are kept
)

// ask puts one question to one server.
func (t *transport) ask(ctx context.Context, server, name string, typ uint16) (*dns.Msg, error) {
	q, err := newQuery(name, typ)
	if err != nil {
		return nil, err
	}
	m, err := t.overUDP(ctx, server, q)
	if errors.Is(err, errTruncated) || errors.Is(err, errCase) {
		m, err = t.overTCP(ctx, server, q)
	}
	switch {
	case err == nil:
		return m, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("no answer from %s within %v: %w", server, t.timeout, os.ErrDeadlineExceeded)
	}
	return nil, fmt.Errorf("%s: %w", server, err)
}

func (t *transport) overUDP(ctx context.Context, server string, q *query) (*dns.Msg, error) {
	start := time.Now()
	conn, err := t.open(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	buf := make([]byte, 4096)
	// A datagram may get lost: the same one is sent again, while an answer to either is welcome.
	for _, until := range [...]time.Duration{t.timeout / 5, t.timeout * 3 / 5, t.timeout} {
		if err = conn.SetDeadline(start.Add(until)); err != nil {
			return nil, err
		}
		if _, err = conn.Write(q.packet); err != nil {
			return nil, err
		}
		var n int
		for {
			if n, err = conn.Read(buf); err != nil {
				break
			}
			if m, err := q.read(buf[:n], false); !errors.Is(err, errNotOurs) {
				return m, err
			}
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	return nil, err
}

func (t *transport) overTCP(ctx context.Context, server string, q *query) (*dns.Msg, error) {
	if conn := t.take(server); conn != nil {
		m, err := t.converse(ctx, server, conn, q)
		if err == nil || isRcode(err) || errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return m, err
		}
		// Most likely the server closed the connection while it was idle; a new one will tell.
	}
	conn, err := t.open(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	return t.converse(ctx, server, conn, q)
}

// converse sends q and reads the answer, in frames with their length before them (RFC 1035, 4.2.2). It keeps or closes conn.
func (t *transport) converse(ctx context.Context, server string, conn net.Conn, q *query) (m *dns.Msg, err error) {
	uncut := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		// A connection that gave anything but an answer may be out of step.
		if uncut() && (err == nil || isRcode(err)) {
			t.give(server, conn)
		} else {
			conn.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(t.timeout)); err != nil {
		return nil, err
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(q.packet)), uint16(len(q.packet)))
	if _, err := conn.Write(append(frame, q.packet...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, packet); err != nil {
		return nil, err
	}
	return q.read(packet, true)
}

func (t *transport) open(ctx context.Context, network, server string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.timeout, os.ErrDeadlineExceeded)
	defer cancel()
	conn, err := t.dial(ctx, network, server)
	if err != nil && errors.Is(context.Cause(ctx), os.ErrDeadlineExceeded) {
		return nil, os.ErrDeadlineExceeded
	}
	return conn, err
}

// take takes an idle connection to the server; nil if there is none.
func (t *transport) take(server string) net.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	for conns := t.idle[server]; len(conns) > 0; conns = t.idle[server] {
		c := conns[len(conns)-1]
		t.idle[server] = conns[:len(conns)-1]
		if c.timer.Stop() { // else the timer is closing it now
			return c.Conn
		}
	}
	return nil
}

// give keeps a connection for another question, or closes it.
func (t *transport) give(server string, conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.idle[server]) >= maxIdle {
		conn.Close()
		return
	}
	c := &idleConn{Conn: conn}
	c.timer = time.AfterFunc(idleTime, func() {
		conn.Close()
		t.mu.Lock()
		defer t.mu.Unlock()
		for i, o := range t.idle[server] {
			if o == c {
				t.idle[server] = append(t.idle[server][:i], t.idle[server][i+1:]...)
				return
			}
		}
	})
	t.idle[server] = append(t.idle[server], c)
}

// close closes the idle connections and keeps no more.
func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, conns := range t.idle {
		for _, c := range conns {
			c.timer.Stop()
			c.Conn.Close()
		}
	}
	clear(t.idle)
}
