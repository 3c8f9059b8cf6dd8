package queue

import (
	"math"
	"strconv"

	"github.com/mtakit/mtakit"
)

// Ceilings are the most that the settings of a path allow, whatever the peer does: of several limits that apply the lowest. They are computed from the
// settings alone and say nothing about what is in use.
type Ceilings struct {
	MaxConcurrentDispatchers Ceiling
	MaxMessageRate           *Ceiling // nil is no limit, here as below
	MaxConnectionRate        *Ceiling
	MaxSourceSelectionRate   *Ceiling
	// DeclaredMessageRate is the path's max_message_rate where it can't be reached, as it is written; else "".
	DeclaredMessageRate string
}

// Ceiling is the lowest of several limits.
type Ceiling struct {
	Value   float64 // connections, or events per second
	By      CeilingKind
	Name    string // of an additional limit, or what else it is
	Display string // in the units of the configuration
}

// CeilingKind says which kind of limit is the lowest.
type CeilingKind string

// Kinds of limits.
const (
	CeilingPrimary          CeilingKind = "primary"           // the setting of that name
	CeilingAdditional       CeilingKind = "additional"        // one shared by name
	CeilingReconnectCycling CeilingKind = "reconnect_cycling" // max_deliveries_per_connection at max_connection_rate
	CeilingOther            CeilingKind = "other"             // of something else than the path
)

// CeilingsOf computes the ceilings of a path, and of the scheduled queue whose mail takes it, unless s is nil.
func CeilingsOf(p *mtakit.PathConfig, s *mtakit.QueueSettings) Ceilings {
	c := Ceilings{MaxConcurrentDispatchers: Ceiling{Value: float64(p.ConnectionLimit.N), By: CeilingPrimary, Display: strconv.Itoa(p.ConnectionLimit.N)}}
	for _, l := range p.AdditionalConnectionLimits {
		if float64(l.Limit.N) < c.MaxConcurrentDispatchers.Value {
			c.MaxConcurrentDispatchers = Ceiling{Value: float64(l.Limit.N), By: CeilingAdditional, Name: l.Name, Display: strconv.Itoa(l.Limit.N)}
		}
	}
	c.MaxMessageRate = lowestRate(p.MaxMessageRate, p.AdditionalMessageRateThrottles)
	if r := p.MaxConnectionRate; !r.IsZero() {
		c.MaxConnectionRate = rateCeiling(r, CeilingPrimary, "")
		k := p.MaxDeliveriesPerConnection
		total := mtakit.Rate{N: product(k, r.N), Per: r.Per}
		c.MaxMessageRate = lowerOf(c.MaxMessageRate, &Ceiling{Value: float64(k) * r.PerSecond(), By: CeilingReconnectCycling,
			Display: strconv.Itoa(k) + " × " + r.String() + " = " + total.String()})
	}
	if s != nil && !s.MaxMessageRate.IsZero() {
		c.MaxMessageRate = lowerOf(c.MaxMessageRate, rateCeiling(s.MaxMessageRate, CeilingOther, "scheduled queue max_message_rate"))
	}
	if !p.MaxMessageRate.IsZero() && c.MaxMessageRate.By != CeilingPrimary {
		c.DeclaredMessageRate = p.MaxMessageRate.String()
	}
	c.MaxSourceSelectionRate = lowestRate(p.SourceSelectionRate, p.AdditionalSourceSelectionRates)
	return c
}

// lowestRate is the lowest of a rate and others with names; nil if there is none.
func lowestRate(own mtakit.Rate, more mtakit.NamedRates) (c *Ceiling) {
	if !own.IsZero() {
		c = rateCeiling(own, CeilingPrimary, "")
	}
	for _, r := range more {
		if !r.Rate.IsZero() {
			c = lowerOf(c, rateCeiling(r.Rate, CeilingAdditional, r.Name))
		}
	}
	return c
}

func rateCeiling(r mtakit.Rate, by CeilingKind, name string) *Ceiling {
	return &Ceiling{Value: r.PerSecond(), By: by, Name: name, Display: r.String()}
}

// lowerOf is b if it is lower than a, or the only one.
func lowerOf(a, b *Ceiling) *Ceiling {
	if a == nil || b.Value < a.Value {
		return b
	}
	return a
}

// product is a × b, neither of which is negative, or the largest number.
func product(a, b int) int {
	if a > 0 && b > math.MaxInt/a {
		return math.MaxInt
	}
	return a * b
}
