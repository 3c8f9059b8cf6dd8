package smtpclient

import (
	"strconv"

	"github.com/mtakit/mtakit"
)

// envelope is the commands of one transaction, [RSET] MAIL RCPT… DATA, and what became of them.
type envelope struct {
	d    *mtakit.Delivery
	sent bool   // all of it is on its way, with pipelining
	rset bool   // it begins with RSET
	cmds []byte // the lines
	ends []int  // of each line in cmds
	src  source

	rcpts   []int             // those that RCPT is sent for: indexes of d.Rcpts
	replies []mtakit.Response // for each of d.Rcpts; Code 0 is not refused as yet
	mail    mtakit.Response   // refuses all of rcpts; Code 0 is none
	ended   bool              // the end of the message has been written, or may have been
}

func (e *envelope) release() {
	e.src.close()
	clear(e.replies)
	*e = envelope{cmds: e.cmds[:0], ends: e.ends[:0], src: e.src, rcpts: e.rcpts[:0], replies: e.replies[:0]}
}

// line is a command with its CRLF; text is it without.
func (e *envelope) line(i int) []byte {
	start := 0
	if i > 0 {
		start = e.ends[i-1]
	}
	return e.cmds[start:e.ends[i]]
}

func (e *envelope) text(i int) string {
	l := e.line(i)
	return string(l[:len(l)-2])
}

func (e *envelope) endLine() {
	e.cmds = append(e.cmds, '\r', '\n')
	e.ends = append(e.ends, len(e.cmds))
}

// results appends what is known: a refusal by MAIL or DATA counts for all, else each recipient has its own. rest is for those that
// have none; Code 0 is nothing.
func (e *envelope) results(rest mtakit.Response) {
	if e.mail.Code != 0 {
		for _, k := range e.rcpts {
			e.replies[k] = e.mail
		}
	} else if rest.Code != 0 {
		for _, k := range e.rcpts {
			if e.replies[k].Code == 0 {
				e.replies[k] = rest
			}
		}
	}
	for k, r := range e.replies {
		if r.Code != 0 {
			e.d.Results = append(e.d.Results, mtakit.Result{Rcpt: e.d.Rcpts[k], Response: r})
		}
	}
}

func internal(code int, enhanced [3]uint16, text string) mtakit.Response {
	return mtakit.Response{Code: code, Enhanced: enhanced, Text: mtakit.Internal + text}
}

func noUTF8() mtakit.Response {
	return internal(554, [3]uint16{5, 6, 7}, "envelope is 8bit, destination does not support SMTPUTF8.")
}

// prepare writes the commands for d. Recipients that cannot be sent to this peer at all get their reply here; rcpts may end up empty.
func (c *Conn) prepare(e *envelope, d *mtakit.Delivery, rset bool) error {
	e.release()
	e.d, e.rset = d, rset
	for range d.Rcpts {
		e.replies = append(e.replies, mtakit.Response{})
	}
	if err := e.src.open(d.Body); err != nil {
		return err
	}
	refuse := func(r mtakit.Response) error {
		for k := range e.replies {
			e.replies[k] = r
		}
		return nil
	}
	eightBit := false
	if c.eightBit || !c.path.Ignore8BitChecks {
		var err error
		if eightBit, err = e.src.is8bit(); err != nil {
			return err
		}
	}
	if eightBit && !c.eightBit && !c.path.Ignore8BitChecks {
		return refuse(internal(554, [3]uint16{5, 6, 3}, "DATA is 8bit, destination does not support 8BITMIME. "+
			"Conversion via msg:check_fix_conformance during reception is required"))
	}
	m := d.Message
	utf8 := !asciiLocal(m.Sender)
	if utf8 && !c.utf8 {
		return refuse(noUTF8())
	}
	for k, i := range d.Rcpts {
		if asciiLocal(m.To[i]) {
			continue
		}
		if utf8 = utf8 || c.utf8; !c.utf8 {
			e.replies[k] = noUTF8()
		}
	}

	if rset {
		e.cmds = append(e.cmds, "RSET"...)
		e.endLine()
	}
	e.cmds = append(e.cmds, "MAIL FROM:<"...)
	if m.Sender != "" {
		var err error
		if e.cmds, err = appendPath(e.cmds, m.Sender); err != nil {
			return refuse(internal(553, [3]uint16{5, 1, 7}, "the sender address "+err.Error()))
		}
	}
	e.cmds = append(e.cmds, '>')
	// The peer says itself what is too large for it, in words of its own that can be classified. So it is told the size, and not
	// second-guessed by the limit in its EHLO.
	if c.size {
		e.cmds = strconv.AppendInt(append(e.cmds, " SIZE="...), e.src.left, 10)
	}
	if eightBit && c.eightBit {
		e.cmds = append(e.cmds, " BODY=8BITMIME"...)
	}
	if utf8 {
		e.cmds = append(e.cmds, " SMTPUTF8"...)
	}
	e.endLine()
	for k, i := range d.Rcpts {
		if e.replies[k].Code != 0 {
			continue
		}
		start := len(e.cmds)
		cmds, err := appendPath(append(e.cmds, "RCPT TO:<"...), m.To[i])
		if err != nil {
			e.cmds = cmds[:start]
			e.replies[k] = internal(553, [3]uint16{5, 1, 3}, "the recipient address "+err.Error())
			continue
		}
		e.cmds = append(cmds, '>')
		e.endLine()
		e.rcpts = append(e.rcpts, k)
	}
	e.cmds = append(e.cmds, "DATA"...)
	e.endLine()
	return nil
}

// asciiLocal says whether the local part is ASCII; a domain always can be.
func asciiLocal(addr string) bool {
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == '@' {
			return isASCII(addr[:i])
		}
	}
	return isASCII(addr)
}
