package mtakit

import (
	"iter"
	"time"
)

// Scheduler orders waiting entries by due time, to the second. It has no clock and no goroutine: its caller says what
// time it is. One goroutine uses it at a time. queuetest.TestScheduler checks implementations.
type Scheduler interface {
	// Add puts e in; its ID is not in yet.
	Add(e Entry)
	// Remove takes out one entry and says whether it was there.
	Remove(ID) bool
	// Pop appends to dst entries that are due at now, as many as its capacity allows, and says when to call again:
	// now or earlier if more are due, the zero time if none are left. It never gives an entry before its due time, and
	// gives it at the first Pop whose now is a second or more after. now may step back.
	Pop(now time.Time, dst []Entry) (due []Entry, next time.Time)
	// All yields every entry, in no order; the Scheduler must not be changed meanwhile.
	All() iter.Seq[Entry]
	// Len is the number of entries.
	Len() int
}
