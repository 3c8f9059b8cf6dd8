package mtakit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is N units in Per, at most Burst at once (0 means N). The zero Rate is no limit.
type Rate struct {
	N, Burst int
	Per      time.Duration
	Local    bool // counted in this process even where a cluster shares limits
}

// Limit is how many of something there may be at once. The zero Limit is no limit.
type Limit struct {
	N     int
	Local bool // counted in this process even where a cluster shares limits
}

// IsZero says whether there is no limit.
func (r Rate) IsZero() bool { return r.N == 0 }

// IsZero says whether there is no limit.
func (l Limit) IsZero() bool { return l.N == 0 }

// PerSecond is the rate in units per second.
func (r Rate) PerSecond() float64 { return float64(r.N) / r.Per.Seconds() }

// String prints a rate as [ParseRate] reads it: 100/h, 10/90s, local:1/d,max_burst=1.
func (r Rate) String() string {
	var b strings.Builder
	if r.Local {
		b.WriteString("local:")
	}
	fmt.Fprintf(&b, "%d/", r.N)
	switch r.Per {
	case time.Second:
		b.WriteString("s")
	case time.Minute:
		b.WriteString("m")
	case time.Hour:
		b.WriteString("h")
	case 24 * time.Hour:
		b.WriteString("d")
	default:
		fmt.Fprintf(&b, "%ds", int64(r.Per/time.Second))
	}
	if r.Burst != 0 {
		fmt.Fprintf(&b, ",max_burst=%d", r.Burst)
	}
	return b.String()
}

var (
	// ErrBadRate is wrapped by the errors of [ParseRate], ErrBadLimit by those of [ParseLimit].
	ErrBadRate  = errors.New("not a rate")
	ErrBadLimit = errors.New("not a limit")
)

// ParseRate reads [local:]LIMIT/[N]UNIT[,max_burst=B]. UNIT is s sec second, m min minute, h hr hour, d day; digits of LIMIT and B
// may be grouped with _ or a comma.
func ParseRate(s string) (Rate, error) {
	var r Rate
	bad := func(why string) (Rate, error) {
		return Rate{}, fmt.Errorf("%q is %w: %s", s, ErrBadRate, why)
	}
	rest, local := strings.CutPrefix(s, "local:")
	r.Local = local
	rest, burst, hasBurst := strings.Cut(rest, ",max_burst=")
	limit, per, ok := strings.Cut(rest, "/")
	if !ok {
		return bad("expected 'limit/period'")
	}
	var err error
	if r.N, err = groupedInt(limit); err != nil {
		return bad("the limit " + err.Error())
	}
	if hasBurst {
		if r.Burst, err = groupedInt(burst); err != nil {
			return bad("max_burst " + err.Error())
		}
	}
	n := 0
	for n < len(per) && isDigit(per[n]) {
		n++
	}
	scale := 1
	if n > 0 {
		if scale, err = groupedInt(per[:n]); err != nil {
			return bad("the period " + err.Error())
		}
	}
	switch per[n:] {
	case "s", "sec", "second":
		r.Per = time.Second
	case "m", "min", "minute":
		r.Per = time.Minute
	case "h", "hr", "hour":
		r.Per = time.Hour
	case "d", "day":
		r.Per = 24 * time.Hour
	default:
		return bad("unknown period quantity " + strconv.Quote(per[n:]) + ", want s, m, h or d")
	}
	if scale > int(100*year/r.Per) {
		return bad("the period is too long")
	}
	r.Per *= time.Duration(scale)
	return r, nil
}

func groupedInt(s string) (int, error) {
	n, err := strconv.ParseUint(strings.NewReplacer("_", "", ",", "").Replace(s), 10, 47)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a number", s)
	case n == 0:
		return 0, errors.New("must be greater than 0")
	}
	return int(n), nil
}

// String prints N, with local: before it where that is set.
func (l Limit) String() string {
	if l.Local {
		return "local:" + strconv.Itoa(l.N)
	}
	return strconv.Itoa(l.N)
}

// ParseLimit reads [local:]N, where digits may be grouped with _ or a comma.
func ParseLimit(s string) (Limit, error) {
	rest, local := strings.CutPrefix(s, "local:")
	n, err := groupedInt(rest)
	if err != nil {
		return Limit{}, fmt.Errorf("%q is %w: the limit %v", s, ErrBadLimit, err)
	}
	return Limit{N: n, Local: local}, nil
}

// MarshalText returns String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is [ParseRate].
func (r *Rate) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRate(string(b))
	return err
}

type limitJSON struct {
	Limit      int  `json:"limit"`
	ForceLocal bool `json:"force_local"`
}

// MarshalJSON writes {"limit": N, "force_local": false}.
func (l Limit) MarshalJSON() ([]byte, error) { return json.Marshal(limitJSON{l.N, l.Local}) }

// UnmarshalJSON reads a number, the text of [ParseLimit], or what MarshalJSON writes.
func (l *Limit) UnmarshalJSON(b []byte) (err error) {
	switch b[0] {
	case '{':
		var j limitJSON
		if err := json.Unmarshal(b, &j); err != nil {
			return err
		}
		*l = Limit{j.Limit, j.ForceLocal}
	case '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*l, err = ParseLimit(s)
		return err
	default:
		if err := json.Unmarshal(b, &l.N); err != nil {
			return err
		}
	}
	if l.N < 1 {
		return fmt.Errorf("%d is %w: limit must be 1 or larger", l.N, ErrBadLimit)
	}
	return nil
}

// ErrLimited: all leases are taken.
var ErrLimited = errors.New("mtakit: limit reached")

// Throttles keeps rates and leases, in this process or shared by a cluster. It is safe for concurrent use.
type Throttles interface {
	// Take asks for n units; a wait of 0 means they were taken, otherwise nothing was and it is worth asking again after
	// wait. A key with another rate is another bucket.
	Take(ctx context.Context, key string, r Rate, n int) (wait time.Duration, err error)
	// Lease takes one of l.N places for at most ttl, or returns an error that wraps ErrLimited.
	Lease(ctx context.Context, key string, l Limit, ttl time.Duration) (Lease, error)
}

// Refunder is a Throttles that takes back what was not used. Who takes of several rates, or takes before it is certain that there is something to do,
// loses no unit with it.
type Refunder interface {
	Throttles
	// Refund gives back n units that a Take of the same key and rate has given. A unit that has come back by itself meanwhile is not there twice.
	Refund(ctx context.Context, key string, r Rate, n int) error
}

// Gauge is a Throttles that tells what is in use to those who look, and takes nothing.
type Gauge interface {
	Throttles
	// RateUse is how many units of the burst are used up, and how long it takes until one more is given.
	RateUse(ctx context.Context, key string, r Rate) (used int, wait time.Duration, err error)
	// LeaseUse is how many leases of key there are.
	LeaseUse(ctx context.Context, key string) (int, error)
}

// Lease is a place taken. One goroutine uses it.
type Lease interface {
	// Extend keeps the place for ttl from now; an error means that it is lost.
	Extend(ctx context.Context, ttl time.Duration) error
	// Release gives the place back; calls after the first do nothing.
	Release()
}
