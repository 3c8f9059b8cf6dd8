// Package smtptest is the other end of an SMTP session, for tests: a scripted peer on a loopback socket or on a network in
// memory, and a certificate authority.
//
//	peer := smtptest.NewPeer(t, nil, smtptest.Greylist(1))
//	peer.Reply("RCPT", "550 5.1.1 no such user").If("<nobody@")
//	// … send to peer.Addr() …
//	for _, m := range peer.Messages() {
//		t.Log(m.From, m.To, len(m.Data))
//	}
//
// A [Peer] accepts everything until rules say otherwise. Rules are added by [Peer.Reply] or by a [Preset] and can be added
// while the peer runs.
//
// A [Network] needs no sockets, so that a whole exchange runs in a testing/synctest bubble. Unbuffered, it shows who writes
// without reading.
//
// Each Peer has one goroutine that accepts and one per connection; Close, which the test's cleanup calls, waits for all.
package smtptest
