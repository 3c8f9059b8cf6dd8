package smtpserver

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyHeader reads the PROXY header, which must be there. False ends the session without a word.
func (s *Session) proxyHeader() bool {
	if !contains(s.srv.proxyFrom, s.peer.Addr.Addr()) {
		s.log(slog.LevelWarn, "PROXY header required from a client that is not trusted with one")
		return false
	}
	r := bufio.NewReaderSize(&deadlineReader{s, time.Now().Add(s.opt.ClientTimeout)}, int(proxyproto.MaxV2HeaderSize)+16)
	h, err := proxyproto.Read(r)
	if err != nil {
		s.diagnose(slog.LevelError, "PROXY header: "+err.Error())
		s.log(slog.LevelInfo, "PROXY header", "err", err)
		return false
	}
	rest, _ := r.Peek(r.Buffered())
	s.unread(rest)
	from, ok1 := h.SourceAddr.(*net.TCPAddr)
	to, ok2 := h.DestinationAddr.(*net.TCPAddr)
	if h.Command.IsLocal() || !ok1 || !ok2 {
		return true // a health check of the proxy, or a family it can't tell: the socket's addresses hold
	}
	was, now := s.peer, s.peer
	now.Addr, now.Local = addrPort(from), addrPort(to)
	s.moved(was, now)
	s.diagnose(slog.LevelInfo, fmt.Sprintf("Proxy protocol changed received_from from %s -> %s", was.Addr, now.Addr))
	s.diagnose(slog.LevelInfo, fmt.Sprintf("Proxy protocol changed received_via from %s -> %s", was.Local, now.Local))
	s.configure(nil)
	return true
}

// deadlineReader reads from a session until a moment.
type deadlineReader struct {
	s  *Session
	by time.Time
}

func (r *deadlineReader) Read(p []byte) (int, error) {
	r.s.waiting.Store(true)
	defer r.s.waiting.Store(false)
	return r.s.read(p, r.by)
}
