package routetest

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// zones is what the server knows. It is immutable.
type zones struct {
	records map[string][]dns.RR // by owner, lower case
	names   map[string]bool     // owners and every name above one
}

// parseZones reads the lines of master files.
func parseZones(text string) (*zones, error) {
	z := &zones{records: make(map[string][]dns.RR), names: make(map[string]bool)}
	rrs, err := records(text)
	for _, rr := range rrs {
		owner := strings.ToLower(rr.Header().Name)
		z.records[owner] = append(z.records[owner], rr)
		for name := owner; name != "."; name = parent(name) {
			z.names[name] = true
		}
	}
	return z, err
}

// parent is a fully qualified name without its first label.
func parent(name string) string {
	next, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[next:]
}

// answer fills m, a reply to its question, as an authoritative server would that serves all zones.
func (z *zones) answer(m *dns.Msg) {
	q := m.Question[0]
	name := strings.ToLower(q.Name)
	for range 16 { // CNAMEs may run in a loop
		owned, exists := z.at(name)
		found := z.of(owned, q.Qtype, name)
		m.Answer = append(m.Answer, found...)
		if len(found) > 0 {
			return
		}
		alias := z.of(owned, dns.TypeCNAME, name)
		if len(alias) == 0 {
			if !exists {
				m.Rcode = dns.RcodeNameError
			}
			m.Ns = z.soa(name)
			return
		}
		m.Answer = append(m.Answer, alias...)
		name = strings.ToLower(alias[0].(*dns.CNAME).Target)
	}
}

// at gives the owner of the records for name, which is a wildcard where the name itself does not exist, and whether there is something.
func (z *zones) at(name string) (owner string, exists bool) {
	if z.names[name] {
		return name, true
	}
	for up := parent(name); ; up = parent(up) {
		if wild := "*." + strings.TrimPrefix(up, "."); z.names[wild] {
			return wild, true
		}
		if z.names[up] || up == "." {
			return name, false
		}
	}
}

// of gives copies of the owner's records of the type, under name.
func (z *zones) of(owner string, typ uint16, name string) []dns.RR {
	var list []dns.RR
	for _, rr := range z.records[owner] {
		if rr.Header().Rrtype == typ {
			rr = dns.Copy(rr)
			rr.Header().Name = name
			list = append(list, rr)
		}
	}
	return list
}

// soa is the SOA record of the zone that name is in.
func (z *zones) soa(name string) []dns.RR {
	for ; name != "."; name = parent(name) {
		if list := z.of(name, dns.TypeSOA, name); len(list) > 0 {
			return slices.Clip(list)
		}
	}
	return nil
}

// records reads lines of a master file. Names are absolute, with or without a trailing dot; the TTL may be left out. Unlike in a master file lines
// may be indented, as they are within the code of a test, and each has its owner.
func records(text string) ([]dns.RR, error) {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], " \t")
	}
	var list []dns.RR
	p := dns.NewZoneParser(strings.NewReader(strings.Join(lines, "\n")), ".", "")
	p.SetDefaultTTL(300)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		list = append(list, rr)
	}
	return list, p.Err()
}
