package xfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mtakit/mtakit"
)

// Origin is who sends a message.
type Origin struct {
	From netip.Addr     // the node's address
	Via  netip.AddrPort // our end
	Auth string         // who it is by authentication, or its address
}

var (
	// ErrBusy: the same message is being received at the moment.
	ErrBusy = errors.New("this message is being received already")
	// ErrSelf is wrapped where a node sends to itself.
	ErrSelf = errors.New("cannot xfer to myself")
)

// Receive takes over a message that another node sends: payload is the line with its envelope and its bytes, and belongs to the queue afterwards, unless
// there is an error. The id is the one that the message has here. If it has come before, that is all that happens. Errors wrap ErrMalformed, ErrSelf, ErrBusy,
// those of [queue.Queue.Submit], or what Config.Received returned.
func (n *Node) Receive(ctx context.Context, payload []byte, o Origin) (mtakit.ID, error) {
	e, body, err := split(payload)
	if err != nil {
		return mtakit.ID{}, err
	}
	node, _ := e.Meta[MetaPriorNode].(string)
	if node == n.cfg.NodeID {
		return mtakit.ID{}, fmt.Errorf("%w. xfer_prior_node=%s", ErrSelf, node)
	}
	first := n.localID(e.ID, node)
	orphans, err := n.enter(first)
	if err != nil {
		return mtakit.ID{}, err
	}
	defer n.leave(first)
	if known, err := n.known(ctx, first, orphans); known || err != nil {
		return first, err
	}
	id := first
	for range orphans {
		if err := n.cfg.Spool.Remove(ctx, id); err != nil && !errors.Is(err, mtakit.ErrNotFound) {
			return mtakit.ID{}, err
		}
		node += " again"
		id = n.localID(e.ID, node)
	}
	m := &mtakit.Message{ID: id, Sender: e.Sender, To: e.To, Meta: e.Meta}
	if m.Meta == nil {
		m.Meta = make(map[string]any)
	}
	delete(m.Meta, MetaFrom)
	for key, v := range map[string]string{MetaFrom: text(o.From), MetaVia: text(o.Via), MetaAuth: o.Auth} {
		if v != "" {
			m.Meta[key] = v
		}
	}
	if err := Restore(m); err != nil {
		return mtakit.ID{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if n.cfg.Received != nil {
		if err := n.cfg.Received(ctx, m, o); err != nil {
			return mtakit.ID{}, err
		}
	}
	if err := n.cfg.Queue.Transferred(ctx, []mtakit.Submission{{Message: m, Body: mtakit.Bytes(body)}}, mtakit.Durable); err != nil {
		if errors.Is(err, mtakit.ErrUnhealthy) {
			n.orphan(first, 1)
		}
		return mtakit.ID{}, err
	}
	if err := n.cfg.Arrivals.Add(first); err != nil {
		n.cfg.Log.Error("arrival of a message not written down; after a restart it would be accepted again", "id", id.String(), "err", err)
	}
	n.orphan(first, -orphans)
	return id, nil
}

// text is the zero value of an address as "".
func text[T interface {
	IsValid() bool
	String() string
}](a T) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// localID is the id that a message has here: with the time of the one that it had, and the rest made of that, of where it was, and of where it is.
func (n *Node) localID(prior mtakit.ID, node string) mtakit.ID {
	sum := sha256.Sum256([]byte(prior.String() + " " + node + " " + n.cfg.NodeID))
	id := prior
	if prior[6]>>4 != 7 {
		id = mtakit.FirstID(prior.Time())
	}
	copy(id[8:], sum[:])
	id[8] = id[8]&0x3f | 0x80
	return id
}

// known says whether the message has come before. What the spool has of it does not count if that may be an orphan.
func (n *Node) known(ctx context.Context, id mtakit.ID, orphans int) (bool, error) {
	if known := n.cfg.Arrivals.Has(id); known || orphans > 0 {
		return known, nil
	}
	_, err := n.cfg.Spool.Load(ctx, id)
	if errors.Is(err, mtakit.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// orphansMax is of how many messages orphans are remembered. When there are more, nothing is taken over until a restart.
const orphansMax = 1 << 16

// enter sees to it that nobody else receives the message until leave is called. orphans is how often the spool failed when it had it, so that it may be there and
// the queue does not know of it before the next start: such a message is removed and stored under another id.
func (n *Node) enter(id mtakit.ID) (orphans int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, busy := n.busy[id]; busy {
		return 0, ErrBusy
	}
	if len(n.orphans) >= orphansMax {
		return 0, fmt.Errorf("xfer: it has failed too often: %w", mtakit.ErrUnhealthy)
	}
	n.busy[id] = struct{}{}
	return n.orphans[id], nil
}

func (n *Node) leave(id mtakit.ID) {
	n.mu.Lock()
	delete(n.busy, id)
	n.mu.Unlock()
}

// orphan counts more failures of the spool, or less.
func (n *Node) orphan(id mtakit.ID, more int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.orphans[id] += more; n.orphans[id] == 0 {
		delete(n.orphans, id)
	}
}
