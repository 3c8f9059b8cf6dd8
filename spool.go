package mtakit

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Durability is when an accepted message is safe.
type Durability uint8

const (
	Durable  Durability = iota // on stable storage when Store returns; commits are grouped
	Buffered                   // handed to the operating system: survives a crash of the process
	Volatile                   // in memory; Submit stores it, Buffered, only if it has to wait
)

func (d Durability) String() string {
	return [...]string{"durable", "buffered", "volatile"}[min(d, Volatile)]
}

var (
	// ErrNotFound: the spool has no such message; it was removed or never stored.
	ErrNotFound = errors.New("mtakit: no such message")
	// ErrSpoolFull: a size, count or free-space limit was met. Answer 452, try later.
	ErrSpoolFull = errors.New("mtakit: spool is full")
	// ErrUnhealthy: storage failed and what was being written may or may not be there. Answer 4xx; the spool refuses
	// writes until it has reopened and checked itself.
	ErrUnhealthy = errors.New("mtakit: spool is not accepting messages")
	// ErrOverloaded: memory is short. Answer 452, try later; what was accepted goes on.
	ErrOverloaded = errors.New("mtakit: load shedding: memory is short")
	// ErrClosed: the spool, queue or log has been closed.
	ErrClosed = errors.New("mtakit: closed")
)

// Spool keeps messages across restarts. All methods may be called concurrently, but calls for one ID come from its one
// owner, except Load and Open, which are also called by those who look: they see the message as it is or was. The contract,
// sentence by sentence, is checked by spooltest.TestSpool.
//
// A nil error from Store with [Durable], or from Update, survives a power failure; one from Reschedule and Remove
// survives the end of the process: a power failure may undo those of the last moments, so that a delivery may be
// repeated, never lost.
type Spool interface {
	// Store adds the messages of batch with their bodies, all or none. It keeps neither messages nor bodies and closes
	// no body. IDs are new. Errors wrap ErrSpoolFull, ErrUnhealthy or ErrClosed; after any error except an ErrUnhealthy
	// one nothing of the batch is there. ctx bounds the wait for a turn, not a write that has begun.
	Store(ctx context.Context, batch []Submission, d Durability) error
	// Load returns a new Message, with Due and Tries as last stored; ErrNotFound if there is none.
	Load(ctx context.Context, id ID) (*Message, error)
	// Open returns the body; ErrNotFound if there is none.
	Open(ctx context.Context, id ID) (Body, error)
	// Update replaces envelope, metadata, due time and tries; the body stays. ErrNotFound if there is none.
	Update(ctx context.Context, m *Message) error
	// Reschedule replaces due time (to the second) and tries only. ErrNotFound if there is none.
	Reschedule(ctx context.Context, id ID, due time.Time, tries int) error
	// Remove forgets the message; an open Body stays readable. ErrNotFound if there is none.
	Remove(ctx context.Context, id ID) error
	// Scan yields the stored messages with an ID below before, in no order, while other calls go on. A message that
	// is stored, updated or removed meanwhile may be yielded in its old state or not at all. A damaged message is
	// yielded as an error that names it, and the scan goes on. It is called once, at start.
	Scan(ctx context.Context, before ID) iter.Seq2[Entry, error]
}
