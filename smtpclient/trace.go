package smtpclient

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"github.com/mtakit/mtakit"
)

// Trace is functions that are told what happens in a session; each may be nil, and a nil Trace is off. They are called by the
// goroutine that uses the session, must not block, and must not keep byte slices.
type Trace struct {
	Plan       func(hosts []Candidate)                                    // what will be tried, in order; none is a null MX
	Connecting func(host string, addr netip.AddrPort)                     // an attempt begins
	Connected  func(info *mtakit.SessionInfo, took time.Duration)         // before the banner
	Handshake  func(s tls.ConnectionState, took time.Duration, err error) // TLS; s counts only without err
	Delivery   func(d *mtakit.Delivery)                                   // Send begins
	Command    func(line []byte)                                          // a command with its CRLF; of AUTH the secret is left out
	Ahead      func(d *mtakit.Delivery, line []byte)                      // a command of the delivery after this one; nil: Command
	Data       func(block []byte)                                         // a part of a message, dots stuffed
	Reply      func(r mtakit.Response, raw []byte, took time.Duration)    // took is since the last write
	Note       func(level slog.Level, text string)                        // anything worth knowing
	Closed     func(err error)                                            // err is why, nil if we wanted it
}

func (t *Trace) note(level slog.Level, text string) {
	if t != nil && t.Note != nil {
		t.Note(level, text)
	}
}

func (t *Trace) plan(hosts []Candidate) {
	if t != nil && t.Plan != nil {
		t.Plan(hosts)
	}
}

func (t *Trace) command(line string) {
	if t != nil && t.Command != nil {
		t.Command([]byte(line))
	}
}

// envelope tells of each line.
func (t *Trace) envelope(e *envelope) {
	if t != nil && t.Command != nil {
		for i := range e.ends {
			t.Command(e.line(i))
		}
	}
}

// ahead tells of each line of the envelope that goes out with the end of the message before it.
func (t *Trace) ahead(e *envelope) {
	if t == nil || t.Ahead == nil {
		t.envelope(e)
		return
	}
	for i := range e.ends {
		t.Ahead(e.d, e.line(i))
	}
}

func (t *Trace) data(block []byte) {
	if t != nil && t.Data != nil && len(block) > 0 {
		t.Data(block)
	}
}
