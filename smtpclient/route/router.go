package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
)

// Config says how a Router works. The zero value of each field is its default.
type Config struct {
	// Resolver answers MX questions. Default: a [Resolver] with the system's servers, which Close closes.
	Resolver mtakit.Resolver

	// CacheSize is how many sites are kept, where one of over 512 bytes counts for several. Default 65536; less than 1 is that too.
	CacheSize int
}

// Router finds the site of a domain by its MX records (RFC 5321, 5.1). It implements [mtakit.Router], and [mtakit.Collector] for the metrics
// dns_mx_resolve_*. It is safe for concurrent use.
type Router struct {
	resolver mtakit.Resolver
	own      *Resolver // the default, if it is in use
	sites    *lru[*mtakit.Site]
	storing  sync.Mutex // from the look for a site that another call has stored to the store of ours

	hits, misses, running, succeeded, failed mtakit.Counter
}

// New makes a router. It does no I/O and starts no goroutine.
func New(c Config) *Router {
	r := &Router{resolver: c.Resolver}
	if r.resolver == nil {
		r.own, _ = NewResolver(ResolverConfig{}) // the zero value has nothing that could be wrong
		r.resolver = r.own
	}
	if c.CacheSize < 1 {
		c.CacheSize = defaultSize
	}
	r.sites = newLRU[*mtakit.Site](c.CacheSize)
	return r
}

// Close closes the default resolver, if it is in use. Another is its owner's business.
func (r *Router) Close() error {
	if r.own == nil {
		return nil
	}
	return r.own.Close()
}

// Route gives the site of a domain; until Site.Expires it is the same one. The domain may have U-labels, and be followed by the port that all of its
// hosts then have. Address literals with or without a port ([192.0.2.1], [IPv6:2001:db8::1], [192.0.2.1]:26) are sites of their own.
//
// The hosts are those of the MX records; where there are none but the domain exists, the domain itself with preference 1. A record that says that
// the domain takes no mail counts only if it is alone, as RFC 7505 demands.
//
// Errors are temporary failures. They wrap the resolver's, a [*mtakit.DNSError] with NotFound for a domain that doesn't exist; or [ErrBadDomain].
func (r *Router) Route(ctx context.Context, domain string) (*mtakit.Site, error) {
	if s := r.fresh(domain); s != nil {
		r.hits.Inc()
		return s, nil
	}
	d, err := parseDestination(domain)
	if err != nil {
		return nil, err
	}
	key := d.String()
	if key != domain {
		if s := r.fresh(key); s != nil {
			r.hits.Inc()
			return s, nil
		}
	}
	r.misses.Inc()
	site, err := r.find(ctx, d)
	if err != nil {
		r.failed.Inc()
		return nil, err
	}
	r.succeeded.Inc()
	r.storing.Lock()
	defer r.storing.Unlock()
	if s := r.fresh(key); s != nil {
		return s, nil
	}
	r.sites.put(key, site, cost(siteBytes(site)))
	return site, nil
}

// fresh is the site under key, if it may be used still.
func (r *Router) fresh(key string) *mtakit.Site {
	s, ok := r.sites.get(key)
	if ok && (s.Expires.IsZero() || time.Now().Before(s.Expires)) {
		return s
	}
	return nil
}

// find makes the site of d.
func (r *Router) find(ctx context.Context, d destination) (*mtakit.Site, error) {
	if d.addr.IsValid() {
		return newSite([]mtakit.Host{{Name: d.addr.String(), Addrs: []netip.Addr{d.addr}}}, d.port, time.Time{}), nil
	}
	r.running.Inc()
	defer r.running.Dec()
	start := time.Now()
	answer, err := r.resolver.LookupMX(ctx, d.name)
	if err != nil {
		return nil, &lookupError{domain: d.name, after: time.Since(start), err: err}
	}
	return newSite(mxHosts(d.name, answer), d.port, answer.Expires), nil
}

// mxHosts is the hosts for a domain's mail, in the order of their preference and then of their names.
func mxHosts(domain string, answer mtakit.Answer[mtakit.MX]) []mtakit.Host {
	if len(answer.Records) == 0 {
		return []mtakit.Host{{Name: domain, Pref: 1, Secure: answer.Secure}}
	}
	records := slices.Clone(answer.Records)
	slices.SortFunc(records, func(a, b mtakit.MX) int {
		return cmp.Or(cmp.Compare(a.Pref, b.Pref), strings.Compare(a.Host, b.Host))
	})
	hosts := make([]mtakit.Host, 0, len(records))
	for _, mx := range records {
		again := slices.ContainsFunc(hosts, func(h mtakit.Host) bool { return h.Name == mx.Host })
		if !again && mx.Host != "." {
			hosts = append(hosts, mtakit.Host{Name: mx.Host, Pref: mx.Pref, Secure: answer.Secure})
		}
	}
	if len(hosts) == 0 {
		return []mtakit.Host{{Name: ".", Secure: answer.Secure}}
	}
	return hosts
}

// newSite puts hosts, all with the port, together. Hosts that policy takes out are gone by now: they don't show in the name.
func newSite(hosts []mtakit.Host, port uint16, expires time.Time) *mtakit.Site {
	for i := range hosts {
		hosts[i].Port = port
	}
	return &mtakit.Site{Name: SiteName(hosts), Hosts: hosts, Expires: expires}
}

// siteBytes is about how much memory s takes.
func siteBytes(s *mtakit.Site) int {
	n := len(s.Name)
	for i := range s.Hosts {
		n += len(s.Hosts[i].Name) + 64
	}
	return n
}

// lookupError is an MX look-up without a result.
type lookupError struct {
	domain string
	after  time.Duration
	err    error
}

func (e *lookupError) Error() string {
	why := e.err.Error()
	if d, ok := errors.AsType[*mtakit.DNSError](e.err); ok { // which would say once more what was looked up
		if why = "NXDOMAIN"; !d.NotFound {
			why = fmt.Sprint(d.Err)
		}
	}
	return fmt.Sprintf("MX lookup for %s failed after %v: %s", e.domain, e.after.Round(time.Microsecond), why)
}

func (e *lookupError) Unwrap() error { return e.err }

// Static is the router that sends every domain's mail to the same hosts, in the order given: names or addresses, each with a port or
// without, as [mtakit.ListSite] reads them. No MX record is asked for, and prohibited_hosts does not apply.
func Static(hosts ...string) (mtakit.Router, error) {
	site, err := mtakit.ListSite(hosts...)
	if err != nil {
		return nil, err
	}
	for i := range site.Hosts {
		site.Hosts[i].Exempt = true
	}
	return mtakit.RouterFunc(func(context.Context, string) (*mtakit.Site, error) { return site, nil }), nil
}
