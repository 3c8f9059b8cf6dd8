package route

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// ErrBadDomain is wrapped by the errors of [Router.Route] where the text is not a domain that could ever take mail, whatever the DNS says.
var ErrBadDomain = errors.New("not a mail domain")

// destination is a routing domain taken apart: a name or an address, with a port or without.
type destination struct {
	name string // lower-case A-labels, without a trailing dot; "" for a literal
	addr netip.Addr
	port uint16 // 0 is none
}

// String prints d as parseDestination reads it; equal destinations print alike.
func (d destination) String() string {
	host := d.name
	if d.addr.IsValid() {
		host = "[" + d.addr.String() + "]"
	}
	if d.port != 0 {
		host += ":" + strconv.Itoa(int(d.port))
	}
	return host
}

// parseDestination reads example.com, [192.0.2.1], [IPv6:2001:db8::1] and the non-conforming [2001:db8::1], each with an optional :port after
// it. An IPv4 literal may have the port within its brackets instead.
func parseDestination(s string) (destination, error) {
	bad := func(why string) (destination, error) {
		return destination{}, fmt.Errorf("route: %.300q is %w: %s", s, ErrBadDomain, why)
	}
	var d destination
	var port string
	var hasPort bool
	if literal, ok := strings.CutPrefix(s, "["); ok {
		body, rest, closed := strings.Cut(literal, "]")
		if !closed {
			return bad("the ] is missing")
		}
		ap, err := parseLiteral(body)
		if err != nil {
			return bad("there is no address within the brackets")
		}
		d.addr, d.port = ap.Addr(), ap.Port()
		if port, hasPort = strings.CutPrefix(rest, ":"); !hasPort && rest != "" {
			return bad("text follows the ]")
		}
		if hasPort && d.port != 0 {
			return bad("it has two ports")
		}
	} else {
		var name string
		name, port, hasPort = strings.Cut(s, ":")
		if d.name, ok = domainName(name); !ok {
			return bad("it is not a domain name")
		}
	}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return bad(fmt.Sprintf("%.20q is not a port", port))
		}
		d.port = uint16(n)
	}
	return d, nil
}

// parseLiteral reads what is between the brackets of an address literal (RFC 5321, 4.1.3). Without a port, that of the result is 0.
func parseLiteral(s string) (netip.AddrPort, error) {
	const tag = "IPv6:"
	if len(s) > len(tag) && strings.EqualFold(s[:len(tag)], tag) {
		a, err := netip.ParseAddr(s[len(tag):])
		if err != nil || !a.Is6() || a.Zone() != "" {
			return netip.AddrPort{}, errors.New("not an IPv6 address")
		}
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || !ap.Addr().Is4() || ap.Port() == 0 {
		return netip.AddrPort{}, errors.New("not an address")
	}
	return ap, nil
}

// mailIDNA is the mapping of UTS 46 as look-ups have it, but for the underscore, which names in use contain.
var mailIDNA = sync.OnceValue(func() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false))
})

// domainName is s with U-labels as A-labels, in lower case, without a trailing dot. Text in ASCII is taken as it stands: an A-label stays
// an A-label, also one that today's tables refuse.
func domainName(s string) (string, bool) {
	if strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return hostName(s)
	}
	a, err := mailIDNA().ToASCII(s)
	if err != nil || !utf8.ValidString(s) {
		return "", false
	}
	return hostName(a)
}

// hostName is s in lower case without a trailing dot, if it is a name of letters, digits, hyphens and underscores. Anything else stays
// out: such names end up in logs, queue names and metrics.
func hostName(s string) (string, bool) {
	s, ok := queryName(s)
	if !ok {
		return "", false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return "", false
		}
	}
	return s, true
}

// queryName is s in lower case without a trailing dot, if it can be asked for as it stands: visible ASCII without backslashes, which the
// codec would read as escapes, in labels of up to 63 and a whole of up to 253 bytes.
func queryName(s string) (string, bool) {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return "", false
	}
	label := 0
	for i := range len(s) {
		c := s[i]
		if c == '.' {
			if label == 0 {
				return "", false
			}
			label = 0
			continue
		}
		if label++; label > 63 || c <= ' ' || c >= 0x7f || c == '\\' {
			return "", false
		}
	}
	return strings.ToLower(s), label > 0
}
