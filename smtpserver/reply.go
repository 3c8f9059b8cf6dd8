package smtpserver

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

type enhanced = [3]uint16

// replyWidth is where long replies are broken into lines: RFC 5321, 4.5.3.1.5 allows 512 octets a line.
const replyWidth = 500

// reply answers the command in hand with a text that is made of parts, and returns the code that policy made of it. Lines are separated
// by "\n".
func (s *Session) reply(code int, enh enhanced, parts ...string) int {
	text := s.scratch[:0]
	for _, p := range parts {
		text = append(text, p...)
	}
	s.scratch = text[:0]
	return s.send(code, enh, text)
}

// send is reply for a text in one piece.
func (s *Session) send(code int, enh enhanced, text []byte) int {
	if code >= 400 || s.srv.Policy.Reply != nil {
		r := mtakit.Response{Code: code, Enhanced: enh, Text: string(text), Command: string(s.cmd)}
		s.rewrite(&r)
		if r.Code >= 400 {
			s.refused(&r)
		}
		code, enh, text = r.Code, r.Enhanced, []byte(r.Text)
	}
	s.put(code, enh, text)
	if code == 421 {
		s.hangup = true
	}
	return code
}

// rewrite lets the policy change r.
func (s *Session) rewrite(r *mtakit.Response) {
	if s.srv.Policy.Reply == nil {
		return
	}
	n, err := guard(s, s.ctx, "smtp_server_rewrite_response", func(context.Context) (mtakit.Response, error) {
		return s.srv.Policy.Reply(s, *r), nil
	})
	switch {
	case err != nil:
		s.log(slog.LevelError, "reply was not rewritten", "err", err)
	case n.Code != 0 && (n.Code < 200 || n.Code > 599):
		s.log(slog.LevelError, "reply was not rewritten", "err", "bad code", "code", n.Code)
	case n.Code != 0:
		n.Command = r.Command
		*r = n
	}
}

// put writes a reply into the output: each line with its code, control characters turned into spaces, long lines broken at a space.
func (s *Session) put(code int, enh enhanced, text []byte) {
	for {
		line, rest, more := text, []byte(nil), false
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, rest, more = text[:i], text[i+1:], true
		}
		if len(line) > replyWidth {
			if i := bytes.LastIndexByte(line[:replyWidth], ' '); i > 0 {
				line, rest, more = text[:i], text[i+1:], true
			}
		}
		start := len(s.out)
		s.out = append(s.out, byte('0'+code/100), byte('0'+code/10%10), byte('0'+code%10), ' ')
		if more {
			s.out[len(s.out)-1] = '-'
		}
		if enh[0] != 0 {
			s.out = append(mtakit.AppendEnhanced(s.out, enh), ' ')
		}
		for _, c := range line {
			if c < ' ' || c == 0x7f {
				c = ' '
			}
			s.out = append(s.out, c)
		}
		s.out = append(s.out, '\r', '\n')
		if s.trace != nil && s.trace.Write != nil {
			s.trace.Write(s, s.out[start:])
		}
		if text = rest; !more {
			return
		}
	}
}

// refused counts and records a 4xx or 5xx. Those of 421 4.3.2 are ours, not the client's: stopping and load.
func (s *Session) refused(r *mtakit.Response) {
	if r.Code >= 500 {
		s.errors++
	}
	if r.Code == 421 && (r.Enhanced == enhanced{4, 3, 2} || strings.HasPrefix(r.Text, "4.3.2 ")) {
		return
	}
	s.srv.metrics.rejections.Inc()
	s.ln.rejections.Inc()
	if s.srv.Record == nil {
		return
	}
	now := time.Now()
	rec := mtakit.Record{
		Kind: mtakit.Rejection, Sender: s.sender, Response: *r, PeerName: s.helo, PeerAddr: s.peer.Addr, Time: now, Created: now,
		NodeID: s.srv.NodeID, SessionID: s.ID(), Meta: s.meta,
	}
	if n := len(s.rcpts); n > 0 {
		rec.To = s.rcpts[n-1:]
	}
	if s.tls != nil {
		rec.TLSVersion, rec.TLSCipher, rec.TLSSubject = s.tls.version, s.tls.cipher, s.tls.subject
	}
	s.srv.Record.Record(&rec)
}

// refuse answers with what a callback returned as its error.
func (s *Session) refuse(err error) {
	if r, hangup, ok := verdict(err); ok {
		s.reply(r.Code, r.Enhanced, r.Text)
		s.hangup = s.hangup || hangup
		return
	}
	s.log(slog.LevelError, "technical difficulties", "command", string(s.cmd), "err", err)
	s.reply(421, enhanced{4, 3, 0}, s.opt.Hostname, " technical difficulties")
}

// gate is a reply to what [Server.Admit] or [Deliver] says is wrong with the place for messages; text goes behind the host name.
type gate struct {
	text   string
	denied bool // counts as a denied connection
}

func gateFor(err error) (g gate, ok bool) {
	switch {
	case errors.Is(err, mtakit.ErrSpoolFull):
		return gate{" disk is too full. Try later", true}, true
	case errors.Is(err, mtakit.ErrUnhealthy):
		return gate{" the spool is not accepting writes. Try later", true}, true
	case errors.Is(err, mtakit.ErrOverloaded):
		return gate{" load shedding. Try later", true}, true
	case errors.Is(err, ErrStarting):
		return gate{" waiting for spool startup. Try again soon!", false}, true
	case errors.Is(err, mtakit.ErrClosed):
		return gate{" shutting down", false}, true
	}
	return gate{}, false
}

// refuseFor answers where there is no place for messages: within a session 452 if that is for want of space, which may be over with the next
// message, else 421.
func (s *Session) refuseFor(err error) {
	g, ok := gateFor(err)
	switch {
	case !ok:
		s.refuse(err)
	case errors.Is(err, mtakit.ErrSpoolFull), errors.Is(err, mtakit.ErrOverloaded):
		s.reply(452, enhanced{4, 3, 1}, s.opt.Hostname, g.text)
	default:
		s.reply(421, enhanced{4, 3, 2}, s.opt.Hostname, g.text)
	}
}
