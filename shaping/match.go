package shaping

import (
	"context"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

type matchKind uint8

const (
	domainSuffix matchKind = iota
	mxSuffix
	hostName
)

var matchKinds = map[string]matchKind{"DomainSuffix": domainSuffix, "MXSuffix": mxSuffix, "HostName": hostName}

// matchRule compares text as it is written: a suffix may begin within a label.
type matchRule struct {
	kind matchKind
	text string
}

func readMatch(v *datafile.Value, r *datafile.Report) (rules []matchRule) {
	if v.Kind != datafile.Array {
		r.Errorf(v.Place, "match: expected an array of rules, got %s", v.What())
		return nil
	}
	for _, item := range v.Items {
		if item.Kind != datafile.Table || len(item.Entries) != 1 {
			r.Errorf(item.Place, "match: expected a table with one of DomainSuffix, MXSuffix and HostName, got %s", item.What())
			continue
		}
		e := item.Entries[0]
		kind, ok := matchKinds[e.Key]
		if !ok {
			datafile.Unknown(e, []string{"DomainSuffix", "MXSuffix", "HostName"}, r)
			continue
		}
		rule := matchRule{kind: kind}
		if !datafile.Decode(e.Value, &rule.text, e.Key, r) {
			continue
		}
		if strings.HasSuffix(rule.text, ".") {
			r.Warnf(e.Value.Place, "%s %s ends in a dot; it matches nothing, since names are compared without their last dot", e.Key, rule.text)
		}
		rules = append(rules, rule)
	}
	return rules
}

// byDomain says whether a provider takes the domain for its name alone.
func byDomain(rules []matchRule, domain string) bool {
	for _, m := range rules {
		if m.kind == domainSuffix && strings.HasSuffix(domain, m.text) {
			return true
		}
	}
	return false
}

// byHosts says whether each of the hosts is one of the provider's.
func byHosts(rules []matchRule, hosts []mtakit.Host) bool {
	for _, h := range hosts {
		name, found := strings.TrimSuffix(h.Name, "."), false
		for _, m := range rules {
			if m.kind == mxSuffix && strings.HasSuffix(name, m.text) || m.kind == hostName && name == m.text {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return len(hosts) > 0
}

func needsHosts(rules []matchRule) bool {
	for _, m := range rules {
		if m.kind != domainSuffix {
			return true
		}
	}
	return false
}

// providers appends the numbers of the providers that match the domain. The site saves a look-up, unless it is nil or a list of hosts
// that was configured. final is false if a look-up failed, so that the next one may have another result.
func (s *Shaping) providers(ctx context.Context, domain string, site *mtakit.Site, dst []int) (matched []int, final bool) {
	if len(s.provider.list) == 0 || !isDNSName(domain) {
		return dst, true
	}
	name, final := strings.TrimSuffix(domain, "."), true
	if site != nil && strings.HasPrefix(site.Name, "mx_list:") {
		site = nil
	}
	asked := site != nil
	for i, p := range s.provider.list {
		if byDomain(p.match, name) {
			dst = append(dst, i)
			continue
		}
		if !needsHosts(p.match) {
			continue
		}
		if !asked && s.router != nil {
			var err error
			if site, err = s.router.Route(ctx, domain); err != nil {
				site, final = nil, false
			}
		}
		asked = true
		if site != nil && byHosts(p.match, site.Hosts) {
			dst = append(dst, i)
		}
	}
	return dst, final
}

// isDNSName says whether providers can match s: letters, digits, - and _ between dots, a leading *, or IDN.
func isDNSName(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if s == "" {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c >= 0x80:
		default:
			return false
		}
	}
	return true
}
