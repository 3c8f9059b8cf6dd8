// Package mtakit is the vocabulary of a toolkit for building mail transfer agents that send at scale: the message,
// the reply, the record, and the small interfaces between the packages around it. It imports the standard library only.
//
// A whole MTA is four values wired together:
//
//	spool, err := spool.Open(dir, spool.Options{})           // mtakit.Spool: a log with bbolt as its index
//	q, err := queue.New(queue.Config{                        // scheduled queues, ready queues, dispatch
//		Spool:  spool,
//		Router: route.New(route.Config{}),               // mtakit.Router: domain to site, over its own DNS cache
//		Egress: &smtpclient.Egress{},                    // mtakit.Egress: SMTP sessions
//		Policy: queue.Policy{ /* your Go callbacks */ },
//	})
//	srv := &smtpserver.Server{Deliver: q.Submit}             // ESMTP reception
//	go srv.Serve(listener)
//	err = q.Run(ctx)
//
// # The way of a message
//
// Reception reads it and calls Submit; Submit stores it in the [Spool], and only then is it acknowledged. From then on
// it waits in a scheduled queue, named campaign:tenant@domain, as a few dozen bytes in a [Scheduler]. When it is due it
// is promoted: the [Router] finds the [Site] that takes the domain's mail, weights choose the [Source], and it enters
// the ready queue of that source and site, from which [Session]s take it, within the limits of the [Path]. A reply ends
// the matter (delivered, bounced) or sends it back to the scheduled queue with a later due time. Each step is a
// [Record].
//
// # Ownership and goroutines
//
// A message has exactly one owner at any moment: the reception transaction, a scheduled queue, a promotion, a ready
// queue, or a session. ARCHITECTURE.md has the map of goroutines and locks. The root package starts no goroutine and
// has no state.
package mtakit
