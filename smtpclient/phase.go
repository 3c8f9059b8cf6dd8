package smtpclient

import (
	"time"

	"github.com/mtakit/mtakit"
)

// Phase is a step in the life of a connection.
type Phase string

// Phases, in order.
const (
	PhaseConnect   Phase = "connect"
	PhaseBanner    Phase = "banner"
	PhaseHello     Phase = "EHLO"
	PhaseStartTLS  Phase = "STARTTLS"
	PhaseHandshake Phase = "TLS handshake"
	PhaseHelloTLS  Phase = "EHLO after STARTTLS"
	PhaseAuth      Phase = "AUTH"
	PhaseIdle      Phase = "kept connection"
	PhaseReset     Phase = "RSET"
	PhaseMail      Phase = "MAIL"
	PhaseRcpt      Phase = "RCPT"
	PhaseData      Phase = "DATA"
	PhaseBody      Phase = "message"
	PhaseDot       Phase = "end of message"
	PhaseQuit      Phase = "QUIT"
)

// timeout is how long a reply may take in a phase.
func (c *Conn) timeout(p Phase) time.Duration { return phaseTimeout(c.path, p) }

func phaseTimeout(path *mtakit.PathConfig, p Phase) time.Duration {
	var d mtakit.Duration
	def := 5 * time.Minute
	switch p {
	case PhaseConnect:
		d, def = path.ConnectTimeout, time.Minute
	case PhaseBanner:
		d, def = path.BannerTimeout, time.Minute
	case PhaseHello, PhaseHelloTLS:
		d = path.EHLOTimeout
	case PhaseStartTLS, PhaseHandshake:
		d, def = path.StartTLSTimeout, 5*time.Second
	case PhaseAuth:
		d, def = path.AuthTimeout, time.Minute
	case PhaseReset:
		d, def = path.RsetTimeout, 5*time.Second
	case PhaseMail:
		d = path.MailTimeout
	case PhaseRcpt:
		d = path.RcptTimeout
	case PhaseData:
		d = path.DataTimeout
	case PhaseBody, PhaseDot:
		d = path.DataDotTimeout
	default:
		d, def = path.IdleTimeout, 5*time.Second
	}
	if d <= 0 {
		return def
	}
	return d.Std()
}

// maxWrite bounds the wait for a peer that doesn't take a command.
const maxWrite = time.Minute
