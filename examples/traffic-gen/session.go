package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// session is a connection on which messages are sent. Commands wait in out until a reply is awaited.
type session struct {
	nc         net.Conn
	in         *bufio.Reader
	out        []byte
	timeout    time.Duration
	pipelining bool
	broken     bool

	rcpt []byte // of the envelope that was begun, where it is not pipelined
}

// dial connects and greets.
func dial(ctx context.Context, c *config) (s *session, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	s = &session{nc: nc, in: bufio.NewReader(nc), timeout: c.timeout}
	defer func() {
		if err != nil {
			s.nc.Close()
		}
	}()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	if err := s.want("banner", 2); err != nil {
		return nil, err
	}
	if c.startTLS {
		s.out = append(s.out, "EHLO "+c.ehlo+"\r\nSTARTTLS\r\n"...)
		if err := errors.Join(s.want("EHLO", 2), s.want("STARTTLS", 2)); err != nil {
			return nil, err
		}
		t := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		s.nc = t
		s.in.Reset(t)
	}
	s.out = append(s.out, "EHLO "+c.ehlo+"\r\n"...)
	r, err := s.reply()
	if err != nil {
		return nil, err
	}
	if !r.OK() {
		return nil, fmt.Errorf("EHLO: %v", r)
	}
	for line := range strings.SplitSeq(r.Text, "\n") {
		s.pipelining = s.pipelining || c.pipelining && strings.EqualFold(line, "PIPELINING")
	}
	return s, nil
}

func (s *session) want(command string, class int) error {
	r, err := s.reply()
	if err == nil && r.Code/100 != class {
		err = errors.New(r.String())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// reply sends what waits and reads one reply.
func (s *session) reply() (r mtakit.Response, err error) {
	defer func() { s.broken = s.broken || err != nil || r.Code == 421 }()
	s.nc.SetDeadline(time.Now().Add(s.timeout))
	if len(s.out) > 0 {
		_, err := s.nc.Write(s.out)
		s.out = s.out[:0]
		if err != nil {
			return r, err
		}
	}
	for more := true; more; {
		line, err := s.in.ReadSlice('\n')
		if err != nil {
			return r, err
		}
		code, text, again, err := mtakit.SplitReplyLine(strings.TrimRight(string(line), "\r\n"))
		if err != nil {
			return r, err
		}
		first := r.Code == 0
		r.Code, more = code, again
		r.AddLine(text, first)
	}
	return r, nil
}

// begin queues the envelope of a message, as far as it may be sent without a reply.
func (s *session) begin(mail, rcpt []byte) {
	s.out = append(s.out, mail...)
	if s.pipelining {
		s.out = append(append(s.out, rcpt...), "DATA\r\n"...)
	} else {
		s.rcpt = append(s.rcpt[:0], rcpt...)
	}
}

// envelope reads the replies to what begin queued, sending the rest of it in between. It returns the first negative one, or that to
// DATA, and the command it answers.
func (s *session) envelope() (command string, r mtakit.Response, err error) {
	var refused mtakit.Response
	refusedCommand := ""
	for _, step := range [...]struct{ command, line string }{{"MAIL", ""}, {"RCPT", string(s.rcpt)}, {"DATA", "DATA\r\n"}} {
		if !s.pipelining {
			s.out = append(s.out, step.line...)
		}
		if r, err = s.reply(); err != nil || r.Code == 421 {
			return step.command, r, err
		}
		if refusedCommand != "" && step.command == "DATA" && r.Code == 354 {
			s.out = append(s.out, ".\r\n"...) // it takes a message without recipients
			_, err = s.reply()
		}
		if refusedCommand == "" && r.Code/100 > 3 {
			refusedCommand, refused = step.command, r
			if !s.pipelining {
				break
			}
		}
	}
	if refusedCommand != "" {
		return refusedCommand, refused, err
	}
	return "DATA", r, nil
}

// abort ends a transaction of which a command was refused.
func (s *session) abort() error {
	s.out = append(s.out, "RSET\r\n"...)
	_, err := s.reply()
	return err
}

func (s *session) close() {
	if !s.broken {
		s.out = append(s.out, "QUIT\r\n"...)
		s.timeout = min(s.timeout, time.Second)
		s.reply()
	}
	s.nc.Close()
}
