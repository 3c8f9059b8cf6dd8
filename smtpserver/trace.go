package smtpserver

import (
	"log/slog"

	"github.com/mtakit/mtakit"
)

// Trace sees what happens on a connection. Every field may be nil. The functions run on the goroutine of the connection: they must not
// block, and keep nothing of what they get; the Session's Meta tells whose event it is.
type Trace struct {
	Connected func(s *Session)
	Closed    func(s *Session)
	Read      func(s *Session, b []byte)    // as it came from the socket, after decryption, without passwords
	Write     func(s *Session, line []byte) // one line of a reply, with CRLF
	// Diagnostic is a remark, like "Peer Disconnected".
	Diagnostic func(s *Session, level slog.Level, message string)
	// Callback is what a callback of the policy answered. Names are KumoMTA's: smtp_server_mail_from …
	Callback func(s *Session, name string, result any, err error)
	// Disposition is what becomes of a message that was received.
	Disposition func(s *Session, d *Disposition)
}

// Disposition is what becomes of a message.
type Disposition struct {
	Message  *mtakit.Message
	Relay    bool       // it may be passed on
	LogOOB   ReportMode // of the recipient's domain
	LogARF   ReportMode
	IsReport bool // it is a report that was logged
	Enqueue  bool // it goes to a queue
}

func (s *Session) diagnose(level slog.Level, message string) {
	if s.trace != nil && s.trace.Diagnostic != nil {
		s.trace.Diagnostic(s, level, message)
	}
}
