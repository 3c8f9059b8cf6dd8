package route

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/mtakit/mtakit"
)

// maxSiteName bounds the length of a site name, which is written into queue names, records and metrics. Only a set of hosts made to be
// long gets there; its name is cut and ends with a hash of the whole.
const maxSiteName = 4096

// SiteName is the name of all hosts together, as KumoMTA forms it: labels aligned from the right, those of one position that differ in
// parentheses, and a question mark where a host has no label. It depends on the order of the hosts: preference by preference, sorted by name
// within each. The port of a host sticks to its last label.
//
//	m1.x.net, m2.x.net                                      (m1|m2).x.net
//	in.l.example, alt1.in.l.example, alt2.in.l.example      (alt1|alt2)?.in.l.example
//
// A null MX has the empty name, a host that is an address has that address.
func SiteName(hosts []mtakit.Host) string {
	if len(hosts) == 0 || len(hosts) == 1 && hosts[0].Name == "." {
		return ""
	}
	if len(hosts) == 1 {
		return hostLabel(hosts[0])
	}
	type position struct {
		labels []string // in the order in which they were seen
		hosts  int      // that have a label here
	}
	var positions []position // the last label first
	for _, h := range hosts {
		labels := strings.Split(hostLabel(h), ".")
		slices.Reverse(labels)
		for i, l := range labels {
			if i == len(positions) {
				positions = append(positions, position{})
			}
			p := &positions[i]
			p.hosts++
			if !slices.Contains(p.labels, l) {
				p.labels = append(p.labels, l)
			}
		}
	}
	var b strings.Builder
	for i, p := range slices.Backward(positions) {
		if len(p.labels) == 1 {
			b.WriteString(p.labels[0])
		} else {
			b.WriteString("(" + strings.Join(p.labels, "|") + ")")
		}
		if p.hosts < len(hosts) {
			b.WriteByte('?')
		}
		if i > 0 {
			b.WriteByte('.')
		}
	}
	name := b.String()
	if len(name) > maxSiteName {
		sum := sha256.Sum256([]byte(name))
		name = name[:maxSiteName-33] + "~" + hex.EncodeToString(sum[:16])
	}
	return name
}

// hostLabel is the host with its port, as it goes into a site name.
func hostLabel(h mtakit.Host) string {
	switch {
	case h.Port == 0:
		return h.Name
	case strings.Contains(h.Name, ":"):
		return "[" + h.Name + "]:" + strconv.Itoa(int(h.Port))
	}
	return h.Name + ":" + strconv.Itoa(int(h.Port))
}
