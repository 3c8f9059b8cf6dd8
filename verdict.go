package mtakit

import "time"

// Policy callbacks answer with nil, or with one of these as the error. Anything else is a fault of the policy: the
// message is kept, the peer hears of a temporary failure, and the text goes to the log only.

// Reject ends the matter with this reply.
type Reject struct {
	Response
	Hangup bool // close the connection after the reply; a 421 always does
}

func (r *Reject) Error() string { return r.Response.String() }

// Delay keeps the message for a while.
type Delay struct {
	For    time.Duration
	Reason string
}

func (d *Delay) Error() string {
	return "delayed by " + d.For.String() + ": " + d.Reason
}
