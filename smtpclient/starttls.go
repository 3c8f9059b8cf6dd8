package smtpclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/mtakit/mtakit"
)

// StartTLS encrypts the connection. What the peer sent in clear after its reply is never taken for a part of the encrypted
// session: such a connection is dropped (RFC 3207, 6). If the error's Phase is [PhaseHandshake] and it isn't a timeout the
// connection is as it was and Hello is due; any other error ends it.
func (c *Conn) StartTLS(ctx context.Context, cfg *tls.Config) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.end()
	r, err := c.command(PhaseStartTLS, "STARTTLS", "STARTTLS")
	if err != nil {
		return err
	}
	if r.code != 220 {
		return c.fault(PhaseStartTLS, "STARTTLS", c.parseReply(r, "STARTTLS"), nil)
	}
	if c.e > c.r {
		return c.fail(PhaseStartTLS, "STARTTLS", fmt.Errorf("%w: %d bytes came in clear between the reply and the handshake", ErrProtocol, c.e-c.r))
	}
	start := time.Now()
	d := c.timeout(PhaseHandshake)
	c.readBy(start.Add(d))
	c.writeBy(start.Add(d))
	conn := tls.Client(c.w, cfg)
	err = conn.Handshake()
	if t := c.cfg.Trace; t != nil && t.Handshake != nil {
		t.Handshake(conn.ConnectionState(), time.Since(start), err)
	}
	if err != nil {
		if isTimeout(err) || c.isCut() {
			return c.fail(PhaseHandshake, "", c.timedOut(err, d, "for the TLS handshake"))
		}
		return c.fault(PhaseHandshake, "", mtakit.Response{}, err)
	}
	c.tls, c.nc = conn, conn
	c.w.gather = true
	c.ext = nil
	return nil
}
