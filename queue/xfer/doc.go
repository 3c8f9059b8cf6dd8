// Package xfer moves messages that wait from one node to another, with their age, their tries, their time and their schedule: to empty a node that is to be
// shut down, or to share what has piled up.
//
//	node, err := xfer.New(xfer.Config{Queue: q, Spool: spool, NodeID: id})
//	egress["xfer"] = node                                                       // the mtakit.EgressMap of the queue
//	api, err := httpapi.New(httpapi.Config{Queue: q, Xfer: node})               // with the endpoints
//	err = node.Start(xfer.Order{Target: "http://10.0.0.2:8000", Reason: "move"}) // everything that waits
//
// # Sender
//
// A transfer is a delivery. [Redirect] keeps the queue, schedule, due time and tries of a message in its metadata and gives it a queue that is named after the
// target, http://10.0.0.2:8000/.xfer.kumomta.internal. From there the engine sends it like other mail, with limits, retries (every 10 seconds to begin with)
// and records, through the Egress that Node is. What has been taken over has the record XferOut and leaves the spool. [Node.Cancel] brings back what waits for
// that.
//
// # Receiver
//
// [Node.Receive] takes over a message, durable, with the record XferIn. The id it gets here follows from the one that it had: it carries the same time, and a
// message that comes again, since the sender has not heard the answer or was killed before it could forget the message, is recognised, by what the spool
// holds and by [Arrivals], and answered as before. A repeat is accepted as another message only if the first was delivered already and either this node
// was killed in the same moment in which it had accepted it, or as many others have come since then as Arrivals remembers.
//
// # On the wire
//
// A message is a POST of one line of JSON, with id, sender, recipient and meta, and behind that its bytes, compressed with gzip. The answer is
// {"id": "…"}. KumoMTA's nodes send and take the same.
//
// A Node starts no goroutine but those of the HTTP connections of its sessions, which end with them.
package xfer
