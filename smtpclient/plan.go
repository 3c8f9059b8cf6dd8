package smtpclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/mtakit/mtakit"
)

// Candidate is one address of a host, to be tried.
type Candidate struct {
	Host   string // name, for errors and for the certificate
	Addr   netip.AddrPort
	Secure bool // the name and the address came from DNSSEC-secure answers

	exempt  bool // from prohibited_hosts
	classic bool // without post-quantum key exchange
}

// Reasons of the [mtakit.PathError]s that a plan may end in.
const (
	ReasonNullMX     = "FailedDueToNullMx"
	ReasonNoHosts    = "MxResolvedToZeroHosts"
	ReasonProhibited = "MxWasProhibited"
	ReasonSkipped    = "MxWasSkipped"
)

// plan resolves the hosts of the path and puts their addresses in the order of trying: by preference, and within one at random unless
// the site is ordered. A host whose lookup fails is left out; failed has the reasons.
func (e *Egress) plan(ctx context.Context, p *mtakit.Path) (plan []Candidate, failed []error, err error) {
	hosts := p.Site.Hosts
	for _, h := range hosts {
		if h.Name == "." {
			return nil, nil, &mtakit.PathError{Reason: ReasonNullMX,
				Response: mtakit.Response{Code: 556, Enhanced: [3]uint16{5, 1, 10}, Text: "Recipient address has a null MX"}}
		}
	}
	if !p.Site.Ordered {
		hosts = slices.Clone(hosts)
		slices.SortStableFunc(hosts, func(a, b mtakit.Host) int { return cmp.Compare(a.Pref, b.Pref) })
	}
	found, errs := e.resolve(ctx, p, hosts)
	for start := 0; start < len(hosts); {
		end := start + 1
		level := slices.Clone(found[start])
		for ; end < len(hosts) && hosts[end].Pref == hosts[start].Pref && !p.Site.Ordered; end++ {
			level = append(level, found[end]...)
		}
		if !p.Site.Ordered {
			rand.Shuffle(len(level), func(i, j int) { level[i], level[j] = level[j], level[i] })
		}
		plan = append(plan, level...)
		start = end
	}
	for _, err := range errs {
		if err != nil {
			failed = append(failed, err)
		}
	}
	if len(plan) == 0 {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return nil, nil, &mtakit.PathError{Reason: ReasonNoHosts,
			Response: mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 4, 4}, Text: "MX didn't resolve to any hosts"}}
	}
	for _, c := range plan {
		if !c.exempt && p.ProhibitedHosts.Contains(c.Addr.Addr()) {
			return nil, nil, &mtakit.PathError{Reason: ReasonProhibited, Response: mtakit.Response{Code: 550, Enhanced: [3]uint16{5, 4, 4},
				Text: fmt.Sprintf("%s is on the list of prohibited_hosts %s", c.Addr.Addr(), strings.Join(p.ProhibitedHosts.Strings(), ", "))}}
		}
	}
	plan = slices.DeleteFunc(plan, func(c Candidate) bool { return p.SkipHosts.Contains(c.Addr.Addr()) })
	if len(plan) == 0 {
		return nil, nil, &mtakit.PathError{Reason: ReasonSkipped,
			Response: internal(451, [3]uint16{4, 4, 4}, "MX consisted solely of hosts on the skip_hosts list")}
	}
	return plan, failed, nil
}

// maxLookups is how many hosts of a site are looked up at once.
const maxLookups = 16

// resolve looks the hosts up, together.
func (e *Egress) resolve(ctx context.Context, p *mtakit.Path, hosts []mtakit.Host) (found [][]Candidate, errs []error) {
	found, errs = make([][]Candidate, len(hosts)), make([]error, len(hosts))
	var wg sync.WaitGroup
	places := make(chan struct{}, maxLookups)
	for i, h := range hosts {
		port := cmp.Or(p.SMTPPort, 25)
		if h.Port != 0 {
			port = h.Port
		}
		if p.Source != nil && p.Source.RemotePort != 0 {
			port = p.Source.RemotePort
		}
		add := func(addrs []netip.Addr, secure bool) {
			for _, a := range addrs {
				found[i] = append(found[i], Candidate{Host: h.Name, Addr: netip.AddrPortFrom(a.Unmap(), port), Secure: secure, exempt: h.Exempt})
			}
		}
		if len(h.Addrs) > 0 {
			add(h.Addrs, h.Secure)
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			addrs, secure, err := e.addresses(ctx, h.Name, p.IPLookupStrategy)
			errs[i] = err
			add(addrs, secure && h.Secure)
		})
	}
	wg.Wait()
	return found, errs
}

// addresses asks for the addresses of a host as the strategy says. With both families one that fails doesn't matter if the other has
// addresses; secure is what every answer with addresses was.
func (e *Egress) addresses(ctx context.Context, host string, s mtakit.IPLookupStrategy) (addrs []netip.Addr, secure bool, err error) {
	name, err := toASCII(strings.TrimSuffix(host, "."))
	if err != nil {
		return nil, false, fmt.Errorf("%q is no host name: %w", host, err)
	}
	ask := func(f mtakit.Family) mtakit.Answer[netip.Addr] {
		a, aerr := e.resolver().LookupAddr(ctx, name, f)
		if aerr != nil {
			err = cmp.Or(err, aerr)
		}
		return a
	}
	both := func(a, b mtakit.Answer[netip.Addr]) ([]netip.Addr, bool) {
		secure := len(a.Records)+len(b.Records) > 0 && (a.Secure || len(a.Records) == 0) && (b.Secure || len(b.Records) == 0)
		return slices.Concat(a.Records, b.Records), secure
	}
	then := func(first, second mtakit.Family) ([]netip.Addr, bool) {
		a := ask(first)
		if len(a.Records) == 0 {
			a = ask(second)
		}
		return a.Records, a.Secure
	}
	switch s {
	case mtakit.IPv4Only:
		a := ask(mtakit.IPv4)
		addrs, secure = a.Records, a.Secure
	case mtakit.IPv6Only:
		a := ask(mtakit.IPv6)
		addrs, secure = a.Records, a.Secure
	case mtakit.IPv4ThenIPv6:
		addrs, secure = then(mtakit.IPv4, mtakit.IPv6)
	case mtakit.IPv6ThenIPv4:
		addrs, secure = then(mtakit.IPv6, mtakit.IPv4)
	default:
		var six mtakit.Answer[netip.Addr]
		var err6 error
		var wg sync.WaitGroup
		wg.Go(func() { six, err6 = e.resolver().LookupAddr(ctx, name, mtakit.IPv6) })
		four := ask(mtakit.IPv4)
		wg.Wait()
		addrs, secure = both(four, six)
		if err == nil {
			err = err6
		}
	}
	if len(addrs) > 0 {
		return addrs, secure, nil
	}
	if err == nil {
		err = fmt.Errorf("%s has no addresses", host)
	}
	return nil, false, err
}

// systemResolver is the machine's, for an Egress without one.
type systemResolver struct{ mtakit.Resolver }

func (systemResolver) LookupAddr(ctx context.Context, name string, f mtakit.Family) (mtakit.Answer[netip.Addr], error) {
	network := "ip4"
	if f == mtakit.IPv6 {
		network = "ip6"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, name)
	if err != nil {
		var dns *net.DNSError
		if errors.As(err, &dns) && dns.IsNotFound {
			return mtakit.Answer[netip.Addr]{Name: name}, nil
		}
		return mtakit.Answer[netip.Addr]{}, err
	}
	return mtakit.Answer[netip.Addr]{Records: addrs, Name: name}, nil
}
