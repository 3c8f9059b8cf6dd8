package smtptest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Network is a network in memory. The zero value works: its connections hold 64 KiB in each direction, as sockets do. It is safe for
// concurrent use and has no goroutine.
type Network struct {
	Unbuffered bool // a Write waits for the Reads that take its bytes, as [net.Pipe] does

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	faults    map[netip.Addr]error
	dials     []netip.AddrPort
	ports     uint16
}

// Errors that [Network.Fail] takes; any other error is given to who dials as it is.
var (
	// ErrBlackhole leaves a dial without an answer until its context ends.
	ErrBlackhole = errors.New("smtptest: no answer")
	// ErrUnplumbed, for a local address, says that it is not on this machine.
	ErrUnplumbed = os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
)

// Listen opens addr, for example "192.0.2.1:25". Closing the listener frees it.
func (n *Network) Listen(addr string) (net.Listener, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[ap] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(ap), Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	if n.listeners == nil {
		n.listeners = map[netip.AddrPort]*listener{}
	}
	l := &listener{net: n, addr: ap, conns: make(chan net.Conn), done: make(chan struct{})}
	n.listeners[ap] = l
	return l, nil
}

// Fail lets dials to or from addr fail with err from now on; nil ends that.
func (n *Network) Fail(addr string, err error) {
	a := netip.MustParseAddr(addr)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.faults == nil {
		n.faults = map[netip.Addr]error{}
	}
	n.faults[a] = err
}

// Dials lists where connections were dialled to, in order, failed ones included.
func (n *Network) Dials() []netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]netip.AddrPort(nil), n.dials...)
}

// Dial connects local to remote. An invalid local is an address of the network's choice; an address where nobody listens
// refuses. It fits smtpclient.Egress.Dial.
func (n *Network) Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(remote), Err: err}
	}
	n.mu.Lock()
	n.dials = append(n.dials, remote)
	err := n.faults[local]
	if err == nil {
		err = n.faults[remote.Addr()]
	}
	l := n.listeners[remote]
	n.ports++
	port := 32768 + n.ports%28000
	n.mu.Unlock()
	switch {
	case err == ErrBlackhole:
		<-ctx.Done()
		return fail(ctx.Err())
	case err != nil:
		return fail(err)
	case l == nil:
		return fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	if !local.IsValid() {
		if local = netip.MustParseAddr("198.51.100.1"); remote.Addr().Is6() {
			local = netip.MustParseAddr("2001:db8::1")
		}
	}
	client, server := n.pair(netip.AddrPortFrom(local, port), remote)
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	case <-ctx.Done():
		return fail(ctx.Err())
	}
}

func (n *Network) pair(client, server netip.AddrPort) (c, s net.Conn) {
	ca, sa := net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(server)
	if n.Unbuffered {
		p, q := net.Pipe()
		return &addressed{p, ca, sa}, &addressed{q, sa, ca}
	}
	up, down := newStream(), newStream()
	return &conn{in: down, out: up, local: ca, remote: sa}, &conn{in: up, out: down, local: sa, remote: ca}
}

type listener struct {
	net   *Network
	addr  netip.AddrPort
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, l.addr)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// addressed is a net.Pipe end with addresses.
type addressed struct {
	net.Conn
	local, remote net.Addr
}

func (a *addressed) LocalAddr() net.Addr  { return a.local }
func (a *addressed) RemoteAddr() net.Addr { return a.remote }

// streamSize is how many bytes a direction of a buffered connection holds.
const streamSize = 64 << 10

// stream is one direction of a buffered connection.
type stream struct {
	mu     sync.Mutex
	cond   sync.Cond
	buf    []byte // unread bytes are buf[off:]
	off    int
	eof    bool // the writer has closed
	broken bool // the reader has closed
	rd, wr deadline
}

// deadline is a moment at which those who wait look up. A timer that fires for an earlier setting wakes them in vain.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newStream() *stream {
	s := &stream{}
	s.cond.L = &s.mu
	return s
}

func (s *stream) set(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.at = t
	if t.IsZero() {
		return
	}
	if d.timer == nil {
		d.timer = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cond.Broadcast()
		})
	} else {
		d.timer.Reset(time.Until(t))
	}
	if d.passed() {
		s.cond.Broadcast()
	}
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.broken:
			return 0, net.ErrClosed
		case s.rd.passed():
			return 0, os.ErrDeadlineExceeded
		case s.off < len(s.buf):
			n := copy(p, s.buf[s.off:])
			if s.off += n; s.off == len(s.buf) {
				s.buf, s.off = s.buf[:0], 0
			}
			s.cond.Broadcast()
			return n, nil
		case s.eof:
			return 0, io.EOF
		}
		s.cond.Wait()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.eof:
			return n, net.ErrClosed
		case s.wr.passed():
			return n, os.ErrDeadlineExceeded
		case s.broken:
			return n, syscall.EPIPE
		}
		if len(p) == 0 {
			return n, nil
		}
		if room := streamSize - (len(s.buf) - s.off); room > 0 {
			if s.off > 0 && len(s.buf)+min(room, len(p)) > cap(s.buf) {
				s.buf, s.off = append(s.buf[:0], s.buf[s.off:]...), 0
			}
			k := min(room, len(p))
			s.buf = append(s.buf, p[:k]...)
			n, p = n+k, p[k:]
			s.cond.Broadcast()
			continue
		}
		s.cond.Wait()
	}
}

func (s *stream) close(eof, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eof, s.broken = s.eof || eof, s.broken || broken
	for _, d := range []*deadline{&s.rd, &s.wr} {
		if d.timer != nil && (eof && d == &s.wr || broken && d == &s.rd) {
			d.timer.Stop()
		}
	}
	s.cond.Broadcast()
}

// conn is one end of a buffered connection.
type conn struct {
	in, out       *stream
	local, remote net.Addr
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	if err != nil && err != io.EOF {
		err = &net.OpError{Op: "read", Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	if err != nil {
		err = &net.OpError{Op: "write", Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
	}
	return n, err
}

// Pending tells, without waiting, how many bytes a Read would give, and whether the other end has closed after them.
func (c *conn) Pending() (n int, eof bool) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.buf) - c.in.off, c.in.eof
}

func (c *conn) Close() error {
	c.out.close(true, false)
	c.in.close(false, true)
	return nil
}

func (c *conn) CloseWrite() error {
	c.out.close(true, false)
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	c.in.set(&c.in.rd, t)
	c.out.set(&c.out.wr, t)
	return nil
}
func (c *conn) SetReadDeadline(t time.Time) error  { c.in.set(&c.in.rd, t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.out.set(&c.out.wr, t); return nil }
