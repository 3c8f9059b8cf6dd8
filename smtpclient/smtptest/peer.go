package smtptest

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
)

// Message is what a [Peer] has accepted.
type Message struct {
	Hello  string // what the client called itself
	From   string // without <>
	Params string // of MAIL, as they came
	To     []string
	Data   []byte // as it was before dots were stuffed; without the end
	User   string // of AUTH PLAIN
	TLS    *tls.ConnectionState
	Conn   int // number of the connection, from 1
}

// Stats counts what happened at a [Peer].
type Stats struct {
	Conns      int
	Reads      int // that gave bytes
	RoundTrips int // reads that gave bytes after a reply was written
	Handshakes int // of TLS, that succeeded
}

// Peer is an SMTP or LMTP server that does as it is told. Its methods are safe for concurrent use.
type Peer struct {
	l  net.Listener
	wg sync.WaitGroup

	mu         sync.Mutex
	changed    chan struct{} // closed at the next change
	closed     bool
	lmtp       bool
	hostname   string
	extensions []string
	tls        *tls.Config
	rules      []*Rule
	conns      map[net.Conn]struct{}
	messages   []Message
	commands   []string
	stats      Stats
}

// Preset prepares a Peer.
type Preset func(*Peer)

// NewPeer starts a peer on l, which is nil for a loopback socket, and stops it at the end of the test.
func NewPeer(tb testing.TB, l net.Listener, presets ...Preset) *Peer {
	tb.Helper()
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			tb.Fatal(err)
		}
	}
	p := Start(l, presets...)
	tb.Cleanup(p.Close)
	return p
}

// Start is [NewPeer] outside of tests: Close stops the peer.
func Start(l net.Listener, presets ...Preset) *Peer {
	p := &Peer{
		l: l, changed: make(chan struct{}), hostname: "peer.test", conns: map[net.Conn]struct{}{},
		extensions: []string{"PIPELINING", "SIZE 0", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "AUTH PLAIN"},
	}
	for _, f := range presets {
		f(p)
	}
	p.wg.Add(1)
	go p.accept()
	return p
}

func (p *Peer) accept() {
	defer p.wg.Done()
	for {
		nc, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			nc.Close()
			return
		}
		p.conns[nc] = struct{}{}
		p.stats.Conns++
		c := &serverConn{peer: p, raw: nc, number: p.stats.Conns}
		p.wg.Add(1)
		p.mu.Unlock()
		go func() {
			defer p.wg.Done()
			c.serve()
			nc.Close()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.conns, nc)
			p.notify()
		}()
	}
}

// notify wakes those who wait; p.mu is held.
func (p *Peer) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Close stops listening, cuts all connections and waits for their goroutines.
func (p *Peer) Close() {
	p.l.Close()
	p.mu.Lock()
	p.closed = true
	for nc := range p.conns {
		nc.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// Disconnect cuts the connections that are open and goes on listening.
func (p *Peer) Disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for nc := range p.conns {
		nc.Close()
	}
}

// Say writes s, with CRLF after it, on every open connection that isn't encrypted, as a peer does that speaks unasked.
func (p *Peer) Say(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for nc := range p.conns {
		_, _ = nc.Write([]byte(s + "\r\n")) // who has gone doesn't hear
	}
}

// Addr is where the peer listens.
func (p *Peer) Addr() netip.AddrPort { return p.l.Addr().(*net.TCPAddr).AddrPort() }

// Messages lists the accepted messages in order.
func (p *Peer) Messages() []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.messages)
}

// Wait returns once n messages were accepted, or with the error of ctx.
func (p *Peer) Wait(ctx context.Context, n int) error {
	return p.until(ctx, func() bool { return len(p.messages) >= n })
}

// WaitIdle returns once no connection is open, or with the error of ctx.
func (p *Peer) WaitIdle(ctx context.Context) error {
	return p.until(ctx, func() bool { return len(p.conns) == 0 })
}

func (p *Peer) until(ctx context.Context, done func() bool) error {
	for {
		p.mu.Lock()
		ok, changed := done(), p.changed
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Commands lists the command lines that came, in order, over all connections.
func (p *Peer) Commands() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.commands)
}

// Stats is a snapshot of the counts.
func (p *Peer) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// SetExtensions replaces what EHLO lists. STARTTLS comes with [Peer.SetTLS].
func (p *Peer) SetExtensions(lines ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.extensions = slices.Clone(lines)
}

// SetTLS offers STARTTLS with the configuration; nil takes the offer back.
func (p *Peer) SetTLS(c *tls.Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tls = c
}

// SetLMTP makes it an LMTP server (RFC 2033): LHLO, and after the end of a message one reply for each recipient.
func (p *Peer) SetLMTP() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lmtp = true
}

func (p *Peer) command(line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands = append(p.commands, string(bytes.TrimRight(line, "\r\n")))
}

func (p *Peer) received(m Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages = append(p.messages, m)
	p.notify()
}
