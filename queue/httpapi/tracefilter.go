package httpapi

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/mtakit/mtakit"
)

// ClientTraceRequest is the first frame of a client of trace-smtp-client. An empty list matches everything, and so does a list of a property that a
// session has not got, or not yet.
type ClientTraceRequest struct {
	Campaign      []string        `json:"campaign"`
	Tenant        []string        `json:"tenant"`
	Domain        []string        `json:"domain"`
	RoutingDomain []string        `json:"routing_domain"`
	EgressPool    []string        `json:"egress_pool"`
	EgressSource  []string        `json:"egress_source"`
	MXHost        []string        `json:"mx_host"`
	MailFrom      []string        `json:"mail_from"`
	RcptTo        []string        `json:"rcpt_to"`
	ReadyQueue    []string        `json:"ready_queue"`
	SourceAddr    mtakit.Prefixes `json:"source_addr"`
	MXAddr        mtakit.Prefixes `json:"mx_addr"`
	Terse         bool            `json:"terse,omitempty"` // of what has several lines, only the first one and the size
}

func (r *ClientTraceRequest) wants(e *mtakit.TraceEvent) bool {
	for _, f := range [...]struct {
		key  string
		want []string
	}{
		{"campaign", r.Campaign}, {"tenant", r.Tenant}, {"egress_pool", r.EgressPool}, {"egress_source", r.EgressSource}, {"sender", r.MailFrom},
		{"ready_queue_name", r.ReadyQueue},
	} {
		if has, ok := e.Meta[f.key].(string); ok && len(f.want) > 0 && !slices.Contains(f.want, has) {
			return false
		}
	}
	for _, f := range [...]struct {
		key  string
		want []string
	}{{"domain", r.Domain}, {"routing_domain", r.RoutingDomain}, {"mx_host", r.MXHost}} {
		if has, ok := e.Meta[f.key].(string); ok && len(f.want) > 0 && !slices.ContainsFunc(f.want, func(s string) bool { return sameHost(s, has) }) {
			return false
		}
	}
	if to, ok := e.Meta["recipient"].([]string); ok && len(r.RcptTo) > 0 && !slices.ContainsFunc(to, func(s string) bool { return slices.Contains(r.RcptTo, s) }) {
		return false
	}
	return within(r.SourceAddr, e.Meta["source_address"]) && within(r.MXAddr, e.Meta["mx_address"])
}

// sameHost compares names of hosts, which KumoMTA shows with a dot at the end.
func sameHost(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

// ServerTraceRequest is the first frame of a client of trace-smtp-server.
type ServerTraceRequest struct {
	SourceAddr mtakit.Prefixes `json:"source_addr"` // of the peer; empty is all
	Terse      bool            `json:"terse,omitempty"`
}

func (r *ServerTraceRequest) wants(e *mtakit.TraceEvent) bool {
	return within(r.SourceAddr, e.Meta["received_from"])
}

// within says whether an address, with its port or without, is in one of the networks. What is no address is.
func within(networks mtakit.Prefixes, address any) bool {
	s, ok := address.(string)
	if !ok || len(networks) == 0 {
		return true
	}
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return true
	}
	return networks.Contains(addr.Unmap())
}
