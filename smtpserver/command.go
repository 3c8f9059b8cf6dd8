package smtpserver

import (
	"bytes"
	"context"
	"strings"
	"unicode/utf8"

	"github.com/mtakit/mtakit"
)

// command does what the line says. An error is the connection's.
func (s *Session) command(line []byte) error {
	if !utf8.Valid(line) {
		s.cmd = shownCommand(line)
		s.reply(501, enhanced{5, 5, 2}, "Invalid UTF-8 in command")
		return nil
	}
	if !isPrintable(line) {
		s.cmd = shownCommand(line)
		s.syntaxError("control characters")
		return nil
	}
	verb, arg, _ := bytes.Cut(line, []byte(" "))
	var buf [8]byte
	if len(verb) > len(buf) {
		verb = nil
	}
	upper := buf[:copy(buf[:], verb)]
	for i, c := range upper {
		if 'a' <= c && c <= 'z' {
			upper[i] = c - 'a' + 'A'
		}
	}
	switch string(upper) {
	case "MAIL":
		s.mail(string(arg))
	case "RCPT":
		s.rcpt(string(arg))
	case "DATA":
		return s.data(string(arg))
	case "EHLO":
		s.ehlo(string(arg), true)
	case "HELO":
		s.ehlo(string(arg), false)
	case "RSET":
		s.reset()
		s.reply(250, enhanced{}, "Reset state")
	case "NOOP":
		s.reply(250, enhanced{}, "the goggles do nothing")
	case "QUIT":
		s.reply(221, enhanced{}, "So long, and thanks for all the fish!")
		s.hangup = true
	case "STARTTLS":
		return s.startTLS(string(arg))
	case "AUTH":
		s.cmd = bytes.ToUpper(firstWords(line, 2)) // without the initial response
		return s.auth(string(arg))
	case "XCLIENT":
		s.xclient(string(arg))
	default: // VRFY, EXPN, HELP, LHLO too
		s.cmd = shownCommand(line)
		s.reply(502, enhanced{5, 5, 1}, "Command unimplemented")
	}
	return nil
}

func (s *Session) syntaxError(detail string) {
	if detail != "" {
		s.reply(501, enhanced{}, "Syntax error in command or arguments: ", detail)
		return
	}
	s.reply(501, enhanced{}, "Syntax error in command or arguments")
}

// firstWords returns a copy of the first n words of b.
func firstWords(b []byte, n int) []byte {
	f := bytes.Fields(b)
	return bytes.Join(f[:min(n, len(f))], []byte(" "))
}

// keywords are what EHLO announces.
func (s *Session) keywords() []string {
	k := append(make([]string, 0, 6), "PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8")
	if s.tls == nil {
		k = append(k, "STARTTLS")
	} else if s.srv.Auth != nil {
		k = append(k, "AUTH PLAIN LOGIN")
	}
	if on(s.opt.AllowXCLIENT) {
		k = append(k, "XCLIENT ADDR PORT DESTADDR DESTPORT")
	}
	return k
}

// ehlo is EHLO and HELO (RFC 5321, 4.1.1.1).
func (s *Session) ehlo(arg string, extended bool) {
	domain, ok := parseHelo(arg)
	if !ok {
		s.syntaxError("")
		return
	}
	var words []string
	if extended {
		words = s.keywords()
	}
	if s.srv.Policy.Ehlo != nil {
		replaced, err := call(s, s.ctx, "smtp_server_ehlo", func(ctx context.Context) ([]string, error) {
			return s.srv.Policy.Ehlo(ctx, s, domain, words)
		})
		if err != nil {
			s.refuse(err)
			return
		}
		if extended {
			words = replaced
		}
	}
	s.reset()
	s.helo = domain
	s.meta[mtakit.MetaEHLODomain] = domain
	if !extended {
		s.reply(250, enhanced{}, "Hello ", domain, "!")
		return
	}
	s.reply(250, enhanced{}, strings.Join(append([]string{s.opt.Hostname + " Aloha " + domain}, words...), "\n"))
}
