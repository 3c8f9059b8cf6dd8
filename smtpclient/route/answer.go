package route

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/mtakit/mtakit"
)

const (
	maxLinks   = 8   // CNAMEs followed for one question
	maxRecords = 200 // kept of one answer
	maxTTL     = 24 * time.Hour
)

var (
	errLinks  = fmt.Errorf("a loop or more than %d CNAMEs", maxLinks)
	errBadMX  = errors.New("no MX record names a usable host")
	errNoData = errors.New("no record of the answer is usable")
)

// reading is what the messages read so far say about a question.
type reading struct {
	name   string        // where CNAMEs have led
	links  int           // CNAMEs followed
	ttl    time.Duration // the smallest
	secure bool          // all of it was marked as validated
	final  bool          // nothing more is to be asked
	absent bool          // NXDOMAIN
	rrs    []dns.RR      // of the type asked for
	bytes  int           // size of rrs
}

func newReading(name string) *reading { return &reading{name: name, ttl: maxTTL, secure: true} }

// add reads m, the answer to a question for r.name. Only records in the answer section count whose owner is the name asked for, or one that
// CNAMEs from there lead to: whatever else a message holds may be planted.
func (r *reading) add(m *dns.Msg, typ uint16) error {
	r.secure = r.secure && m.AuthenticatedData
	start := r.name
	for {
		var alias *dns.CNAME
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || !sameName(h.Name, r.name) {
				continue
			}
			switch {
			case h.Rrtype == typ:
				r.rrs = append(r.rrs, rr)
				r.bytes += dns.Len(rr)
				r.ttl = min(r.ttl, recordTTL(h.Ttl))
			case h.Rrtype == dns.TypeCNAME && alias == nil:
				alias, _ = rr.(*dns.CNAME)
			}
		}
		if len(r.rrs) > 0 {
			r.final = true
			return nil
		}
		if alias == nil {
			break
		}
		target, ok := queryName(alias.Target)
		if !ok {
			return fmt.Errorf("a CNAME leads to %.100q", alias.Target)
		}
		if r.links++; r.links > maxLinks {
			return errLinks
		}
		r.name = target
		r.ttl = min(r.ttl, recordTTL(alias.Hdr.Ttl))
	}
	authority, known := negativeTTL(m, r.name)
	if m.Rcode == dns.RcodeNameError {
		r.absent, r.final = true, true // of the last name in the chain (RFC 6604, 3)
	} else if known || r.name == start {
		r.final = true
	}
	// Otherwise the server followed the chain no further, and the rest has to be asked for.
	if r.final {
		r.ttl = min(r.ttl, authority)
	}
	return nil
}

// sameName compares a name of a message with one in lower case without a trailing dot.
func sameName(fqdn, name string) bool {
	return len(fqdn) == len(name)+1 && fqdn[len(name)] == '.' && strings.EqualFold(fqdn[:len(name)], name)
}

// recordTTL clamps; a TTL with the top bit set is 0 (RFC 2181, 8).
func recordTTL(ttl uint32) time.Duration {
	if ttl > math.MaxInt32 {
		return 0
	}
	return min(time.Duration(ttl)*time.Second, maxTTL)
}

// negativeTTL is how long it may be believed that there is nothing, as the SOA record says (RFC 2308, 5), and whether there is one.
func negativeTTL(m *dns.Msg, name string) (ttl time.Duration, known bool) {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name+".") {
			return min(recordTTL(soa.Hdr.Ttl), recordTTL(soa.Minttl)), true
		}
	}
	return 0, false
}

// The functions below turn records, all of the type asked for, into ours.

func readMX(rrs []dns.RR) ([]mtakit.MX, error) {
	list := make([]mtakit.MX, 0, len(rrs))
	for _, rr := range rrs {
		mx, ok := rr.(*dns.MX)
		if !ok {
			continue
		}
		if mx.Mx == "." {
			list = append(list, mtakit.MX{Host: ".", Pref: mx.Preference})
		} else if host, ok := hostName(mx.Mx); ok {
			list = append(list, mtakit.MX{Host: host, Pref: mx.Preference})
		}
	}
	if len(list) == 0 {
		return nil, errBadMX // not the same as no MX record at all, which means the domain itself
	}
	// The best come first, so that the limit takes the others.
	slices.SortFunc(list, func(a, b mtakit.MX) int {
		return cmp.Or(cmp.Compare(a.Pref, b.Pref), strings.Compare(a.Host, b.Host))
	})
	list = slices.Compact(list)
	return list[:min(len(list), maxRecords)], nil
}

func readAddr(rrs []dns.RR) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, rr := range rrs[:min(len(rrs), maxRecords)] {
		switch rr := rr.(type) {
		case *dns.A:
			if a, ok := netip.AddrFromSlice(rr.A.To4()); ok {
				list = append(list, a)
			}
		case *dns.AAAA:
			if a, ok := netip.AddrFromSlice(rr.AAAA); ok && !a.Is4In6() { // mapped addresses don't belong into the DNS
				list = append(list, a)
			}
		}
	}
	if len(list) == 0 {
		return nil, errNoData
	}
	return list, nil
}

func readTXT(rrs []dns.RR) ([]string, error) {
	var list []string
	for _, rr := range rrs[:min(len(rrs), maxRecords)] {
		if txt, ok := rr.(*dns.TXT); ok {
			list = append(list, unescapeTXT(txt.Txt))
		}
	}
	return list, nil
}

// unescapeTXT joins the strings of a record, which the codec gives with \" \\ and \DDD in them.
func unescapeTXT(parts []string) string {
	var b strings.Builder
	for _, s := range parts {
		for i := 0; i < len(s); i++ {
			c := s[i]
			if c == '\\' && i+1 < len(s) {
				i++
				c = s[i]
				if '0' <= c && c <= '9' && i+2 < len(s) {
					c = (s[i]-'0')*100 + (s[i+1]-'0')*10 + s[i+2] - '0'
					i += 2
				}
			}
			b.WriteByte(c)
		}
	}
	return b.String()
}

func readTLSA(rrs []dns.RR) ([]mtakit.TLSA, error) {
	var list []mtakit.TLSA
	for _, rr := range rrs[:min(len(rrs), maxRecords)] {
		if t, ok := rr.(*dns.TLSA); ok {
			data, err := hex.DecodeString(t.Certificate)
			if err != nil {
				return nil, err
			}
			list = append(list, mtakit.TLSA{Usage: t.Usage, Selector: t.Selector, Matching: t.MatchingType, Data: data})
		}
	}
	return list, nil
}
