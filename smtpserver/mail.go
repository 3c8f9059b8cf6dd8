package smtpserver

import (
	"context"
	"strings"
	"time"
)

// mail is MAIL FROM (RFC 5321, 4.1.1.2).
func (s *Session) mail(arg string) {
	path, ok := cutPrefixFold(arg, "FROM:")
	if !ok {
		s.syntaxError("")
		return
	}
	if s.open {
		s.reply(503, enhanced{5, 5, 0}, "MAIL FROM already issued; you must RSET first")
		return
	}
	address, rest, err := parsePath(path)
	if err != nil || !strings.Contains(address, "@") && address != "" {
		s.reply(501, enhanced{5, 1, 7}, "Bad sender's mailbox address syntax")
		return
	}
	p, err := parseParams(rest)
	if err != nil {
		s.syntaxError(err.Error())
		return
	}
	if p.size > s.opt.MaxMessageSize {
		s.reply(552, enhanced{5, 3, 4}, "message too big")
		return
	}
	if s.srv.Admit != nil {
		if err := s.admit(); err != nil {
			s.refuseFor(err)
			return
		}
	}
	if s.srv.budget.full() {
		s.replyTo(noRoom)
		return
	}
	if s.srv.Policy.Mail != nil {
		err := ask(s, s.ctx, "smtp_server_mail_from", func(ctx context.Context) error { return s.srv.Policy.Mail(ctx, s, address) })
		if err != nil {
			s.refuse(err)
			return
		}
	}
	s.open, s.opened, s.sender = true, time.Now(), address
	if p.size > 0 {
		s.hint = p.size
	}
	s.reply(250, enhanced{}, "OK <", address, ">")
}

// rcpt is RCPT TO (RFC 5321, 4.1.1.3).
func (s *Session) rcpt(arg string) {
	path, ok := cutPrefixFold(arg, "TO:")
	if !ok {
		s.syntaxError("")
		return
	}
	if !s.open {
		s.reply(503, enhanced{5, 5, 0}, "MAIL FROM must be issued first")
		return
	}
	address, rest, err := parsePath(path)
	if err != nil || address == "" {
		s.reply(501, enhanced{5, 1, 3}, "Invalid recipient address syntax")
		return
	}
	if _, err := parseParams(rest); err != nil {
		s.syntaxError(err.Error())
		return
	}
	relay, to, err := s.mayRelay(s.ctx, s.sender, address)
	switch {
	case err != nil:
		s.refuse(err)
		return
	case !relay && !to.logsReports():
		s.reply(550, enhanced{5, 7, 1}, "relaying not permitted for ", s.peer.Addr.String())
		return
	case len(s.rcpts) >= s.opt.MaxRecipientsPerMessage:
		s.reply(452, enhanced{4, 5, 3}, "too many recipients")
		return
	case s.taken >= s.opt.MaxMessagesPerConnection && len(s.rcpts) == 0:
		s.reply(421, enhanced{4, 5, 3}, s.opt.Hostname, " too many recipients on this connection")
		return
	case s.taken >= s.opt.MaxMessagesPerConnection:
		s.reply(452, enhanced{4, 5, 3}, "too many recipients on this connection")
		return
	}
	s.taken++
	if s.srv.Policy.Rcpt != nil {
		err := ask(s, s.ctx, "smtp_server_rcpt_to", func(ctx context.Context) error { return s.srv.Policy.Rcpt(ctx, s, address) })
		if err != nil {
			s.refuse(err)
			return
		}
	}
	s.rcpts = append(s.rcpts, address)
	s.junk-- // it leads somewhere
	s.reply(250, enhanced{}, "OK <", address, ">")
}

// data is DATA (RFC 5321, 4.1.1.4).
func (s *Session) data(arg string) error {
	switch {
	case strings.Trim(arg, " ") != "":
		s.syntaxError("")
		return nil
	case !s.open:
		s.reply(503, enhanced{5, 5, 0}, "MAIL FROM must be issued first")
		return nil
	case len(s.rcpts) == 0:
		s.reply(503, enhanced{5, 5, 0}, "RCPT TO must be issued first")
		return nil
	case s.srv.budget.full():
		s.replyTo(noRoom)
		s.reset()
		return nil
	}
	if s.reply(354, enhanced{}, "Send body; end with CRLF.CRLF") != 354 {
		s.reset()
		return nil
	}
	s.cmd = dataCommand
	start := time.Now()
	t, f, err := s.readText(start)
	if err != nil {
		return err
	}
	read := time.Now()
	s.srv.metrics.readData.Observe(read.Sub(start))
	s.srv.metrics.received.Inc()
	s.ln.received.Inc()
	if f != flawless {
		s.replyTo(f)
	} else {
		s.receive(t, read)
		t.release()
	}
	s.pressing = true
	end := time.Now()
	s.srv.metrics.processData.Observe(end.Sub(read))
	s.srv.metrics.transaction.Observe(end.Sub(s.opened))
	s.reset()
	return nil
}

var dataCommand = []byte("DATA")
