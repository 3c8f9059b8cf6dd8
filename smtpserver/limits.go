package smtpserver

import (
	"math"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// Limits protect the server from its clients. A zero field is its default, a negative one no limit.
type Limits struct {
	Connections int // open at a time; default 32768
	PerAddress  int // of them from one IPv4 address or IPv6 /64; default a quarter of Connections
	// Errors is how many 5xx a session may get without a message accepted in between: bad commands, failed AUTH, refused recipients. Default 100.
	Errors int
	// Junk is how many commands a session may give without a message accepted in between, not counting accepted recipients. Default 200.
	Junk int
	// SessionTime is how long a session may last; it ends between two commands. Default 24 hours.
	SessionTime time.Duration
	// DataRate is how many bytes a second data has to come with, on average after the first ClientTimeout. Default 100.
	DataRate int
	// BodyMemory is how many bytes of texts may be in buffers at a time, from the DATA command until Deliver has returned. When it is used up MAIL
	// and DATA are answered with 452. Default a quarter of the Go memory limit, or 512 MiB if none is set.
	BodyMemory int64
	// AuthFailures is how many failed AUTHs a minute an address may have; a user may have ten times as many, from all addresses. Default 10.
	AuthFailures int
	// GreetPause is how long the banner is held back to see whether the client talks before it, as only bots do. Default none.
	GreetPause time.Duration
}

func (l Limits) withDefaults() Limits {
	def(&l.Connections, 32768)
	if l.Connections > 0 {
		def(&l.PerAddress, max(l.Connections/4, 1))
	}
	def(&l.Errors, 100)
	def(&l.Junk, 200)
	def(&l.SessionTime, 24*time.Hour)
	def(&l.DataRate, 100)
	def(&l.AuthFailures, 10)
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		def(&l.BodyMemory, limit/4)
	} else {
		def(&l.BodyMemory, 512<<20)
	}
	if l.BodyMemory < 0 {
		l.BodyMemory = math.MaxInt64 / 2
	}
	return l
}

func def[T int | int64 | time.Duration](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

// network is what counts as one client: an IPv4 address, or an IPv6 /64, which any client can have.
func network(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64) // a is valid and has as many bits
		return p.Addr()
	}
	return a
}

// addressCount counts connections by network.
type addressCount struct {
	mu sync.Mutex
	n  map[netip.Addr]int
}

// enter counts one more, unless there are limit already.
func (c *addressCount) enter(a netip.Addr, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit > 0 && c.n[a] >= limit {
		return false
	}
	if c.n == nil {
		c.n = make(map[netip.Addr]int)
	}
	c.n[a]++
	return true
}

func (c *addressCount) leave(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[a]--; c.n[a] == 0 {
		delete(c.n, a)
	}
}

// failureLimit allows so many failures a minute for each key, in the manner of a leaky bucket: one number per key says when it is empty again.
type failureLimit struct {
	perMinute int // of the first key; the others get ten times as many

	mu    sync.Mutex
	empty map[string]time.Time
	sweep int // when there are so many keys, those whose bucket is empty are dropped
}

// allow says whether none of the keys has its bucket full.
func (l *failureLimit) allow(now time.Time, keys ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, k := range keys {
		if l.perMinute > 0 && l.empty[k].Sub(now) > time.Minute-l.drip(i) {
			return false
		}
	}
	return true
}

// failed adds a failure to each key.
func (l *failureLimit) failed(now time.Time, keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.perMinute <= 0 {
		return
	}
	if l.empty == nil {
		l.empty = make(map[string]time.Time)
	}
	for i, k := range keys {
		l.empty[k] = later(l.empty[k], now).Add(l.drip(i))
	}
	if len(l.empty) >= max(l.sweep, 1024) {
		for k, t := range l.empty {
			if t.Before(now) {
				delete(l.empty, k)
			}
		}
		l.sweep = 2 * len(l.empty)
	}
}

// drip is how long a failure stays in the bucket of the i-th key.
func (l *failureLimit) drip(i int) time.Duration {
	n := l.perMinute
	if i > 0 {
		n *= 10
	}
	return time.Minute / time.Duration(n)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
