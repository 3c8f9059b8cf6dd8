// Package smtpclient sends mail over SMTP and LMTP. It has two layers.
//
// [Egress] is [mtakit.Egress]: it finds the addresses of a site's hosts, connects from a source address or through a proxy, says
// EHLO, encrypts and authenticates as the [mtakit.Path] says, and gives a session that delivers one message after the other:
//
//	egress := &smtpclient.Egress{Hostname: "mta.example.org"}
//	session, err := egress.Connect(ctx, path)
//	if err != nil {
//		return err
//	}
//	defer session.Close()
//	err = session.Send(ctx, &mtakit.Delivery{Message: m, Body: body, Rcpts: []int{0}}, nil)
//
// [Conn] is one connection, below all policy: what [Egress] says over it is yours to say.
//
// # On the wire
//
// With PIPELINING the envelope of a message is one write, and replies are read while it is written. If the caller announces
// the delivery that follows, its envelope travels in the write that ends the message before it (RFC 2920, 3.1), so that on a
// kept connection a message costs one round trip, and up to 32 KiB of message one system call each way. Bodies in memory are written from
// where they are.
//
// SIZE is sent where the peer announces it (RFC 1870), so that it can refuse before the message goes over the wire; its limit
// is for the peer to apply. 8BITMIME (RFC 6152) and SMTPUTF8 (RFC 6531) are used if the message needs them; without them it is refused
// locally. Enhanced status codes (RFC 2034) are read whether announced or not. There is no HELO.
//
// # Errors
//
// What a peer replies is a result, whatever its code. What ends a connection is an [*Error] with the phase, the command and the
// peer; if no host could be used it is a [*ConnectError]. An Error that is Unknown came after the end of the message was sent.
//
// # Tracing
//
// [Egress].Trace sees what happens in sessions; [TraceTo] publishes it for those who watch, at the price of an atomic load while nobody does.
//
// # Goroutines
//
// A session is used by one goroutine and has none of its own, but for a write that the peer doesn't take at once: a goroutine
// finishes that while the session reads, at the latest when the session is closed. Lookups run in goroutines that Connect waits for.
//
// Caveats: one TLS stack, crypto/tls; see [CheckTLS] for the path's options that it cannot follow.
package smtpclient
