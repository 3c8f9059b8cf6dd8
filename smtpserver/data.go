package smtpserver

import (
	"bytes"
	"log/slog"
	"time"
)

// flaw is what is wrong with data that was read to its end.
type flaw uint8

const (
	flawless  flaw = iota
	tooBig         // more than MaxMessageSize
	noRoom         // more than is left of Limits.BodyMemory
	longLine       // a line is longer than LineLengthHardLimit
	bareLines      // CR or LF that are not part of a CRLF
)

const (
	room    = 512       // what a buffer has to have free to be worth a read
	maxHint = 256 << 10 // the largest buffer to begin with, whatever the client announces
)

// readText reads the data of a message to its end; more input may follow it. An error is the connection's. Where there is a flaw, there is no text.
func (s *Session) readText(start time.Time) (t *text, f flaw, err error) {
	t = s.srv.texts.get(max(len(s.buffered()), int(min(s.hint, maxHint-room))) + room)
	defer func() {
		if f != flawless || err != nil {
			t.release()
			t = nil
		}
	}()
	if !s.hold(cap(t.b)) {
		f = noRoom
	}
	t.b = append(t.b, s.buffered()...)
	s.unread(nil)
	received := len(t.b)
	sc := newScanner(s.opt.LineLengthHardLimit)
	for {
		if end := sc.scan(t.b); end >= 0 {
			s.unread(t.b[end:])
			break
		}
		if int64(sc.size(len(t.b))) > s.opt.MaxMessageSize {
			f = tooBig
		} else if f == flawless && cap(t.b)-len(t.b) < room && !s.grow(&t) {
			f = noRoom
		}
		if f != flawless { // others have a use for the room, which is not needed to find the end
			tail := sc.tail(t.b)
			t.release()
			s.giveBack()
			t = s.srv.texts.get(room)
			return t, f, s.discard(t.b[:cap(t.b)], tail, start, received)
		}
		n, err := s.read(t.b[len(t.b):min(cap(t.b), len(t.b)+s.opt.DataBufferSize)], s.dataDeadline(start, received))
		if t.b = t.b[:len(t.b)+n]; err != nil {
			return t, flawless, err
		}
		received += n
	}
	t.b = t.b[:sc.w]
	s.hint = int64(sc.w)
	switch {
	case f != flawless:
	case int64(sc.w) > s.opt.MaxMessageSize:
		f = tooBig
	case sc.long:
		f = longLine
	case sc.bare && s.opt.InvalidLineEndings == Deny:
		f = bareLines
	case sc.bare && s.opt.InvalidLineEndings == Fix:
		n := fixedLen(t.b)
		if !s.hold(n) {
			f = noRoom
			break
		}
		fixed := s.srv.texts.get(n)
		fixed.b = fixLines(fixed.b, t.b)
		t.release()
		t = fixed
	}
	return t, f, nil
}

// dataDeadline is when the next piece of data has to be there: after the idle time, but not so late that the rate falls below the least one.
func (s *Session) dataDeadline(start time.Time, received int) time.Time {
	by := time.Now().Add(s.opt.ClientTimeout)
	if rate := s.srv.limits.DataRate; rate > 0 {
		if slow := start.Add(s.opt.ClientTimeout + time.Duration(received)*time.Second/time.Duration(rate)); slow.Before(by) {
			return slow
		}
	}
	return by
}

// hold reserves n bytes of the budget until giveBack, at the latest at the end of the transaction.
func (s *Session) hold(n int) bool {
	if !s.srv.budget.take(int64(n)) {
		return false
	}
	s.held += int64(n)
	return true
}

// giveBack ends what hold reserved.
func (s *Session) giveBack() {
	s.srv.budget.give(s.held)
	s.held = 0
}

// grow replaces *t by one that is twice as large, if the budget has room for it.
func (s *Session) grow(t **text) bool {
	old := *t
	if !s.hold(cap(old.b)) {
		return false
	}
	bigger := s.srv.texts.get(2 * cap(old.b))
	bigger.b = append(bigger.b, old.b...)
	old.release()
	*t = bigger
	return true
}

// discard reads to the end of the data and forgets it. tail is what came last.
func (s *Session) discard(buf, tail []byte, start time.Time, received int) error {
	n := copy(buf, tail)
	for {
		m, err := s.read(buf[n:], s.dataDeadline(start, received))
		if err != nil {
			return err
		}
		received += m
		n += m
		if i := bytes.Index(buf[:n], endOfData); i >= 0 {
			s.unread(buf[i+len(endOfData) : n])
			return nil
		}
		n = copy(buf, buf[max(0, n-len(endOfData)+1):n])
	}
}

// replyTo answers data that has a flaw.
func (s *Session) replyTo(f flaw) {
	switch f {
	case tooBig:
		s.diagnose(slog.LevelError, "Data too big")
		s.reply(552, enhanced{5, 3, 4}, "message too big")
	case noRoom:
		s.reply(452, enhanced{4, 3, 1}, "message buffers are full. Try later")
	case longLine:
		s.diagnose(slog.LevelError, "Line too long")
		s.reply(500, enhanced{5, 2, 3}, "line too long")
	case bareLines:
		s.reply(552, enhanced{5, 6, 0}, "message data must use CRLF for line endings")
	}
}
