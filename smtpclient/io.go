package smtpclient

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// buf gathers what flush writes.
func (c *Conn) buf() *[]byte {
	if c.out == nil {
		c.out = outPool.Get().(*[]byte)
	}
	return c.out
}

// flush writes what has gathered, and waits no longer than d for the peer to take it, or for the rest of it if that is written in
// the background.
func (c *Conn) flush(d time.Duration, background bool) error {
	if c.out == nil {
		return nil
	}
	b := c.out
	c.out = nil
	if err := c.w.join(); err != nil {
		release(b)
		return err
	}
	now := time.Now()
	c.writeBy(now.Add(d))
	if c.cfg.Trace != nil {
		c.wroteAt = now
	}
	if c.tls != nil {
		_, err := c.tls.Write(*b)
		release(b)
		if err != nil {
			return err
		}
	} else {
		c.w.out = b
	}
	return c.w.flush(background)
}

// fill reads more, at least one byte.
func (c *Conn) fill() error {
	if c.r == c.e {
		c.r, c.e = 0, 0
	}
	if c.e == len(c.rbuf) {
		if c.r > 0 {
			c.e, c.r = copy(c.rbuf, c.rbuf[c.r:c.e]), 0
		} else {
			c.rbuf = append(c.rbuf, make([]byte, max(2048, len(c.rbuf)))...)
		}
	}
	n, err := c.nc.Read(c.rbuf[c.e:])
	c.e += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// maxLineWait bounds the wait for each further line of a reply.
const maxLineWait = time.Minute

// read reads a reply that has to be whole within d.
func (c *Conn) read(d time.Duration) (rawReply, error) {
	var s replyScanner
	var by time.Time // zero until a deadline is needed
	seen := 0
	c.waited = d
	for {
		n, err := s.scan(c.rbuf[c.r:c.e])
		if err != nil {
			return rawReply{}, err
		}
		if n > 0 {
			r := rawReply{code: s.code, raw: c.rbuf[c.r : c.r+n]}
			c.r += n
			c.answered = true
			c.traceReply(r)
			return r, nil
		}
		if by.IsZero() {
			by = time.Now().Add(d)
			c.readBy(by)
		}
		if s.lines > seen {
			if seen = s.lines; d > maxLineWait {
				t := time.Now().Add(maxLineWait)
				if c.waited = maxLineWait; !t.Before(by) {
					t, c.waited = by, d
				}
				c.readBy(t)
			}
		}
		if err := c.fill(); err != nil {
			if err == io.EOF && c.e > c.r {
				err = io.ErrUnexpectedEOF
			}
			return rawReply{}, err
		}
	}
}

func (c *Conn) traceReply(r rawReply) {
	if t := c.cfg.Trace; t != nil && t.Reply != nil {
		t.Reply(c.parseReply(r, ""), r.raw, time.Since(c.wroteAt))
	}
}

// command writes one command and reads its reply.
func (c *Conn) command(p Phase, shown string, parts ...string) (rawReply, error) {
	if c.dead != nil {
		return rawReply{}, c.dead
	}
	if c.e > c.r {
		return rawReply{}, c.fail(p, shown, fmt.Errorf("%w: it answers what was not asked: %.80q", ErrProtocol, c.rbuf[c.r:c.e]))
	}
	b := c.buf()
	for _, s := range parts {
		*b = append(*b, s...)
	}
	*b = append(*b, "\r\n"...)
	c.cfg.Trace.command(shown + "\r\n")
	d := c.timeout(p)
	if err := c.flush(min(d, maxWrite), false); err != nil {
		return rawReply{}, c.fail(p, shown, c.timedOut(err, min(d, maxWrite), "to write "+shown))
	}
	r, err := c.read(d)
	if err != nil {
		return rawReply{}, c.fail(p, shown, c.timedOut(err, c.waited, "for response to "+shown))
	}
	return r, nil
}

// timedOut names the wait, if that is what err is about and it isn't named already.
func (c *Conn) timedOut(err error, d time.Duration, action string) error {
	if !isTimeout(err) || c.isCut() {
		return err
	}
	if te := (*timeoutError)(nil); errors.As(err, &te) {
		return err
	}
	return &timeoutError{wait: d, action: action}
}
