package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/mtakit/mtakit"
)

// ResolverConfig says how a Resolver works. The zero value of each field is its default.
type ResolverConfig struct {
	// Servers are recursive servers with EDNS0, as host:port or host, asked in this order until one answers. Default: those of
	// /etc/resolv.conf, followed when it changes. Search lists and other options of that file have no effect: names are absolute.
	Servers []string

	// TrustAD says that the servers validate DNSSEC and that nobody can change their answers on the way: they are on loopback, or Dial goes
	// through TLS. Only then is an answer ever Secure.
	TrustAD bool

	// Timeout is for one question to one server. A look-up, which may ask several servers twice and follow aliases, ends within four times
	// that. Default 5s.
	Timeout time.Duration

	// MaxConcurrent is how many look-ups of one record type run at once; more wait. Default 128.
	MaxConcurrent int

	// CacheSize is how many answers are kept of each record type, where one of over 512 bytes counts for several. Default 65536.
	CacheSize int

	// MaxNegativeTTL bounds how long "no such name" and "no such record" are believed. Default 5m.
	MaxNegativeTTL time.Duration

	// MaxStale is for how long after its time an answer with records still serves when no server gives a new one (RFC 8767). Default 6h;
	// negative is not at all.
	MaxStale time.Duration

	// Dial opens connections to servers; the network is udp or tcp, and a connection of udp keeps the limits of messages. Default: net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	minTTL      = 10 * time.Second        // of answers with a TTL of 0, or without one
	failureTTL  = 10 * time.Second        // that a failure is repeated without asking (RFC 9520)
	staleTTL    = 30 * time.Second        // that a stale answer serves before the servers are asked again
	staleWait   = 1800 * time.Millisecond // for a new answer where there is a stale one (RFC 8767, 5)
	defaultSize = 64 << 10
)

// Resolver asks recursive DNS servers and remembers what they say. It implements [mtakit.Resolver]; its errors are [*mtakit.DNSError]s, of which
// those after Close wrap [mtakit.ErrClosed]. The end of a call's context ends the wait, while the look-up goes on and fills the cache.
type Resolver struct {
	config    ResolverConfig
	servers   servers
	transport transport

	mx   *cache[mtakit.MX]
	a    *cache[netip.Addr]
	aaaa *cache[netip.Addr]
	txt  *cache[string]
	tlsa *cache[mtakit.TLSA]

	ctx    context.Context // of look-ups; ended by Close
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	lookups sync.WaitGroup // not added to after closed
}

// NewResolver makes a resolver. It does no I/O; the owner calls Close at the end.
func NewResolver(c ResolverConfig) (*Resolver, error) {
	r := &Resolver{config: c}
	if len(c.Servers) == 0 {
		r.servers.path = resolvConf
	}
	for _, s := range c.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			s = net.JoinHostPort(strings.Trim(s, "[]"), "53")
		}
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("route: ResolverConfig.Servers has %q, want host:port", s)
		}
		r.servers.list = append(r.servers.list, s)
	}
	c = r.withDefaults()
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"Timeout", int64(c.Timeout)}, {"MaxConcurrent", int64(c.MaxConcurrent)}, {"CacheSize", int64(c.CacheSize)},
		{"MaxNegativeTTL", int64(c.MaxNegativeTTL)},
	} {
		if f.value < 0 {
			return nil, fmt.Errorf("route: ResolverConfig.%s is %d, want more than 0", f.name, f.value)
		}
	}
	r.transport = transport{dial: c.Dial, timeout: c.Timeout, idle: make(map[string][]*idleConn)}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	r.mx = newCache(r, dns.TypeMX, readMX)
	r.a = newCache(r, dns.TypeA, readAddr)
	r.aaaa = newCache(r, dns.TypeAAAA, readAddr)
	r.txt = newCache(r, dns.TypeTXT, readTXT)
	r.tlsa = newCache(r, dns.TypeTLSA, readTLSA)
	return r, nil
}

// Close ends what is being looked up and waits for it. Answers in the cache are given out still.
func (r *Resolver) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel(mtakit.ErrClosed)
	r.lookups.Wait()
	r.transport.close()
	return nil
}

// start runs f on a goroutine that Close waits for, unless the resolver is closed.
func (r *Resolver) start(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.lookups.Go(f)
	return true
}

// LookupMX gives the MX records by preference, those of one preference by name, at most 200; what is no host name is left out.
func (r *Resolver) LookupMX(ctx context.Context, name string) (mtakit.Answer[mtakit.MX], error) {
	return r.mx.lookup(ctx, name)
}

// LookupAddr gives the addresses of one family, at most 200.
func (r *Resolver) LookupAddr(ctx context.Context, name string, f mtakit.Family) (mtakit.Answer[netip.Addr], error) {
	if f == mtakit.IPv6 {
		return r.aaaa.lookup(ctx, name)
	}
	return r.a.lookup(ctx, name)
}

// LookupTXT gives the TXT records, at most 200, each with its strings joined.
func (r *Resolver) LookupTXT(ctx context.Context, name string) (mtakit.Answer[string], error) {
	return r.txt.lookup(ctx, name)
}

// LookupTLSA gives the TLSA records, at most 200. The name is _port._tcp.host (RFC 6698, 3).
func (r *Resolver) LookupTLSA(ctx context.Context, name string) (mtakit.Answer[mtakit.TLSA], error) {
	return r.tlsa.lookup(ctx, name)
}

// resolve asks, and follows CNAMEs where the server did not.
func (r *Resolver) resolve(name string, typ uint16) (*reading, error) {
	limit := 4 * r.config.Timeout
	ctx, cancel := context.WithTimeoutCause(r.ctx, limit, fmt.Errorf("no answer within %v: %w", limit, os.ErrDeadlineExceeded))
	defer cancel()
	reading := newReading(name)
	for !reading.final {
		m, err := r.exchange(ctx, reading.name, typ)
		if err != nil {
			return nil, err
		}
		if err := reading.add(m, typ); err != nil {
			return nil, err
		}
	}
	reading.secure = reading.secure && r.config.TrustAD
	return reading, nil
}

// exchange asks one server after the other, and those once more if packets may have been lost. A server that had to help out is asked first
// from then on.
func (r *Resolver) exchange(ctx context.Context, name string, typ uint16) (*dns.Msg, error) {
	list, err := r.servers.current()
	if err != nil {
		return nil, err
	}
	for range 2 {
		again := false
		first := int(r.servers.first.Load())
		for i := range list {
			at := (first + i) % len(list)
			var m *dns.Msg
			if m, err = r.transport.ask(ctx, list[at], name, typ); err == nil {
				if i > 0 {
					r.servers.first.Store(uint32(at))
				}
				return m, nil
			}
			if ctx.Err() != nil {
				return nil, err
			}
			again = again || errors.Is(err, os.ErrDeadlineExceeded)
		}
		if !again {
			break
		}
	}
	return nil, err
}

func (r *Resolver) withDefaults() ResolverConfig {
	c := &r.config
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.MaxConcurrent == 0 {
		c.MaxConcurrent = 128
	}
	if c.CacheSize == 0 {
		c.CacheSize = defaultSize
	}
	if c.MaxNegativeTTL == 0 {
		c.MaxNegativeTTL = 5 * time.Minute
	}
	if c.MaxStale == 0 {
		c.MaxStale = 6 * time.Hour
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	return *c
}
