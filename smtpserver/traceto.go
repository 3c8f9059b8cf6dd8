package smtpserver

import (
	"bytes"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/mtakit/mtakit"
)

// TraceTo makes a [Server.Trace] that publishes what happens, for those who watch t. A session that began unwatched is seen from its next command on.
// Passwords are not published.
func TraceTo(t *mtakit.Traces) func(*Session) *Trace {
	publish := func(s *Session, kind mtakit.TraceKind, fill func(*mtakit.TraceEvent)) {
		e := &mtakit.TraceEvent{Kind: kind, Meta: s.meta}
		if !t.Wanted(e) {
			return
		}
		e.Meta = maps.Clone(s.meta)
		fill(e)
		t.Publish(e)
	}
	nothing := func(*mtakit.TraceEvent) {}
	trace := &Trace{
		Connected: func(s *Session) { publish(s, mtakit.TraceConnected, nothing) },
		Closed:    func(s *Session) { publish(s, mtakit.TraceClosed, nothing) },
		Read: func(s *Session, b []byte) {
			publish(s, mtakit.TraceRead, func(e *mtakit.TraceEvent) { e.Text = string(b) })
		},
		Write: func(s *Session, line []byte) {
			publish(s, mtakit.TraceWrite, func(e *mtakit.TraceEvent) { e.Text = string(line) })
		},
		Diagnostic: func(s *Session, level slog.Level, message string) {
			publish(s, mtakit.TraceDiagnostic, func(e *mtakit.TraceEvent) { e.Level, e.Text = level, message })
		},
		Callback: func(s *Session, name string, result any, err error) {
			publish(s, mtakit.TraceCallback, func(e *mtakit.TraceEvent) { e.Text, e.Result, e.Err = name, result, err })
		},
		Disposition: func(s *Session, d *Disposition) {
			publish(s, mtakit.TraceDisposition, func(e *mtakit.TraceEvent) { e.Disposition = d.traced() })
		},
	}
	return func(*Session) *Trace {
		if !t.Watched() {
			return nil
		}
		return trace
	}
}

// traced is a copy for those who watch.
func (d *Disposition) traced() *mtakit.TraceMessageDisposition {
	m := d.Message
	q := m.Queue
	if q == (mtakit.QueueName{}) {
		q, _ = m.DeriveQueue() // reception has refused what has none
	}
	return &mtakit.TraceMessageDisposition{
		ID: m.ID, Queue: q.String(), Sender: m.Sender, To: slices.Clone(m.To), Meta: maps.Clone(m.Meta),
		Relay: d.Relay, LogARF: d.LogARF.String(), LogOOB: d.LogOOB.String(), IsReport: d.IsReport, Enqueue: d.Enqueue,
	}
}

// hidden stands for what is not shown.
const hidden = "[hidden]\r\n"

// withoutSecrets is what was read, for those who watch. begun is the beginning of the line that b continues, unless it was too long to be kept.
func (s *Session) withoutSecrets(begun, b []byte) []byte {
	ends := bytes.HasSuffix(b, []byte("\n"))
	if s.hiding || s.authing {
		s.hiding = !ends
		return []byte(hidden)
	}
	if !mayHoldAuth(begun, b) {
		return b
	}
	all := append(bytes.Clone(begun), b...)
	for at := 0; at < len(all); {
		line, rest, _ := bytes.Cut(all[at:], []byte("\n"))
		if n := authCommand(string(line)); n > 0 { // what follows in the same piece may be an answer to a challenge
			s.hiding = !ends
			shown := append(bytes.Clone(all[:at+n]), ' ')
			return append(shown[min(len(begun), len(shown)):], hidden...)
		}
		at = len(all) - len(rest)
	}
	return b
}

// mayHoldAuth is quick, and wrong on the safe side.
func mayHoldAuth(begun, b []byte) bool {
	return len(begun) > 0 || bytes.ContainsAny(b, "uU") && bytes.Contains(bytes.ToUpper(b), []byte("AUTH"))
}

// shownCommand is what records and policy see of a malformed line, which may be an AUTH with a password.
func shownCommand(line []byte) []byte {
	if n := authCommand(string(line)); n > 0 {
		return line[:n]
	}
	return line
}

// authCommand is the length of a line's "AUTH MECHANISM", 0 if it is another line.
func authCommand(line string) int {
	rest, ok := cutPrefixFold(strings.TrimLeft(line, " \t"), "AUTH")
	if !ok {
		return 0
	}
	arg := strings.TrimLeft(rest, " \t\r")
	if len(arg) == len(rest) && len(rest) > 0 { // a longer word
		return 0
	}
	end := strings.IndexAny(arg, " \t\r")
	if end < 0 {
		end = len(arg)
	}
	if end == 0 {
		return len(line) - len(rest)
	}
	return len(line) - len(arg) + end
}
