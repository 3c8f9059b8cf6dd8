package smtptest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serverConn is one connection of a Peer; one goroutine uses it.
type serverConn struct {
	peer   *Peer
	raw    net.Conn // the wire
	nc     net.Conn // raw, or TLS over it
	br     *bufio.Reader
	bw     *bufio.Writer
	number int
	wrote  bool // since the last read
	done   bool // close after what is in bw

	msg    Message
	inMail bool
	hello  string
	user   string
	tls    *tls.ConnectionState
}

// Read counts reads and flushes the replies before it waits for more commands.
func (c *serverConn) Read(p []byte) (int, error) {
	if err := c.bw.Flush(); err != nil {
		return 0, err
	}
	n, err := c.nc.Read(p)
	if n > 0 {
		c.peer.mu.Lock()
		c.peer.stats.Reads++
		if c.wrote {
			c.peer.stats.RoundTrips++
		}
		c.peer.mu.Unlock()
		c.wrote = false
	}
	return n, err
}

func (c *serverConn) serve() {
	c.use(c.raw)
	c.answer("CONNECT", "", "220 "+c.peer.hostname+" ESMTP smtptest")
	for !c.done {
		line, err := c.br.ReadBytes('\n')
		if err != nil {
			return
		}
		c.peer.command(line)
		c.handle(string(bytes.TrimRight(line, "\r\n")))
	}
	c.bw.Flush()
	// A close with unread bytes would reset the connection and might take the reply with it.
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		io.Copy(io.Discard, c.raw)
	}
}

func (c *serverConn) use(nc net.Conn) {
	c.nc, c.br, c.bw = nc, bufio.NewReaderSize(c, 32<<10), bufio.NewWriterSize(nc, 32<<10)
}

// answer gives the reply that the rules have for the verb, else def, and tells its code; 0 is none.
func (c *serverConn) answer(verb, line, def string) (code int) {
	reply := def
	r, ok := c.peer.rule(verb, line)
	if ok && r.reply != "" {
		reply = r.reply
	}
	if r.delay > 0 {
		c.bw.Flush()
		time.Sleep(r.delay)
	}
	switch {
	case r.mute:
	case r.raw:
		c.bw.WriteString(reply)
		c.wrote = true
	default:
		for l := range strings.SplitSeq(reply, "\n") {
			c.bw.WriteString(strings.TrimSuffix(l, "\r") + "\r\n")
		}
		c.wrote = true
		if len(reply) >= 3 {
			code, _ = strconv.Atoi(reply[:3])
		}
	}
	if r.then != nil {
		c.bw.Flush()
		r.then(c.raw)
		c.raw.Close()
		c.done = true
	}
	if r.close || code == 421 {
		c.done = true
	}
	return code
}

func (c *serverConn) handle(line string) {
	verb, arg, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	say := func(def string) int { return c.answer(verb, line, def) }
	switch verb {
	case "EHLO", "LHLO":
		c.ehlo(verb, line, arg)
	case "STARTTLS":
		c.startTLS(line)
	case "AUTH":
		_, resp, _ := strings.Cut(arg, " ")
		b, _ := base64.StdEncoding.DecodeString(resp)
		if say("235 2.7.0 welcome") == 235 {
			if f := bytes.Split(b, []byte{0}); len(f) == 3 {
				c.user = string(f[1])
			}
		}
	case "MAIL":
		if c.inMail {
			say("503 5.5.1 nested MAIL")
			return
		}
		from, params := path(arg, "FROM:")
		if say("250 2.1.0 ok")/100 == 2 {
			c.inMail = true
			c.msg = Message{Hello: c.hello, From: from, Params: params, User: c.user, TLS: c.tls, Conn: c.number}
		}
	case "RCPT":
		if !c.inMail {
			say("503 5.5.1 MAIL first")
			return
		}
		to, _ := path(arg, "TO:")
		if code := say("250 2.1.5 ok"); code/100 == 2 {
			c.msg.To = append(c.msg.To, to)
		}
	case "DATA":
		def := "354 go ahead"
		if len(c.msg.To) == 0 {
			def = "503 5.5.1 no valid recipients"
		}
		if say(def) == 354 && !c.done {
			c.data()
		}
	case "RSET":
		if say("250 2.0.0 ok") == 250 {
			c.reset()
		}
	case "QUIT":
		say("221 2.0.0 bye")
		c.done = true
	case "NOOP":
		say("250 2.0.0 ok")
	default:
		say("500 5.5.2 unknown command")
	}
}

func (c *serverConn) reset() { c.inMail, c.msg = false, Message{} }

func (c *serverConn) ehlo(verb, line, name string) {
	p := c.peer
	p.mu.Lock()
	ext, offer, lmtp := slices.Clone(p.extensions), p.tls != nil && c.tls == nil, p.lmtp
	p.mu.Unlock()
	if lmtp != (verb == "LHLO") {
		c.answer(verb, line, "500 5.5.1 wrong protocol")
		return
	}
	if offer {
		ext = append(ext, "STARTTLS")
	}
	lines := append([]string{p.hostname}, ext...)
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		lines[i] = "250" + sep + lines[i]
	}
	if c.answer(verb, line, strings.Join(lines, "\n")) == 250 {
		c.hello = name
		c.reset()
	}
}

func (c *serverConn) startTLS(line string) {
	p := c.peer
	p.mu.Lock()
	cfg := p.tls
	p.mu.Unlock()
	def := "220 2.0.0 go ahead"
	if cfg == nil || c.tls != nil {
		def = "502 5.5.1 not offered"
	}
	if c.answer("STARTTLS", line, def) != 220 || c.done || cfg == nil {
		return
	}
	c.bw.Flush()
	t := tls.Server(c.raw, cfg)
	if err := t.Handshake(); err != nil {
		// What a client says in clear after a failed handshake is answered, as some servers do.
		var rec tls.RecordHeaderError
		if errors.As(err, &rec) || errors.Is(err, io.EOF) {
			c.done = true
		}
		c.use(c.raw)
		return
	}
	state := t.ConnectionState()
	c.tls = &state
	c.use(t)
	c.reset()
	p.mu.Lock()
	p.stats.Handshakes++
	p.mu.Unlock()
}

// data reads a message up to CRLF.CRLF. As with most servers a bare LF ends a line where dots are concerned, but not the message.
func (c *serverConn) data() {
	var buf bytes.Buffer
	start, crlf := true, true // at the start of a line; the line before ended with CRLF
	for {
		chunk, err := c.br.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			c.done = true
			return
		}
		if start && crlf && string(chunk) == ".\r\n" {
			break
		}
		if start && len(chunk) > 0 && chunk[0] == '.' {
			chunk = chunk[1:]
		}
		buf.Write(chunk)
		start = err == nil
		crlf = bytes.HasSuffix(buf.Bytes(), []byte("\r\n"))
	}
	m := c.msg
	m.Data = buf.Bytes()
	c.reset()
	c.peer.mu.Lock()
	lmtp := c.peer.lmtp
	c.peer.mu.Unlock()
	if !lmtp {
		if c.answer(".", m.From, "250 2.0.0 taken")/100 == 2 {
			c.peer.received(m)
		}
		return
	}
	all := m.To
	m.To = nil
	for _, to := range all {
		if c.answer(".", to, "250 2.0.0 taken")/100 == 2 {
			m.To = append(m.To, to)
		}
	}
	if len(m.To) > 0 {
		c.peer.received(m)
	}
}

// path takes "FROM:<a@b> SIZE=1" apart.
func path(arg, prefix string) (addr, params string) {
	arg = strings.TrimPrefix(arg, prefix)
	quoted := false
	for i := 0; i < len(arg); i++ {
		switch {
		case arg[i] == '\\' && quoted:
			i++
		case arg[i] == '"':
			quoted = !quoted
		case arg[i] == '>' && !quoted:
			return strings.TrimPrefix(arg[:i], "<"), strings.TrimSpace(arg[i+1:])
		}
	}
	return arg, ""
}
