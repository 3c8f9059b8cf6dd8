package shaping

import (
	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/gcra"
)

// NewThrottles keeps rates and leases in this process. Rates follow the generic cell rate algorithm; a place that is given back
// can be taken at once. It is a [mtakit.Refunder] and a [mtakit.Gauge]. Beside the methods of the interfaces there is
//
//	LeaseWait(ctx context.Context, key string, l mtakit.Limit, ttl time.Duration) (mtakit.Lease, error)
//
// which waits for a place until ctx ends: whoever has waited longest gets it at the moment of its Release.
func NewThrottles() mtakit.Throttles { return gcra.NewStore() }
