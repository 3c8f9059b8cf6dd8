package smtpclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// proxy is what a source says about the one it goes through.
type proxy struct {
	protocol string // haproxy or socks5
	server   string // host:port
	source   netip.Addr
	option   string // name of what source was set with
	shake    func(e *Egress, nc net.Conn, src *mtakit.Source, dest netip.AddrPort) (local netip.AddrPort, err error)
}

// proxyOf is the proxy of a source, nil if there is none. A server without a source address is not engaged, nor the other way round.
func proxyOf(s *mtakit.Source) *proxy {
	switch {
	case s.HAProxyServer != "" && s.HAProxySourceAddress.IsValid():
		return &proxy{"haproxy", s.HAProxyServer, s.HAProxySourceAddress.Unmap(), "ha_proxy_source_address", haproxy}
	case s.SOCKS5Server != "" && s.SOCKS5SourceAddress.IsValid():
		return &proxy{"socks5", s.SOCKS5Server, s.SOCKS5SourceAddress.Unmap(), "socks5_proxy_source_address", socks5}
	}
	return nil
}

// dialProxy tries the addresses of the proxy in turn, all within the one deadline of ctx.
func (e *Egress) dialProxy(ctx context.Context, src *mtakit.Source, via *proxy, dest netip.AddrPort, wait time.Duration) (*dialed, error) {
	if via.source.Is4() != dest.Addr().Is4() {
		return nil, &textError{text: fmt.Sprintf("Skipping %s because %s %s address family does not match the destination address family %s",
			src.Name, via.option, via.source, dest.Addr())}
	}
	servers, err := e.proxyAddrs(ctx, src, via.server)
	if err != nil {
		return nil, e.sourceFailed(src, ProxyFailed, err, fmt.Sprintf("the proxy %s of source %s cannot be found: %v", via.server, src.Name, err))
	}
	var errs []error
	for _, server := range servers {
		nc, err := e.open(ctx, src, dest, server, via.protocol, wait)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		local, err := e.shake(ctx, nc, src, via, server, dest, wait)
		if err == nil {
			return &dialed{Conn: nc, local: local, proxy: server, protocol: via.protocol}, nil
		}
		nc.Close()
		errs = append(errs, err)
	}
	return nil, combine(src, servers, errs)
}

// shake speaks the proxy's protocol.
func (e *Egress) shake(ctx context.Context, nc net.Conn, src *mtakit.Source, via *proxy, server, dest netip.AddrPort, wait time.Duration) (netip.AddrPort, error) {
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	local, err := via.shake(e, nc, src, dest)
	if !stop() { // the deadline may still be about to be set
		if err == nil {
			err = context.Cause(ctx)
		}
	}
	if err == nil {
		return local, nil
	}
	what := fmt.Sprintf("%s transport=%s proto=%s", dest, server, via.protocol)
	if status := (*bindStatus)(nil); errors.As(err, &status) {
		return local, e.sourceFailed(src, ProxyBindFailed, err, fmt.Sprintf("The proxy server failed to bind %s via %s: %v", via.source, what, status))
	}
	text := fmt.Sprintf("failed to connect to %s: proxy handshake: %v", what, cause(err))
	if context.Cause(ctx) == os.ErrDeadlineExceeded {
		text = fmt.Sprintf("timeout after %s while performing proxy handshake with %s", mtakit.Duration(wait), what)
	}
	return local, e.sourceFailed(src, ProxyHandshake, err, text)
}

// combine makes one error of those of all candidates.
func combine(src *mtakit.Source, servers []netip.AddrPort, errs []error) error {
	kinds := map[SourceFailure]bool{}
	var texts []string
	for i, err := range errs {
		if se := (*SourceError)(nil); errors.As(err, &se) {
			kinds[se.Kind] = true
		}
		texts = append(texts, servers[i].String()+": "+err.Error())
	}
	if len(errs) == 1 || len(kinds) == 1 && (kinds[Unplumbed] || kinds[BindFailed] || kinds[ProxyBindFailed]) {
		return errs[0]
	}
	return &SourceError{Source: src.Name, Kind: ProxyFailed, Err: errors.Join(errs...),
		text: fmt.Sprintf("failed to connect via any of %d candidate(s) for source %s: %s", len(errs), src.Name, strings.Join(texts, "; "))}
}

// proxyAddrs is where the proxy may be reached, in the family of the source address where there is one.
func (e *Egress) proxyAddrs(ctx context.Context, src *mtakit.Source, server string) ([]netip.AddrPort, error) {
	h, err := mtakit.ParseHost(server)
	if err != nil {
		return nil, err
	}
	if h.Port == 0 {
		return nil, fmt.Errorf("%q has no port", server)
	}
	addrs := h.Addrs
	if len(addrs) == 0 {
		if addrs, _, err = e.addresses(ctx, h.Name, mtakit.IPv4AndIPv6); err != nil {
			return nil, err
		}
	}
	var list []netip.AddrPort
	for _, a := range addrs {
		if a = a.Unmap(); !src.SourceAddress.IsValid() || src.SourceAddress.Unmap().Is4() == a.Is4() {
			list = append(list, netip.AddrPortFrom(a, h.Port))
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("it has no address in the family of %s", src.SourceAddress)
	}
	return list, nil
}

// haproxy sends the PROXY protocol's binary header, version 2; nothing comes back.
func haproxy(_ *Egress, nc net.Conn, src *mtakit.Source, dest netip.AddrPort) (netip.AddrPort, error) {
	from := netip.AddrPortFrom(src.HAProxySourceAddress.Unmap(), 0)
	b := append(make([]byte, 0, 52), "\r\n\r\n\x00\r\nQUIT\n\x21"...) // signature; version 2, command PROXY
	if from.Addr().Is4() {
		b = append(b, 0x11, 0, 12) // TCP over IPv4
	} else {
		b = append(b, 0x21, 0, 36) // TCP over IPv6
	}
	b = append(append(b, from.Addr().AsSlice()...), dest.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, from.Port()), dest.Port())
	_, err := nc.Write(b)
	return from, err
}

// bindStatus is a SOCKS5 reply to BIND other than success.
type bindStatus struct{ code byte }

func (s *bindStatus) Error() string { return socksStatus(s.code) }

func socksStatus(code byte) string {
	names := []string{"succeeded", "general SOCKS server failure", "connection not allowed by ruleset", "network unreachable", "host unreachable",
		"connection refused", "TTL expired", "command not supported", "address type not supported"}
	if int(code) < len(names) {
		return names[code]
	}
	return fmt.Sprintf("status %d", code)
}

// socks5 asks the proxy (RFC 1928) to bind the source address, which BIND says in an extension of KumoMTA's proxy, and then to
// connect.
func socks5(e *Egress, nc net.Conn, src *mtakit.Source, dest netip.AddrPort) (local netip.AddrPort, err error) {
	if err := e.socksGreet(nc, src); err != nil {
		return local, err
	}
	const connect, bind = 1, 2
	code, _, err := socksRequest(nc, bind, netip.AddrPortFrom(src.SOCKS5SourceAddress.Unmap(), 0))
	if err != nil {
		return local, err
	}
	if code != 0 {
		return local, &bindStatus{code}
	}
	code, local, err = socksRequest(nc, connect, dest)
	if err == nil && code != 0 {
		err = errors.New(socksStatus(code))
	}
	return local, err
}

// socksGreet agrees on a method and, if it is that, authenticates with user and password (RFC 1929).
func (e *Egress) socksGreet(nc net.Conn, src *mtakit.Source) error {
	const none, password = 0, 2
	hello := []byte{5, 1, none}
	var secret []byte
	if src.SOCKS5Username != "" && src.SOCKS5Password != nil {
		var err error
		if secret, err = e.secret(src.SOCKS5Password); err != nil {
			return err
		}
		if len(src.SOCKS5Username) > 255 || len(secret) > 255 {
			return errors.New("the user name or password for the proxy is longer than 255 bytes")
		}
		hello = []byte{5, 2, none, password}
	}
	if _, err := nc.Write(hello); err != nil {
		return err
	}
	var r [2]byte
	if _, err := io.ReadFull(nc, r[:]); err != nil {
		return err
	}
	switch {
	case r[0] != 5:
		return errors.New("it is not a SOCKS5 proxy")
	case r[1] == none:
		return nil
	case r[1] != password || secret == nil:
		return errors.New("no acceptable authentication method")
	}
	b := append([]byte{1, byte(len(src.SOCKS5Username))}, src.SOCKS5Username...)
	if _, err := nc.Write(append(append(b, byte(len(secret))), secret...)); err != nil {
		return err
	}
	if _, err := io.ReadFull(nc, r[:]); err != nil {
		return err
	}
	if r[1] != 0 {
		return fmt.Errorf("authentication as %s failed", src.SOCKS5Username)
	}
	return nil
}

func socksRequest(nc net.Conn, command byte, addr netip.AddrPort) (code byte, bound netip.AddrPort, err error) {
	kind := byte(1)
	if addr.Addr().Is6() {
		kind = 4
	}
	b := append([]byte{5, command, 0, kind}, addr.Addr().AsSlice()...)
	if _, err := nc.Write(binary.BigEndian.AppendUint16(b, addr.Port())); err != nil {
		return 0, bound, err
	}
	var head [5]byte // up to the first byte of the address
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return 0, bound, err
	}
	n := 0
	switch head[3] {
	case 1:
		n = 4
	case 4:
		n = 16
	case 3:
		n = int(head[4]) + 1
	default:
		return 0, bound, fmt.Errorf("a reply with address type %d", head[3])
	}
	rest := make([]byte, n+2)
	rest[0] = head[4]
	if _, err := io.ReadFull(nc, rest[1:]); err != nil {
		return 0, bound, err
	}
	if a, ok := netip.AddrFromSlice(rest[:n]); ok && head[3] != 3 {
		bound = netip.AddrPortFrom(a, binary.BigEndian.Uint16(rest[n:]))
	}
	return head[1], bound, nil
}
