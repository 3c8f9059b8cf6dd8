package route

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/mtakit/mtakit"
)

// cache answers questions for one record type from memory, and asks the servers once however many want to know.
//
// Whoever finds nothing takes a slot and starts a flight, a goroutine that asks, fills the cache, gives the slot back and ends; all who want the
// same name wait for that one flight. An answer whose time is over serves on as a stale one if the flight fails or takes long.
type cache[T any] struct {
	resolver *Resolver
	typ      uint16
	read     func([]dns.RR) ([]T, error)
	entries  *lru[*entry[T]]
	slots    chan struct{} // one element per flight

	mu      sync.Mutex // held where entries change; the resolver's is taken within it
	flights map[string]*flight[T]
}

// entry is what is known about a name: the records, that there are none, or that nothing could be found out. It is immutable.
type entry[T any] struct {
	answer     mtakit.Answer[T]
	err        error     // a *mtakit.DNSError
	expires    time.Time // then the servers are asked again
	staleUntil time.Time // until then the answer serves if they don't answer; zero is not at all
	bytes      int       // about how much memory it takes
}

// flight is a question on its way.
type flight[T any] struct {
	done  chan struct{}
	entry *entry[T] // set when done is closed
}

func newCache[T any](r *Resolver, typ uint16, read func([]dns.RR) ([]T, error)) *cache[T] {
	return &cache[T]{
		resolver: r, typ: typ, read: read,
		entries: newLRU[*entry[T]](r.config.CacheSize),
		slots:   make(chan struct{}, r.config.MaxConcurrent),
		flights: make(map[string]*flight[T]),
	}
}

var errBadName = errors.New("the DNS cannot hold such a name")

func (c *cache[T]) lookup(ctx context.Context, asked string) (mtakit.Answer[T], error) {
	name, ok := queryName(asked)
	if !ok {
		return mtakit.Answer[T]{}, c.failure(asked, errBadName)
	}
	e, ok := c.entries.get(name)
	now := time.Now()
	if ok && now.Before(e.expires) {
		return e.answer, e.err
	}
	stale := ok && now.Before(e.staleUntil)
	if stale {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, staleWait)
		defer cancel()
	}
	f, err := c.join(ctx, name)
	if err == nil {
		select {
		case <-f.done:
			return f.entry.answer, f.entry.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if stale {
		return c.prolong(name, e).answer, nil
	}
	return mtakit.Answer[T]{}, c.failure(name, err)
}

// join gives the flight for name, which it starts if there is none.
func (c *cache[T]) join(ctx context.Context, name string) (*flight[T], error) {
	c.mu.Lock()
	f := c.flights[name]
	c.mu.Unlock()
	if f != nil {
		return f, nil
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.resolver.ctx.Done():
		return nil, context.Cause(c.resolver.ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// While this caller waited for the slot another may have started the flight, or finished it.
	if f = c.flights[name]; f == nil {
		f = &flight[T]{done: make(chan struct{})}
		e, ok := c.entries.get(name)
		if !ok || !time.Now().Before(e.expires) {
			if !c.resolver.start(func() { c.fly(name, f) }) {
				<-c.slots
				return nil, mtakit.ErrClosed
			}
			c.flights[name] = f
			return f, nil
		}
		f.entry = e
		close(f.done)
	}
	<-c.slots
	return f, nil
}

// fly asks, and stores what comes of it.
func (c *cache[T]) fly(name string, f *flight[T]) {
	e := c.ask(name)
	c.mu.Lock()
	if c.resolver.ctx.Err() == nil {
		c.entries.put(name, e, cost(e.bytes))
	}
	delete(c.flights, name)
	c.mu.Unlock()
	f.entry = e
	close(f.done)
	<-c.slots
}

// ask gives the new entry for name.
func (c *cache[T]) ask(name string) *entry[T] {
	reading, err := c.resolver.resolve(name, c.typ)
	now := time.Now()
	if err != nil {
		return c.afterFailure(name, err, now)
	}
	config := &c.resolver.config
	ttl := reading.ttl
	if len(reading.rrs) == 0 {
		ttl = min(ttl, config.MaxNegativeTTL)
	}
	if ttl == 0 {
		ttl = minTTL
	}
	e := &entry[T]{expires: now.Add(ttl), bytes: len(name) + reading.bytes}
	e.answer = mtakit.Answer[T]{Secure: reading.secure, Expires: e.expires, Name: reading.name}
	switch {
	case reading.absent:
		e.err = &mtakit.DNSError{Name: name, Type: dns.TypeToString[c.typ], NotFound: true}
	case len(reading.rrs) > 0:
		if e.answer.Records, err = c.read(reading.rrs); err != nil {
			return c.afterFailure(name, err, now)
		}
		if config.MaxStale > 0 {
			e.staleUntil = e.expires.Add(config.MaxStale)
		}
	}
	return e
}

// afterFailure is an entry for a short time: the old answer where there is one, else the failure.
//
// A stale answer stays Secure if it was: it was validated once, and if silencing the DNS took that away, it would also take away DANE.
func (c *cache[T]) afterFailure(name string, err error, now time.Time) *entry[T] {
	if old, ok := c.entries.get(name); ok && now.Before(old.staleUntil) {
		return old.prolonged(now)
	}
	return &entry[T]{err: c.failure(name, err), expires: now.Add(failureTTL), bytes: len(name)}
}

// prolonged is e for another while.
func (e *entry[T]) prolonged(now time.Time) *entry[T] {
	p := *e
	p.expires = now.Add(staleTTL)
	p.answer.Expires = p.expires
	return &p
}

// prolong lets the stale entry e serve for a while, so that the next caller does not wait in vain again, unless a flight has brought news.
func (c *cache[T]) prolong(name string, e *entry[T]) *entry[T] {
	p := e.prolonged(time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, ok := c.entries.get(name); ok && now == e {
		c.entries.put(name, p, cost(p.bytes))
	}
	return p
}

func (c *cache[T]) failure(name string, err error) error {
	return &mtakit.DNSError{
		Name: name, Type: dns.TypeToString[c.typ], Err: err,
		Timeout: errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded),
	}
}
