package queue

import (
	"context"
	"errors"
	"sync"

	"github.com/mtakit/mtakit"
)

// owed is the messages that are done but could not be removed from the spool: until they are, a restart delivers them again. There are few, since nothing
// is delivered while the spool is unwell.
type owed struct {
	mu  sync.Mutex
	ids []mtakit.ID
}

func (o *owed) add(id mtakit.ID) {
	o.mu.Lock()
	o.ids = append(o.ids, id)
	o.mu.Unlock()
}

// remove tries again, up to the first failure, and says whether there is still something owed.
func (o *owed) remove(ctx context.Context, s mtakit.Spool) bool {
	for {
		o.mu.Lock()
		n := len(o.ids)
		if n == 0 {
			o.ids = nil
			o.mu.Unlock()
			return false
		}
		id := o.ids[n-1]
		o.ids = o.ids[:n-1]
		o.mu.Unlock()
		if err := s.Remove(ctx, id); err != nil && !errors.Is(err, mtakit.ErrNotFound) {
			o.add(id)
			return true
		}
	}
}
