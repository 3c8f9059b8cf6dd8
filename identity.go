package mtakit

import (
	"context"
	"errors"
	"net/netip"
)

// Peer is the other end of an incoming connection.
type Peer struct {
	Addr  netip.AddrPort // of the client, after PROXY or XCLIENT
	Local netip.AddrPort // our end
	// OrigAddr and OrigLocal are the socket's own addresses where PROXY or XCLIENT changed the others; else invalid.
	OrigAddr, OrigLocal netip.AddrPort
}

// Identity is who a client has proved to be.
type Identity struct {
	Authn string // whose password it was
	Authz string // on whose behalf; Authn if the client named nobody
}

// ErrBadCredentials: the user is unknown or the password wrong; the client isn't told which.
var ErrBadCredentials = errors.New("mtakit: bad credentials")

// Authenticator checks passwords, for SMTP AUTH and HTTP Basic. It is called concurrently, may block until ctx ends, and
// compares secrets in constant time. The error wraps ErrBadCredentials where the password is to blame; any other error is a
// temporary failure.
type Authenticator interface {
	Authenticate(ctx context.Context, authz, authn, password string) (*Identity, error)
}
