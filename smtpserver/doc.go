// Package smtpserver receives mail over ESMTP (RFC 5321). It needs one thing: somewhere to give messages to.
//
//	srv := &smtpserver.Server{Deliver: q.Submit}
//	l, err := net.Listen("tcp", "127.0.0.1:2525")
//	...
//	err = srv.Serve(l) // until Shutdown
//
// A 250 to the end of the data goes out after [Deliver] returned nil, never before. What happens until then is decided by the
// callbacks of [Policy], in this order: Options, Connect, Ehlo, the [mtakit.Authenticator], Mail, ListenerDomain (of the sender's
// domain, then the recipient's), Rcpt, Data, Split, and for each message that comes out of the split Received and Report; Reply may
// rewrite every reply. Callbacks answer with nil, [*mtakit.Reject], [*mtakit.Delay] or go-smtp's [*smtp.SMTPError]. Any other error,
// and a panic, is answered with "421 4.3.0 technical difficulties"; what it says goes to the log with the session's id, which is also in the
// record of the rejection.
//
// # The data path
//
// The command loop and the data reader are this package's own. Input is read in the largest pieces the kernel has and replies leave
// in one write when the input is used up, so that a pipelined envelope costs one read and one write; the reply to a message leaves before the
// policy is asked about the next envelope. The text of a message is read
// straight into the buffer that the queue gets: line ends are found with SIMD searches, stuffed dots are taken out in place, and
// the messages of a split transaction share the buffer, which goes back to a pool when the last [mtakit.Body] is closed. Trace
// headers are one chunk in front of it.
//
// Only CRLF.CRLF ends the data. Bare CR and bare LF are refused, repaired or kept ([Options.InvalidLineEndings]).
//
// # Tracing
//
// [Server].Trace sees what happens in sessions; [TraceTo] publishes it for those who watch, at the price of an atomic load for each read while nobody does.
//
// # Goroutines
//
// Serve runs on its caller's goroutine and starts one for each connection, on which all callbacks of that connection run, under no
// lock. Shutdown waits for them. Nothing else runs in the background.
//
// # Caveats
//
// One Server has one block of options; listeners that differ are Servers that share a Deliver. A callback that ignores its context
// holds up its own connection only, but also Shutdown until the end of its context.
package smtpserver
