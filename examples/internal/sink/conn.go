package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"strconv"
	"strings"
	"time"
)

const (
	maxRcpts     = 1000
	idle         = 5 * time.Minute // without a byte
	tlsHandshake = 30 * time.Second
	grace        = time.Second // to leave, when the sink ends
)

// conn is one client, served by one goroutine.
type conn struct {
	srv *Server
	reader
	tls bool

	mail bool // MAIL was accepted
	from string
	to   []string
	msg  message
}

// serve talks to the client until it leaves or misbehaves, or some time after ctx ended: a client that has just had its last
// answer may say QUIT.
func (c *conn) serve(ctx context.Context) {
	nc := c.nc
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, func() { nc.Close() }) })()
	_, open := c.answer(ctx, onConnect, nil, "220 "+c.srv.Hostname+" ESMTP sink")
	for open {
		line, err := c.line()
		if errors.Is(err, errLineTooLong) {
			c.say("500 5.5.2 line too long")
		}
		if err != nil {
			break
		}
		open = c.command(ctx, line)
	}
	c.flush()
}

// command answers one line, and says whether the session goes on.
func (c *conn) command(ctx context.Context, line string) (open bool) {
	verb, arg, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		c.reset()
		_, open = c.answer(ctx, onEHLO, nil, c.extensions())
		return open
	case "HELO":
		c.reset()
		_, open = c.answer(ctx, onEHLO, nil, "250 "+c.srv.Hostname)
		return open
	case "MAIL":
		from, ok := address(arg, "FROM:")
		switch {
		case !ok:
			return c.say("501 5.5.4 want MAIL FROM:<address>")
		case c.mail:
			return c.say("503 5.5.1 MAIL was there already")
		}
		c.from = from
		c.mail, open = c.answer(ctx, onMail, nil, "250 2.1.0 Ok")
		return open
	case "RCPT":
		to, ok := address(arg, "TO:")
		switch {
		case !ok || to == "":
			return c.say("501 5.5.4 want RCPT TO:<address>")
		case !c.mail:
			return c.say("503 5.5.1 MAIL comes first")
		case len(c.to) == maxRcpts:
			return c.say("452 4.5.3 too many recipients")
		}
		ok, open = c.answer(ctx, onRcpt, []string{to}, "250 2.1.5 Ok")
		if ok {
			c.to = append(c.to, to)
		}
		return open
	case "DATA":
		if len(c.to) == 0 {
			return c.say("503 5.5.1 no valid recipients")
		}
		ok, open := c.answer(ctx, onData, c.to, "354 go ahead, end with <CRLF>.<CRLF>")
		if ok {
			open = c.data(ctx)
			c.reset()
		}
		return open
	case "RSET":
		c.reset()
		return c.say("250 2.0.0 Ok")
	case "NOOP":
		return c.say("250 2.0.0 Ok")
	case "VRFY":
		return c.say("252 2.5.0 try and see")
	case "STARTTLS":
		return c.startTLS(ctx)
	case "QUIT":
		c.say("221 2.0.0 bye")
		return false
	}
	return c.say("502 5.5.1 command not known")
}

// data reads a message and answers it. What is accepted is recorded first.
func (c *conn) data(ctx context.Context) (open bool) {
	c.msg.begin(c.srv)
	if err := c.body(c.msg.take); err != nil {
		c.msg.drop()
		return false
	}
	v := c.srv.Rules.ask(onDot, c.from, c.to, time.Now())
	if !v.positive() {
		c.msg.drop()
		_, open = c.conclude(ctx, v, "")
		return open
	}
	normal := "250 2.0.0 Ok: queued"
	if err := c.msg.accept(); err != nil {
		c.srv.stats.fail(err)
		v, normal = verdict{delay: v.delay}, "451 4.3.0 the message could not be recorded"
	}
	ok, open := c.conclude(ctx, v, normal)
	if ok {
		n := c.srv.stats.accepted(len(c.to), c.msg.size, time.Now())
		if n == c.srv.Limit {
			c.flush()
			c.srv.Stop()
		}
	}
	return open
}

// answer asks the rules for an answer other than the normal one. It says whether the answer is positive, and whether the session
// goes on.
func (c *conn) answer(ctx context.Context, on phase, to []string, normal string) (ok, open bool) {
	if len(c.srv.Rules) == 0 {
		return true, c.say(normal)
	}
	return c.conclude(ctx, c.srv.Rules.ask(on, c.from, to, time.Now()), normal)
}

func (c *conn) conclude(ctx context.Context, v verdict, normal string) (ok, open bool) {
	if v.delay > 0 && (c.flush() != nil || !sleep(ctx, v.delay)) {
		return false, false
	}
	switch {
	case v.reply != "":
		normal = v.reply
	case v.close:
		return false, false
	}
	open = c.say(normal) && !v.close
	return normal[0] == '2' || normal[0] == '3', open
}

// say queues a reply, and says whether the session goes on: not after a 421.
func (c *conn) say(reply string) (open bool) {
	c.out = append(append(c.out, reply...), '\r', '\n')
	code, _ := strconv.Atoi(reply[:3])
	c.srv.stats.replies[code].Add(1)
	return code != 421
}

func (c *conn) extensions() string {
	lines := []string{c.srv.Hostname, "PIPELINING", "SIZE " + strconv.Itoa(maxSize), "8BITMIME", "SMTPUTF8"}
	if c.srv.TLS != nil && !c.tls {
		lines = append(lines, "STARTTLS")
	}
	return "250-" + strings.Join(lines, "\r\n250-") + "\r\n250 ENHANCEDSTATUSCODES"
}

func (c *conn) startTLS(ctx context.Context) (open bool) {
	if c.srv.TLS == nil || c.tls {
		return c.say("502 5.5.1 TLS is not available")
	}
	c.say("220 2.0.0 go ahead")
	// What came with the command was not protected, so nobody knows whose it is.
	if c.flush() != nil || c.pending() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, tlsHandshake)
	defer cancel()
	t := tls.Server(c.nc, c.srv.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		c.srv.stats.fail(err)
		return false
	}
	c.nc, c.tls = t, true
	c.srv.stats.tls.Add(1)
	c.reset()
	return true
}

func (c *conn) reset() { c.mail, c.from, c.to = false, "", c.to[:0] }

// address takes <address> out of "FROM:<address> PARAMETERS"; a space after the colon is let through.
func address(arg, keyword string) (string, bool) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", false
	}
	arg = strings.TrimLeft(arg[len(keyword):], " ")
	if !strings.HasPrefix(arg, "<") {
		return "", false
	}
	quoted := false
	for i := 1; i < len(arg); i++ {
		switch {
		case quoted && arg[i] == '\\':
			i++
		case arg[i] == '"':
			quoted = !quoted
		case !quoted && arg[i] == '>':
			return arg[1:i], true
		}
	}
	return "", false
}

// sleep waits for d; false is the end of ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
