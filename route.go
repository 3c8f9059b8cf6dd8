package mtakit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Router finds the site that takes mail for a domain. Domains that share their hosts share the site, so that limits count per
// receiver and not per domain. It is called concurrently. An error is a temporary failure, unless it is a [*PathError].
type Router interface {
	Route(ctx context.Context, domain string) (*Site, error)
}

// RouterFunc is a function as a Router.
type RouterFunc func(ctx context.Context, domain string) (*Site, error)

// Route calls f.
func (f RouterFunc) Route(ctx context.Context, domain string) (*Site, error) { return f(ctx, domain) }

// Site is a set of hosts that take mail. It is immutable.
type Site struct {
	Name    string    // of all hosts, for example "(alt1|alt2)?.gmail-smtp-in.l.google.com"
	Hosts   []Host    // by preference; those of one preference are tried in random order, unless Ordered
	Ordered bool      // the hosts are tried in the order given
	Expires time.Time // zero is never
}

// Host is one host of a site.
type Host struct {
	Name   string       // lower case, without a trailing dot; "." alone is a null MX (RFC 7505)
	Pref   uint16       // of the MX record
	Port   uint16       // 0 is the path's
	Addrs  []netip.Addr // known already (a literal); empty is: look the name up
	Secure bool         // the record set was DNSSEC-validated
	Exempt bool         // named by the operator: prohibited_hosts does not apply
}

// IsNull says whether the domain takes no mail (RFC 7505).
func (s *Site) IsNull() bool { return len(s.Hosts) == 1 && s.Hosts[0].Name == "." }

// ListSite is the site of a list of hosts that was configured: "mail.example", "mail.example:26", "10.0.0.1", "[::1]:25".
// They are tried in the order given, and no MX record is asked for.
func ListSite(list ...string) (*Site, error) {
	s := &Site{Name: "mx_list:" + strings.Join(list, ","), Ordered: true}
	for i, e := range list {
		h, err := ParseHost(e)
		if err != nil {
			return nil, err
		}
		h.Pref = uint16(min(i, 65535))
		s.Hosts = append(s.Hosts, h)
	}
	if len(s.Hosts) == 0 {
		return nil, errors.New("mtakit: the list of hosts is empty")
	}
	return s, nil
}

// ParseHost reads a host name or address, with an optional port.
func ParseHost(s string) (Host, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		return Host{Name: ap.Addr().String(), Addrs: []netip.Addr{ap.Addr()}, Port: ap.Port()}, nil
	}
	literal := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		literal = s[1 : len(s)-1]
	}
	if a, err := netip.ParseAddr(literal); err == nil {
		return Host{Name: a.String(), Addrs: []netip.Addr{a}}, nil
	}
	name, port, hasPort := strings.Cut(s, ":")
	h := Host{Name: strings.TrimSuffix(strings.ToLower(name), ".")}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Host{}, fmt.Errorf("mtakit: host %q: %q is not a port", s, port)
		}
		h.Port = uint16(n)
	}
	if h.Name == "" || !utf8.ValidString(name) || strings.Contains("."+h.Name+".", "..") || strings.ContainsFunc(h.Name, notInHost) {
		return Host{}, fmt.Errorf("mtakit: %q is not a host name, address, or either with a port", s)
	}
	if a, err := netip.ParseAddr(h.Name); err == nil { // with a dot at its end
		h.Addrs = []netip.Addr{a}
	}
	return h, nil
}

func notInHost(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("/[]<>\"\\", r) }

// Resolver asks the DNS. Names are A-labels without a trailing dot. No such name (NXDOMAIN) is a [*DNSError] with NotFound; a
// name without records of the type is an empty answer. It is called concurrently and caches.
type Resolver interface {
	LookupMX(ctx context.Context, name string) (Answer[MX], error)
	LookupAddr(ctx context.Context, name string, f Family) (Answer[netip.Addr], error)
	LookupTXT(ctx context.Context, name string) (Answer[string], error)
	LookupTLSA(ctx context.Context, name string) (Answer[TLSA], error)
}

// Family is a family of addresses.
type Family uint8

// Families of addresses.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Answer is what the DNS says for a name and type. The records are shared: do not change them.
type Answer[T any] struct {
	Records []T
	Secure  bool      // DNSSEC-validated, by a resolver that is trusted for it
	Expires time.Time // by its TTL
	Name    string    // the canonical name, where CNAMEs led elsewhere; else the name asked for
}

// MX is an MX record.
type MX struct {
	Host string
	Pref uint16
}

// TLSA is a TLSA record (RFC 6698).
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// DNSError is a question that got no answer.
type DNSError struct {
	Name, Type string
	NotFound   bool // NXDOMAIN
	Timeout    bool
	Err        error // what went wrong; nil with NotFound
}

func (e *DNSError) Error() string {
	why := "NXDOMAIN"
	if !e.NotFound {
		why = fmt.Sprint(e.Err)
	}
	return e.Type + " lookup for " + e.Name + " failed: " + why
}

func (e *DNSError) Unwrap() error { return e.Err }
