package smtpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
)

// Config says how a Conn works. The zero value of each field is its default.
type Config struct {
	// PeerName is the peer's host name: errors show it and its certificate has to be for it.
	PeerName string

	// PeerAddr is where the peer is, if there is a proxy on the way; else the connection says it.
	PeerAddr netip.AddrPort

	// Path has the timeouts of the phases, of which 0 is the default's, and UseLMTP, EnablePipelining, EnableRset and
	// Ignore8BitChecks. Nil is [mtakit.DefaultPathConfig]. It must not be changed.
	Path *mtakit.PathConfig

	// QueueName stands in the texts of the replies that a Conn makes up itself.
	QueueName string

	// Trace is told what happens.
	Trace *Trace
}

// Conn is one SMTP or LMTP connection. Its methods are for one goroutine and take place in this order: NewConn, Hello, StartTLS
// and Hello again, Auth, Send as often as there is something, Quit or Close. What returns an error may be followed by
// Quit and Close only, unless it says otherwise.
//
// A context ends the operation that it is given to, and the connection with it. A Conn has no goroutine between operations, but
// for a write that is still under way after Send, which Close waits for.
type Conn struct {
	cfg  Config
	path *mtakit.PathConfig
	peer netip.AddrPort
	w    *wire
	nc   net.Conn // w, or TLS over it
	tls  *tls.Conn
	out  *[]byte // what to write next, before TLS; nil is nothing

	// The reader: unread bytes are rbuf[r:e].
	rbuf     []byte
	r, e     int
	lastText string

	ext      map[string]string
	pipeline bool
	eightBit bool
	utf8     bool
	size     bool
	greeting mtakit.Response
	answered bool          // the peer has replied to something in the operation under way
	waited   time.Duration // what the last read was bounded by
	used     bool          // a transaction came to an end
	dirty    bool          // the last one failed: RSET comes before the next
	dead     error
	wroteAt  time.Time // with Trace

	now, ahead *envelope // of Send: in progress, and announced
	vec        net.Buffers
	segs       [][]byte

	// mu guards what the end of a context touches.
	mu      sync.Mutex
	watched <-chan struct{} // of the context that stop belongs to
	stop    func() bool
	active  bool
	cut     error // why the context ended during an operation
}

// NewConn takes a connection over and reads the banner, which has to be 220. It closes nc if it fails.
func NewConn(ctx context.Context, nc net.Conn, cfg Config) (*Conn, error) {
	c := &Conn{cfg: cfg, path: cfg.Path, w: newWire(nc), now: &envelope{}, ahead: &envelope{}}
	if c.path == nil {
		p := mtakit.DefaultPathConfig()
		c.path = &p
	}
	c.nc = c.w
	if c.peer = cfg.PeerAddr; c.peer.IsValid() {
	} else if a, ok := nc.RemoteAddr().(interface{ AddrPort() netip.AddrPort }); ok {
		c.peer = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	if err := c.begin(ctx); err != nil {
		c.Close()
		return nil, &Error{Phase: PhaseBanner, PeerName: cfg.PeerName, PeerAddr: c.peer, Err: err}
	}
	defer c.end()
	r, err := c.read(c.timeout(PhaseBanner))
	if err != nil {
		err = c.fail(PhaseBanner, "", c.timedOut(err, c.waited, "for the banner"))
		c.Close()
		return nil, err
	}
	c.greeting = c.parseReply(r, "")
	if r.code != 220 {
		err := c.fault(PhaseBanner, "", c.greeting, nil)
		c.dead = err
		c.Close()
		return nil, err
	}
	return c, nil
}

// Greeting is the banner.
func (c *Conn) Greeting() mtakit.Response { return c.greeting }

// TLS is the state of the encryption, nil if there is none.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	s := c.tls.ConnectionState()
	return &s
}

// fault makes an Error.
func (c *Conn) fault(p Phase, command string, r mtakit.Response, err error) *Error {
	return &Error{Phase: p, Command: command, Response: r, PeerName: c.cfg.PeerName, PeerAddr: c.peer, Err: err}
}

// fail makes the Error that ends the connection.
func (c *Conn) fail(p Phase, command string, err error) *Error {
	c.mu.Lock()
	if c.cut != nil {
		err = c.cut
	}
	c.mu.Unlock()
	if err == io.EOF {
		err = errClosed
	}
	e := c.fault(p, command, mtakit.Response{}, err)
	c.dead = e
	return e
}

var errClosed = fmt.Errorf("the peer closed the connection: %w", io.EOF)

// Reset is RSET.
func (c *Conn) Reset(ctx context.Context) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.end()
	r, err := c.command(PhaseReset, "RSET", "RSET")
	if err != nil {
		return err
	}
	if r.code != 250 {
		c.dead = c.fault(PhaseReset, "RSET", c.parseReply(r, "RSET"), nil)
		return c.dead
	}
	c.dirty = false
	return nil
}

// Quit says QUIT where that is possible, waits for the answer no longer than wait, and closes.
func (c *Conn) Quit(wait time.Duration) error {
	if c.dead == nil && !c.ahead.sent && c.e == c.r {
		if c.begin(context.Background()) == nil {
			*c.buf() = append(*c.buf(), "QUIT\r\n"...)
			c.cfg.Trace.command("QUIT\r\n")
			if c.flush(wait, false) == nil {
				_, _ = c.read(wait) // whatever it says, we go
			}
			c.end()
		}
		if c.tls != nil && c.w.join() == nil {
			c.w.gather = false
			_ = c.tls.Close() // its close_notify, for which nobody waits
		}
	}
	return c.Close()
}

// Close closes the connection without a word.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.stop != nil {
		c.stop()
	}
	c.stop, c.watched = nil, nil
	c.mu.Unlock()
	err := c.w.Conn.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	_ = c.w.join() // it ends, since what it writes to is closed
	if c.out != nil {
		release(c.out)
		c.out = nil
	}
	if t := c.cfg.Trace; t != nil && t.Closed != nil {
		t.Closed(c.dead)
	}
	if c.dead == nil {
		c.dead = c.fault(PhaseQuit, "", mtakit.Response{}, net.ErrClosed)
	}
	c.now.release()
	c.ahead.release()
	return err
}
