package xfer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

// Config says how a Node works. Fields that aren't marked as required may be zero.
type Config struct {
	Queue *queue.Queue // required
	Spool mtakit.Spool // required: the queue's
	// NodeID is a UUID that tells this node from all others; required. It is the queue's.
	NodeID string

	// Arrivals is which messages have come already. Nil: in memory. The caller closes it after the node has received its last message.
	Arrivals *Arrivals
	// Received is called for each message that another node sends, after its queue was restored and before it is accepted, and may change it, but for its id. An
	// error refuses it for now. It is called concurrently.
	Received func(ctx context.Context, m *mtakit.Message, o Origin) error

	// TLS is for targets with https. Nil: the system's roots.
	TLS *tls.Config
	// Dial opens connections to targets. Nil: net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Authorization is the value of the header field of that name in requests to other nodes, "Basic …" for example. "" is none: they trust our address.
	Authorization string

	Log *slog.Logger // nil: discarded
}

// Node is one end of transfers, and for those that it sends the [mtakit.Egress]. It is safe for concurrent use.
type Node struct {
	cfg     Config
	writers sync.Pool // of *writer

	mu      sync.Mutex
	busy    map[mtakit.ID]struct{} // what is being received
	orphans map[mtakit.ID]int      // see enter
}

// New makes a Node. It does no I/O and starts no goroutine.
func New(cfg Config) (*Node, error) {
	switch {
	case cfg.Queue == nil:
		return nil, errors.New("xfer: Config.Queue is missing")
	case cfg.Spool == nil:
		return nil, errors.New("xfer: Config.Spool is missing")
	case cfg.NodeID == "":
		return nil, errors.New("xfer: Config.NodeID is missing")
	}
	if cfg.Arrivals == nil {
		cfg.Arrivals = NewArrivals()
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Node{cfg: cfg, busy: make(map[mtakit.ID]struct{}), orphans: make(map[mtakit.ID]int)}, nil
}

// Order is what to transfer where.
type Order struct {
	Match  queue.Match
	Target string // the URL of a node
	Reason string
}

// Start has the messages that wait in the queues that match go to the target: those that wait now, once. It returns before that is done. What is in a ready
// queue or a session goes on; if it fails there it waits as before. Each message gets the record AdminRebind. Errors wrap ErrBadTarget.
func (n *Node) Start(o Order) error {
	to, err := QueueName(o.Target)
	if err != nil {
		return err
	}
	n.cfg.Queue.Rebind(queue.Rebind{
		Match: o.Match, Except: to, Reason: o.Reason,
		Change: func(m *mtakit.Message) error { return Redirect(m, o.Target) },
	})
	return nil
}

var (
	// ErrNotXferQueue: the name is not that of a queue to another node.
	ErrNotXferQueue = errors.New("is not an xfer queue")
	// ErrNoQueue: there is no such queue, perhaps since all it had has gone.
	ErrNoQueue = errors.New("is not a current scheduled queue")
)

// Cancel brings messages that are to go to another node back to where they were, with the time and tries that were kept. It returns before that is done. A
// message that is being sent goes on; if that fails it stays, so that another Cancel may be needed. A message that the other node has accepted without this
// one having heard of it is on both from then on. Each message gets the record AdminRebind. Errors wrap ErrNotXferQueue or ErrNoQueue.
func (n *Node) Cancel(name, reason string) error {
	if !strings.HasSuffix(name, queue.XferSuffix) {
		return fmt.Errorf("%s %w", name, ErrNotXferQueue)
	}
	if _, ok := n.cfg.Queue.ScheduledQueue(name); !ok {
		return fmt.Errorf("%s %w", name, ErrNoQueue)
	}
	n.cfg.Queue.Rebind(queue.Rebind{Match: queue.Match{QueueNames: []string{name}}, Reason: reason, Change: Restore, InReady: true})
	return nil
}
