package smtpclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mtakit/mtakit"
)

// Send attempts a delivery as [mtakit.Session] says. With PIPELINING the envelope is one write, and with next the envelope of
// the following delivery is in the write that ends this one's message, so that on a kept connection a message costs one round trip.
//
// These are the results (RFC 5321, 4.2; RFC 2920, 3.1; RFC 2033, 4.2): MAIL refused counts for every recipient, as does DATA refused
// and, with SMTP, the message refused after its end. A recipient refused by RCPT has that reply. With LMTP each recipient that was
// taken has its own reply after the end. Any 2xx is consent. A 421 is for all recipients that have no other reply, and ends
// the connection. A time-out gives them 421 4.4.2 and ends it too. A recipient that cannot be told to this peer (8-bit without
// SMTPUTF8, or an address that is none) has a reply of our own, and so have all if the message is 8-bit and the peer hasn't
// 8BITMIME.
func (c *Conn) Send(ctx context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	if c.dead != nil {
		return notAttempted(c.dead)
	}
	if t := c.cfg.Trace; t != nil && t.Delivery != nil {
		t.Delivery(d)
	}
	if err := c.begin(ctx); err != nil {
		return notAttempted(c.fail(PhaseIdle, "", err))
	}
	defer c.end()
	if c.ahead.d != nil {
		if c.ahead.d != d {
			return notAttempted(c.fail(PhaseIdle, "", errors.New("another delivery was announced and has to be sent first")))
		}
		c.now, c.ahead = c.ahead, c.now
	}
	e := c.now
	defer e.release()
	if !e.sent {
		if err := c.quiet(); err != nil {
			return notAttempted(err)
		}
		if err := c.prepare(e, d, c.wantsReset()); err != nil {
			return c.fail(PhaseBody, "", err)
		}
		if len(e.rcpts) == 0 {
			e.results(mtakit.Response{})
			return nil
		}
		if c.pipeline {
			*c.buf() = append(*c.buf(), e.cmds...)
			c.cfg.Trace.envelope(e)
			e.sent = true
			if err := c.flush(c.envelopeWait(), true); err != nil {
				// A peer that has hung up may have said why.
				if some, _ := c.w.pending(); !some {
					return c.broken(e, PhaseMail, c.envelopeNames(e), err)
				}
			}
		}
	}
	return c.transact(e, next)
}

func (c *Conn) wantsReset() bool { return c.dirty || c.used && c.path.EnableRset }

// envelopeWait is how long the peer may take to take an envelope.
func (c *Conn) envelopeWait() time.Duration {
	return min(c.timeout(PhaseMail), maxWrite) + min(c.timeout(PhaseRcpt), maxWrite) + min(c.timeout(PhaseData), maxWrite)
}

func (c *Conn) envelopeNames(e *envelope) string {
	i := 0
	if e.rset {
		i = 1
	}
	return fmt.Sprintf("%s and %d more commands", e.text(i), len(e.ends)-i-1)
}

// quiet makes sure that a kept connection is alive and that the peer has said nothing unasked.
func (c *Conn) quiet() error {
	wait := time.Second
	if c.e == c.r {
		if !c.used {
			return nil // it has only just answered
		}
		if err := c.w.join(); err != nil {
			return c.fail(PhaseIdle, "", err)
		}
		some, eof := c.w.pending()
		if eof {
			return c.fail(PhaseIdle, "", errClosed)
		}
		if !some {
			return nil
		}
		if c.tls != nil {
			wait = 50 * time.Millisecond // it may be a session ticket
		}
	}
	r, err := c.read(wait)
	if err != nil {
		if c.tls != nil && isTimeout(err) && !c.isCut() && c.e == c.r {
			return nil
		}
		return c.fail(PhaseIdle, "", err)
	}
	e := c.fault(PhaseIdle, "", c.parseReply(r, ""), nil)
	c.dead = e
	return e
}

// exchange gives the reply to line i of the envelope, which is sent now if it isn't under way.
func (c *Conn) exchange(e *envelope, i int, p Phase) (rawReply, error) {
	d := c.timeout(p)
	if !e.sent {
		*c.buf() = append(*c.buf(), e.line(i)...)
		if t := c.cfg.Trace; t != nil {
			t.command(string(e.line(i)))
		}
		if err := c.flush(min(d, maxWrite), false); err != nil {
			return rawReply{}, c.timedOut(err, min(d, maxWrite), "to write "+e.text(i))
		}
	}
	r, err := c.read(d)
	if err == nil {
		return r, nil
	}
	if _, werr := c.w.written(); werr != nil && isTimeout(werr) {
		return rawReply{}, c.timedOut(werr, c.envelopeWait(), "to write "+c.envelopeNames(e))
	}
	return rawReply{}, c.timedOut(err, c.waited, "for response to "+e.text(i))
}

// transact goes through a transaction whose envelope is prepared, and on its way if e.sent.
func (c *Conn) transact(e *envelope, next func() *mtakit.Delivery) error {
	i := 0
	if e.rset {
		r, err := c.exchange(e, i, PhaseReset)
		if err != nil {
			return c.broken(e, PhaseReset, "RSET", err)
		}
		if !r.ok() { // what the peer makes of the commands after it cannot be relied on
			c.dead = c.fault(PhaseReset, "RSET", c.parseReply(r, "RSET"), nil)
			return notAttempted(c.dead)
		}
		c.dirty = false
		i++
	}
	r, err := c.exchange(e, i, PhaseMail)
	if err != nil {
		return c.broken(e, PhaseMail, e.text(i), err)
	}
	if !r.ok() {
		c.dirty = true
		if e.mail = c.parseReply(r, e.text(i)); r.code == 421 {
			return c.farewell(e, PhaseMail, e.mail)
		}
		if !e.sent {
			return c.finish(e)
		}
	}
	accepted := 0
	for _, k := range e.rcpts {
		i++
		r, err := c.exchange(e, i, PhaseRcpt)
		if err != nil {
			return c.broken(e, PhaseRcpt, e.text(i), err)
		}
		if r.ok() {
			accepted++
			continue
		}
		if e.replies[k] = c.parseReply(r, e.text(i)); r.code == 421 {
			return c.farewell(e, PhaseRcpt, e.replies[k])
		}
	}
	if accepted == 0 && !e.sent {
		c.dirty = true
		return c.finish(e)
	}
	i++
	if r, err = c.exchange(e, i, PhaseData); err != nil {
		return c.broken(e, PhaseData, "DATA", err)
	}
	switch {
	case r.code/100 == 2 || r.code/100 == 3 && r.code != 354:
		return c.broken(e, PhaseData, "DATA", fmt.Errorf("%w: it answered DATA with %s", ErrProtocol, c.parseReply(r, "DATA")))
	case r.code != 354:
		c.dirty = true
		resp := c.parseReply(r, "DATA")
		if e.mail.Code == 0 && accepted > 0 {
			e.mail = resp
		}
		if r.code == 421 {
			return c.farewell(e, PhaseData, resp)
		}
		return c.finish(e)
	case e.mail.Code != 0 && accepted > 0: // an end now would deliver an empty message
		return c.broken(e, PhaseData, "DATA", fmt.Errorf("%w: it refused MAIL and took RCPT and DATA", ErrProtocol))
	case accepted == 0:
		return c.nothing(e)
	}
	return c.message(e, next)
}

// finish gives the results of a transaction that is over.
func (c *Conn) finish(e *envelope) error {
	c.used = true
	e.results(mtakit.Response{})
	return nil
}

// nothing ends a message that the peer asked for although it takes it for nobody (RFC 2920, 3.1).
func (c *Conn) nothing(e *envelope) error {
	c.dirty = true
	*c.buf() = append(*c.buf(), ".\r\n"...)
	c.cfg.Trace.command(".\r\n")
	d := c.timeout(PhaseDot)
	err := c.flush(min(d, maxWrite), false)
	var r rawReply
	if err == nil {
		r, err = c.read(d)
	}
	if err != nil {
		return c.broken(e, PhaseDot, ".", err)
	}
	if r.code == 421 {
		return c.farewell(e, PhaseDot, c.parseReply(r, "."))
	}
	return c.finish(e)
}

// farewell ends the connection after a 421, which counts for all that have no other reply.
func (c *Conn) farewell(e *envelope, p Phase, r mtakit.Response) error {
	c.dead = c.fault(p, r.Command, r, nil)
	e.results(r)
	return c.dead
}

// broken ends the connection after a failure that isn't a reply.
func (c *Conn) broken(e *envelope, p Phase, command string, err error) error {
	fault := c.fail(p, command, err)
	fault.Unknown = e.ended
	var rest mtakit.Response
	var te *timeoutError
	if errors.As(fault.Err, &te) {
		rest = internal(421, [3]uint16{4, 4, 2}, "failed to send message to "+c.cfg.QueueName+" "+c.peerText()+": "+te.Error())
	} else if !c.answered && c.used {
		// A kept connection that ends as the next envelope comes, before a word about it, is an idle one that was closed: the
		// peer has accepted nothing. The first transaction of a connection has no such excuse, so that no message is
		// tried for ever.
		return notAttempted(fault)
	}
	e.results(rest)
	return fault
}

func (c *Conn) peerText() string {
	return fmt.Sprintf("%s [%s]:%d", c.cfg.PeerName, c.peer.Addr(), c.peer.Port())
}
