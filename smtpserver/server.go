package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
)

// Server receives mail. Fields must not be changed after the first Serve. The zero value of each but Deliver is its default. A Server is a
// [mtakit.Collector]; it must not be copied.
type Server struct {
	Deliver Deliver // required
	Options Options
	Policy  Policy
	Limits  Limits

	// Auth checks passwords for AUTH PLAIN and AUTH LOGIN, which are there under TLS only. Nil: there is no AUTH. To authenticate does not by itself
	// allow to relay; Policy.ListenerDomain or Policy.Options may say so.
	Auth mtakit.Authenticator
	// Admit is asked for each connection and each MAIL whether there is room: nil, or what wraps mtakit.ErrSpoolFull, mtakit.ErrUnhealthy,
	// mtakit.ErrOverloaded, ErrStarting or a *mtakit.Reject. It is called concurrently and must not block.
	Admit func() error
	// Durability is what is asked of Deliver. Default Durable.
	Durability mtakit.Durability
	// ProxyFrom are the clients whose PROXY header is believed where Options.RequireProxyProtocol asks for one. Nil is 127.0.0.1 and ::1.
	ProxyFrom []netip.Prefix

	Record mtakit.Recorder  // gets Rejection records; nil: nobody does
	IDs    *mtakit.IDSource // of messages and sessions; nil: an own one
	NodeID string           // in records
	// Trace is asked when a connection begins and each time something was read, so that a session can be watched from any moment on; nil, or
	// what returns nil, is off.
	Trace func(*Session) *Trace
	Log   *slog.Logger // nil is slog.Default()

	once      sync.Once
	initErr   error
	limits    Limits
	defaults  Options
	proxyFrom []netip.Prefix
	ids       *mtakit.IDSource
	texts     textPool
	budget    budget
	metrics   metrics
	addresses addressCount
	authLimit failureLimit
	tlsOnce   sync.Once
	tlsConfig *tls.Config
	ctx       context.Context // of all callbacks
	cancel    context.CancelFunc
	stopping  atomic.Bool
	running   sync.WaitGroup // Serve, sessions and denials

	mu       sync.Mutex // guards what follows
	open     map[*listener]struct{}
	known    []*listener           // ever served, one for each address
	sessions map[*Session]struct{} // and those that are turned away
	admitted int                   // of the sessions
}

// listener is an address that is, or was, served.
type listener struct {
	net.Listener
	*counts
}

// counts are the counters of an address.
type counts struct {
	addr                 string
	received, rejections mtakit.Counter
}

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("smtpserver: server closed")

func (s *Server) init() error {
	s.once.Do(func() {
		s.limits = s.Limits.withDefaults()
		s.defaults = defaultOptions()
		s.proxyFrom = s.ProxyFrom
		if s.proxyFrom == nil {
			s.proxyFrom = loopback
		}
		if s.ids = s.IDs; s.ids == nil {
			s.ids = new(mtakit.IDSource)
		}
		s.budget.limit = s.limits.BodyMemory
		s.authLimit.perMinute = s.limits.AuthFailures
		s.metrics.init()
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.open, s.sessions = make(map[*listener]struct{}), make(map[*Session]struct{})
		if s.Deliver == nil {
			s.initErr = errors.New("smtpserver: Server.Deliver is nil: there is nowhere to give messages to")
		} else {
			s.initErr = s.Options.check()
		}
	})
	return s.initErr
}

// Serve accepts connections on l until Shutdown or Close, and returns [ErrServerClosed] then; any other error is l's or about the
// configuration. It closes l. It may be called for several listeners at the same time.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if err := s.init(); err != nil {
		return err
	}
	ln, ok := s.track(l)
	if !ok {
		return ErrServerClosed
	}
	defer s.running.Done()
	defer s.untrack(ln)
	for pause := time.Duration(0); ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accept(ln, c)
			continue
		case s.stopping.Load():
			return ErrServerClosed
		}
		// Running out of descriptors or memory is an error that passes, and says so.
		if t, ok := err.(interface{ Temporary() bool }); !ok || !t.Temporary() {
			return fmt.Errorf("smtpserver: accept: %w", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.log().Warn("cannot accept connections", "err", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
		}
	}
}

// accept starts a session, or turns the client away.
func (s *Server) accept(l *listener, c net.Conn) {
	sess := &Session{srv: s, ln: l, ctx: s.ctx, sock: c}
	sess.conn, sess.stopping = c, &s.stopping
	s.mu.Lock()
	denials := len(s.sessions) - s.admitted
	admit := s.admitted < s.limits.Connections || s.limits.Connections < 0
	if !admit {
		s.metrics.denied.Inc()
	}
	if s.stopping.Load() || !admit && denials >= maxDenials {
		s.mu.Unlock()
		c.Close()
		return
	}
	if admit {
		s.admitted++
		s.metrics.connections.Inc()
	}
	s.sessions[sess] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.running.Done()
		defer s.leave(sess, admit)
		defer func() {
			if p := recover(); p != nil { // of a Recorder, a Trace or ours; callbacks of the policy have their own
				sess.log(slog.LevelError, "panic in session", "panic", p, "stack", string(debug.Stack()))
				c.Close()
			}
		}()
		if admit {
			sess.serve()
		} else {
			s.deny(sess)
		}
	}()
}

// maxDenials is how many clients at a time are told that there are too many; more are cut off.
const maxDenials = 64

// deny tells a client that there are too many.
func (s *Server) deny(sess *Session) {
	defer sess.conn.Close()
	sess.peer.Addr, sess.peer.Local = addrPort(sess.conn.RemoteAddr()), addrPort(sess.conn.LocalAddr())
	sess.configure(nil)
	sess.patience = 2 * time.Second
	sess.reply(421, enhanced{4, 3, 2}, sess.opt.Hostname, " too many concurrent sessions. Try later")
	sess.goodbye()
}

// enter counts the session under the address it turned out to come from.
func (s *Server) enter(sess *Session) bool {
	a := network(sess.peer.Addr.Addr())
	if !a.IsValid() {
		return true
	}
	if !s.addresses.enter(a, s.limits.PerAddress) {
		return false
	}
	sess.entered = a
	return true
}

func (s *Server) leave(sess *Session, admitted bool) {
	if sess.entered.IsValid() {
		s.addresses.leave(sess.entered)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, sess)
	if admitted {
		s.admitted--
		s.metrics.connections.Dec()
	}
}

func (s *Server) track(l net.Listener) (*listener, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return nil, false
	}
	addr := l.Addr().String()
	ln := &listener{Listener: l}
	if i := slices.IndexFunc(s.known, func(k *listener) bool { return k.addr == addr }); i >= 0 {
		ln.counts = s.known[i].counts
	} else {
		ln.counts = &counts{addr: addr}
		s.known = append(s.known, ln)
	}
	s.open[ln] = struct{}{}
	s.running.Add(1)
	return ln, true
}

func (s *Server) untrack(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, l)
}

// listeners are those there ever were.
func (s *Server) listeners() []*listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.known)
}

// Shutdown closes the listeners, tells clients that are idle "421 4.3.2 shutting down", lets those that are sending a message finish and have
// their reply, and returns nil when all have gone. When ctx ends first, it cuts them off as Close does and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
		s.Close()
		return context.Cause(ctx)
	}
}

// Close closes listeners and connections and ends the context of callbacks. Messages whose Deliver has not returned may or may not be
// accepted: their clients get no reply. It does not wait.
func (s *Server) Close() error {
	s.stop()
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for sess := range s.sessions {
		sess.sock.Close()
	}
	return nil
}

// stop closes the listeners and wakes sessions that wait for a command; wire.read tells how that goes.
func (s *Server) stop() {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping.Store(true)
	for l := range s.open {
		l.Close()
	}
	for sess := range s.sessions {
		if sess.waiting.Load() {
			sess.sock.SetReadDeadline(time.Unix(1, 0))
		}
	}
}

// selfSigned is the configuration for STARTTLS where there is none.
func (s *Server) selfSigned() *tls.Config {
	s.tlsOnce.Do(func() {
		o := s.defaults
		o.apply(&s.Options, netip.Addr{}, netip.Addr{})
		c, err := newSelfSigned(o.Hostname, time.Now())
		if err != nil {
			s.log().Error("no certificate for STARTTLS", "err", err)
			c = new(tls.Config) // its handshakes fail
		}
		s.tlsConfig = c
	})
	return s.tlsConfig
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}
