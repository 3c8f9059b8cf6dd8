package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/uuid"
)

// Session is a connection to a client. Its methods are for the callbacks that get it, while they run.
type Session struct {
	wire
	sock  net.Conn // the connection below wire.conn, for other goroutines
	srv   *Server
	ln    *listener
	ctx   context.Context
	id    mtakit.ID
	idStr string
	began time.Time
	peer  mtakit.Peer
	meta  map[string]any
	opt   Options
	trace *Trace

	helo     string
	identity *mtakit.Identity
	tls      *tlsInfo
	domains  map[string]*ListenerDomain

	cmd     []byte // the command in hand, valid until more is read
	scratch []byte // of reply
	ids     []byte // of receive
	hangup  bool   // after the reply that was put
	authing bool   // the line that is read is an answer of AUTH
	hiding  bool   // the trace is within a line that holds a secret
	errors  int    // 5xx since the last message that was accepted
	junk    int    // commands since then that led nowhere
	taken   int    // recipients, in all

	// The transaction; open from MAIL on.
	open   bool
	opened time.Time
	sender string
	rcpts  []string
	hint   int64 // how large the text may be
	held   int64 // of the budget

	// What receive works with.
	base         mtakit.Message
	view         Mail
	batch        []mtakit.Submission
	head         []byte
	supplemental []byte

	entered netip.Addr // what the session is counted under, if it is
}

// ID is a UUID that names the session in records and in the log.
func (s *Session) ID() string {
	if s.idStr == "" {
		s.idStr = uuid.String(s.id)
	}
	return s.idStr
}

// Peer is who is connected.
func (s *Session) Peer() mtakit.Peer { return s.peer }

// Meta is the metadata of the connection, which every message starts with. It may be changed; values are JSON values.
func (s *Session) Meta() map[string]any { return s.meta }

// Options are those in force.
func (s *Session) Options() Options { return s.opt }

// Identity is who has authenticated; nil is nobody.
func (s *Session) Identity() *mtakit.Identity { return s.identity }

// Helo is what the client called itself; "" before EHLO.
func (s *Session) Helo() string { return s.helo }

// Sender is the sender of the transaction, without <>; ok is whether there is a transaction.
func (s *Session) Sender() (address string, ok bool) { return s.sender, s.open }

// Recipients are those accepted in the transaction. Don't change the slice.
func (s *Session) Recipients() []string { return s.rcpts }

// TLS is the state of the encrypted connection; ok is whether it is one.
func (s *Session) TLS() (state tls.ConnectionState, ok bool) {
	if c, is := s.conn.(*tls.Conn); is {
		return c.ConnectionState(), true
	}
	return state, false
}

// serve talks to the client until one of both has enough.
func (s *Session) serve() {
	defer s.close()
	if !s.greet() {
		return
	}
	for !s.hangup {
		line, err := s.line(s.opt.LineLengthHardLimit)
		if err != nil && err != errLineTooLong {
			s.end(err)
			return
		}
		s.cmd = line
		if err != nil {
			s.diagnose(slog.LevelError, "Line too long")
			s.reply(500, enhanced{5, 2, 3}, "line too long")
		} else if err := s.command(line); err != nil {
			s.end(err)
			return
		}
		s.junk++
		switch l := &s.srv.limits; {
		case s.hangup:
		case s.errors > l.Errors && l.Errors > 0:
			s.reply(421, enhanced{4, 7, 0}, s.opt.Hostname, " too many errors")
		case s.junk > l.Junk && l.Junk > 0:
			s.reply(421, enhanced{4, 7, 0}, s.opt.Hostname, " too many commands without a message")
		case s.now.Sub(s.began) > l.SessionTime && l.SessionTime > 0:
			s.reply(421, enhanced{4, 3, 2}, s.opt.Hostname, " session was open too long")
		}
		if len(s.out) > outLimit {
			if err := s.flush(); err != nil {
				s.end(err)
				return
			}
		}
	}
	s.goodbye()
}

// end is after a read or write that failed.
func (s *Session) end(err error) {
	s.cmd = nil
	switch {
	case err == errStopping:
		s.reply(421, enhanced{4, 3, 2}, s.opt.Hostname, " shutting down")
		s.goodbye()
	case s.broken: // the banner or a reply was not taken
		s.diagnose(slog.LevelError, "error writing: "+err.Error())
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.reply(421, enhanced{4, 3, 2}, s.opt.Hostname, " idle too long")
		s.goodbye()
	case err == io.EOF:
		s.diagnose(slog.LevelInfo, "Peer Disconnected")
	default:
		s.diagnose(slog.LevelError, "error reading: "+err.Error())
	}
}

// goodbye writes what is left. What the client sent meanwhile is read and dropped, for a moment: if it were there when the connection is closed, the
// client's system would throw away our reply.
func (s *Session) goodbye() {
	if s.flush() != nil {
		return
	}
	c, ok := s.conn.(interface{ CloseWrite() error })
	if !ok || c.CloseWrite() != nil || s.conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	io.CopyN(io.Discard, s.conn, lingerBytes)
}

const (
	lingerTime  = 250 * time.Millisecond
	lingerBytes = 64 << 10
)

func (s *Session) close() {
	s.reset()
	if s.trace != nil && s.trace.Closed != nil {
		s.trace.Closed(s)
	}
	s.conn.Close()
}

// greet does what is before the first command.
func (s *Session) greet() bool {
	s.id = s.srv.ids.New(time.Now())
	s.began = s.id.Time()
	s.peer = mtakit.Peer{Addr: addrPort(s.conn.RemoteAddr()), Local: addrPort(s.conn.LocalAddr())}
	s.configure(nil)
	if s.srv.Trace != nil {
		s.saw = s.traceRead
		if s.trace = s.srv.Trace(s); s.trace != nil && s.trace.Connected != nil {
			s.trace.Connected(s)
		}
	}
	if s.stopping.Load() {
		s.reply(421, enhanced{4, 3, 2}, s.opt.Hostname, " shutting down")
		s.goodbye()
		return false
	}
	if s.srv.Admit != nil {
		if err := s.admit(); err != nil {
			g, ok := gateFor(err)
			if !ok {
				s.refuse(err)
			} else {
				s.reply(421, enhanced{4, 3, 2}, s.opt.Hostname, g.text)
			}
			if !ok || g.denied {
				s.srv.metrics.denied.Inc()
			}
			s.goodbye()
			return false
		}
	}
	if on(s.opt.RequireProxyProtocol) && !s.proxyHeader() {
		return false
	}
	if !s.srv.enter(s) {
		s.srv.metrics.denied.Inc()
		s.reply(421, enhanced{4, 3, 2}, s.opt.Hostname, " too many concurrent sessions. Try later")
		s.goodbye()
		return false
	}
	if !s.parameters() {
		s.goodbye()
		return false
	}
	if s.srv.Policy.Connect != nil {
		err := ask(s, s.ctx, "smtp_server_connection_accepted", func(ctx context.Context) error { return s.srv.Policy.Connect(ctx, s) })
		if err != nil {
			s.refuse(err)
			s.goodbye()
			return false
		}
	}
	if s.talksEarly() {
		s.reply(554, enhanced{5, 5, 0}, s.opt.Hostname, " you have to wait for the greeting")
		s.goodbye()
		return false
	}
	s.banner()
	return true
}

func (s *Session) banner() { s.reply(220, enhanced{}, s.opt.Hostname, " ", s.opt.Banner) }

// admit asks whether there is room for connections and messages.
func (s *Session) admit() error {
	_, err := guard(s, s.ctx, "admit", func(context.Context) (any, error) { return nil, s.srv.Admit() })
	return err
}

// talksEarly waits for Limits.GreetPause and says whether the client sent something meanwhile.
func (s *Session) talksEarly() bool {
	pause := s.srv.limits.GreetPause
	if pause <= 0 {
		return false
	}
	if len(s.buffered()) > 0 { // behind the PROXY header
		return true
	}
	var b [1]byte
	n, _ := s.read(b[:], time.Now().Add(pause))
	return n > 0
}

// traceRead shows what was read to who wants to see the session, and asks for that anew.
func (s *Session) traceRead(b []byte) {
	s.trace = s.srv.Trace(s)
	if s.trace == nil || s.trace.Read == nil {
		return
	}
	var begun []byte
	if s.waiting.Load() { // for a command, or the rest of one
		begun = s.buffered()
	}
	if b = s.withoutSecrets(begun, b); len(b) > 0 {
		s.trace.Read(s, b)
	}
}

// configure computes options and metadata anew, from the Server's block and one of the policy's.
func (s *Session) configure(dynamic *Options) {
	peer, via := s.peer.Addr.Addr(), s.peer.Local.Addr()
	for k := range s.opt.Meta { // of blocks for whom the client was before
		delete(s.meta, k)
	}
	s.opt = s.srv.defaults
	s.opt.apply(&s.srv.Options, peer, via)
	if dynamic != nil {
		s.opt.apply(dynamic, peer, via)
	}
	s.patience = s.opt.ClientTimeout
	if s.meta == nil {
		s.meta = make(map[string]any, 8)
	}
	maps.Copy(s.meta, s.opt.Meta)
	s.meta[mtakit.MetaReceptionProtocol] = "ESMTP"
	s.meta[mtakit.MetaHostname] = s.opt.Hostname
	setAddr(s.meta, mtakit.MetaReceivedFrom, s.peer.Addr)
	setAddr(s.meta, mtakit.MetaReceivedVia, s.peer.Local)
	setAddr(s.meta, "orig_received_from", s.peer.OrigAddr)
	setAddr(s.meta, "orig_received_via", s.peer.OrigLocal)
}

func setAddr(meta map[string]any, key string, a netip.AddrPort) {
	if a.IsValid() {
		meta[key] = a.String()
	}
}

// parameters asks the policy for options. False is a refusal, which has been put.
func (s *Session) parameters() bool {
	s.domains = nil
	if s.srv.Policy.Options == nil {
		s.configure(nil)
		return true
	}
	o, err := call(s, s.ctx, "smtp_server_get_dynamic_parameters", func(ctx context.Context) (*Options, error) {
		return s.srv.Policy.Options(ctx, s)
	})
	if err == nil && o != nil {
		err = o.check()
	}
	if err != nil {
		s.refuse(err)
		s.hangup = true
		return false
	}
	s.configure(o)
	return true
}

// moved is after the peer turned out to be another than the socket's.
func (s *Session) moved(from, to mtakit.Peer) {
	if !to.OrigAddr.IsValid() {
		to.OrigAddr, to.OrigLocal = from.Addr, from.Local
	}
	s.peer = to
}

// reset ends the transaction.
func (s *Session) reset() {
	s.open, s.sender = false, ""
	clear(s.rcpts)
	s.rcpts = s.rcpts[:0]
	s.giveBack()
}

func (s *Session) log(level slog.Level, msg string, args ...any) {
	s.srv.log().Log(s.ctx, level, msg, append(args, "session_id", s.ID(), "peer", s.peer.Addr.String())...)
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	return netip.AddrPort{}
}
