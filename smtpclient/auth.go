package smtpclient

import (
	"context"
	"encoding/base64"
)

// AuthPlain authenticates with AUTH PLAIN (RFC 4616). Whether that is wise without TLS is for the caller to know.
func (c *Conn) AuthPlain(ctx context.Context, user, password string) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.end()
	const shown = "AUTH PLAIN"
	r, err := c.command(PhaseAuth, shown, "AUTH PLAIN ", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	if err != nil {
		return err
	}
	if r.code != 235 {
		e := c.fault(PhaseAuth, shown, c.parseReply(r, shown), nil)
		e.text = "authenticating as " + user + " via SMTP AUTH PLAIN to " + c.peer.String() + ": " + e.Response.String()
		return e
	}
	return nil
}
