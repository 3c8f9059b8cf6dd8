package smtpclient

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/mtakit/mtakit"
)

// message sends the message and reads what the peer says to it.
func (c *Conn) message(e *envelope, next func() *mtakit.Delivery) error {
	if c.e > c.r {
		return c.broken(e, PhaseBody, "", fmt.Errorf("%w: it spoke before the message was sent: %.80q", ErrProtocol, c.rbuf[c.r:c.e]))
	}
	if err := c.write(e, next); err != nil {
		return c.unwanted(e, err)
	}
	d := c.timeout(PhaseDot)
	for _, k := range e.rcpts {
		if e.replies[k].Code != 0 {
			continue
		}
		r, err := c.read(d)
		if err != nil {
			if _, werr := c.w.written(); werr != nil && isTimeout(werr) {
				err = c.timedOut(werr, d, "to write the message")
			}
			return c.broken(e, PhaseDot, ".", c.timedOut(err, c.waited, "for response to ."))
		}
		resp := c.parseReply(r, ".")
		if e.replies[k] = resp; c.path.UseLMTP {
			c.dirty = c.dirty || !r.ok()
			if r.code == 421 {
				return c.farewell(e, PhaseDot, resp)
			}
			continue
		}
		if c.dirty = !r.ok(); c.dirty {
			e.mail = resp // for all, and not only for those that RCPT was taken for
		}
		if r.code == 421 {
			return c.farewell(e, PhaseDot, resp)
		}
		for _, k := range e.rcpts {
			if e.replies[k].Code == 0 {
				e.replies[k] = resp
			}
		}
	}
	if c.ahead.sent {
		c.dirty = false // the end has cleared what the transaction left, whatever came of it (RFC 5321, 4.1.1.4)
	}
	return c.finish(e)
}

// unwanted looks, after the message could not be written, for the reply in which the peer says why it doesn't want it.
func (c *Conn) unwanted(e *envelope, err error) error {
	var te *timeoutError
	some := c.e > c.r
	if !some && !errors.As(err, &te) && !c.isCut() && c.tls == nil {
		some, _ = c.w.pending()
	}
	if some {
		if r, rerr := c.read(time.Second); rerr == nil && r.code >= 400 {
			resp := c.parseReply(r, ".")
			e.mail = resp
			return c.farewell(e, PhaseBody, resp)
		}
	}
	return c.broken(e, PhaseBody, "", err)
}

// Of a message longer than holdBack, all but the last that many bytes are written first: what is held back goes out together with the
// end and the next envelope, from a buffer of ours. So the one write that may still be under way when Send returns has
// nothing of the caller's.
const (
	holdBack  = 32 << 10
	maxWindow = 256 << 10 // bytes in one write of a body in memory
	maxSegs   = 512
)

var errEarly = fmt.Errorf("%w: it answered before the end of the message", ErrProtocol)

// heard says whether the peer has hung up or spoken in the middle of the message. With TLS something may always be there that
// isn't meant for us.
func (c *Conn) heard() error {
	if c.tls != nil {
		return nil
	}
	some, eof := c.w.pending()
	switch {
	case some:
		return errEarly
	case eof:
		return errClosed
	}
	return nil
}

// write sends the message, its end, and with next the envelope that follows.
func (c *Conn) write(e *envelope, next func() *mtakit.Delivery) error {
	src, start := &e.src, true
	_, socket := c.w.Conn.(*net.TCPConn)
	for vec := c.tls == nil && socket && len(src.list) > 0; src.left > holdBack; {
		var err error
		if vec {
			err = c.writeWindow(src, &start)
		} else {
			var p []byte
			if p, err = src.next(int(min(src.left-holdBack, holdBack))); err == nil {
				b := c.buf()
				*b, start = appendStuffed(*b, p, start)
				if len(*b) >= outSize-holdBack {
					err = c.writeBlock()
				}
			}
		}
		if err != nil {
			return err
		}
	}
	announced := c.announce(next)
	b := c.buf()
	for src.left > 0 {
		p, err := src.next(holdBack)
		if err != nil {
			return err
		}
		*b, start = appendStuffed(*b, p, start)
	}
	if !bytes.HasSuffix(*b, crlf) {
		*b = append(*b, crlf...)
	}
	c.cfg.Trace.data(*b)
	*b = append(*b, ".\r\n"...)
	c.cfg.Trace.command(".\r\n")
	if announced {
		*b = append(*b, c.ahead.cmds...)
		c.cfg.Trace.ahead(c.ahead)
	}
	e.ended = true
	d := c.timeout(PhaseBody)
	return c.timedOut(c.flush(d, true), d, "to write the message")
}

// writeWindow writes a part of a body in memory without copying it.
func (c *Conn) writeWindow(src *source, start *bool) error {
	if err := c.heard(); err != nil {
		return err
	}
	c.segs = c.segs[:0]
	for n := 0; n < maxWindow && len(c.segs) < maxSegs && src.left > holdBack; {
		p, err := src.next(int(min(src.left-holdBack, 16<<10)))
		if err != nil {
			return err
		}
		n += len(p)
		c.segs, *start = appendSegments(c.segs, p, *start)
	}
	if c.cfg.Trace != nil {
		for _, s := range c.segs {
			c.cfg.Trace.data(s)
		}
	}
	d := c.timeout(PhaseBody)
	c.writeBy(time.Now().Add(d))
	c.vec = c.segs
	_, err := c.vec.WriteTo(c.w.Conn)
	clear(c.segs)
	return c.timedOut(err, d, "to write the message")
}

// writeBlock writes what has gathered of a message.
func (c *Conn) writeBlock() error {
	if err := c.heard(); err != nil {
		return err
	}
	c.cfg.Trace.data(*c.out)
	d := c.timeout(PhaseBody)
	return c.timedOut(c.flush(d, false), d, "to write the message")
}

// announce asks for the delivery that follows and prepares its envelope; it says whether there is one to send.
func (c *Conn) announce(next func() *mtakit.Delivery) bool {
	if next == nil || !c.pipeline {
		return false
	}
	d := next()
	if d == nil {
		return false
	}
	c.ahead.d = d
	err := c.prepare(c.ahead, d, c.path.EnableRset)
	if err != nil || len(c.ahead.rcpts) == 0 {
		// Nothing of it can be sent. Its own Send finds out again, and says so.
		if err != nil {
			c.cfg.Trace.note(slog.LevelWarn, err.Error())
		}
		c.ahead.release()
		c.ahead.d = d
		return false
	}
	c.ahead.sent = true
	return true
}
