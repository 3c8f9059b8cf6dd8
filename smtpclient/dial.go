package smtpclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/mtakit/mtakit"
)

// dialed is a connection to a candidate, and how it was made.
type dialed struct {
	net.Conn
	local    netip.AddrPort // what records give as the source's address
	proxy    netip.AddrPort
	protocol string
}

// dial connects to the candidate from the source: through its HAProxy, else through its SOCKS5 proxy, else directly.
func (e *Egress) dial(ctx context.Context, p *mtakit.Path, c Candidate) (*dialed, error) {
	wait := phaseTimeout(p.PathConfig, PhaseConnect)
	ctx, cancel := context.WithTimeoutCause(ctx, wait, os.ErrDeadlineExceeded)
	defer cancel()
	src := p.Source
	if src == nil {
		src = &mtakit.Source{Name: mtakit.Unspecified}
	}
	via := proxyOf(src)
	if via == nil {
		nc, err := e.open(ctx, src, c.Addr, c.Addr, "direct", wait)
		if err != nil {
			return nil, err
		}
		d := &dialed{Conn: nc}
		if a, ok := nc.LocalAddr().(interface{ AddrPort() netip.AddrPort }); ok {
			d.local = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
		}
		return d, nil
	}
	return e.dialProxy(ctx, src, via, c.Addr, wait)
}

// open makes the connection to transport, on the way to dest.
func (e *Egress) open(ctx context.Context, src *mtakit.Source, dest, transport netip.AddrPort, proto string, wait time.Duration) (net.Conn, error) {
	what := fmt.Sprintf("%s transport=%s proto=%s", dest, transport, proto)
	nc, err := e.connector()(ctx, src.SourceAddress, transport)
	if err == nil {
		return nc, nil
	}
	if sys := (*os.SyscallError)(nil); errors.As(err, &sys) && sys.Syscall == "bind" {
		e.stats.bind.Inc()
		kind := BindFailed
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			kind = Unplumbed
		}
		return nil, e.sourceFailed(src, kind, err, fmt.Sprintf("bind %s for %s failed: %v while attempting to connect to %s",
			src.SourceAddress, src.Name, sys.Err, what))
	}
	text := fmt.Sprintf("failed to connect to %s: %v", what, cause(err))
	if context.Cause(ctx) == os.ErrDeadlineExceeded {
		text = fmt.Sprintf("timeout after %s while connecting to %s", mtakit.Duration(wait), what)
	}
	if proto != "direct" {
		e.stats.proxy.Inc()
		return nil, e.sourceFailed(src, ProxyFailed, err, text)
	}
	return nil, &textError{text, err}
}

// cause takes off what net wraps around an error of the system, since the addresses are said already.
func cause(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err
	}
	return err
}

// textError says text in place of what the error it wraps does.
type textError struct {
	text string
	err  error
}

func (e *textError) Error() string { return e.text }
func (e *textError) Unwrap() error { return e.err }

// sourceFailed counts a failure of the source, tells of it, and gives it as an error.
func (e *Egress) sourceFailed(src *mtakit.Source, kind SourceFailure, err error, text string) error {
	se := &SourceError{Source: src.Name, Kind: kind, Err: err, text: text}
	if h := kind.health(); h != "" {
		e.stats.source(src.Name, h)
		if e.SourceFailed != nil {
			e.SourceFailed(src, h, se)
		}
	}
	return se
}

func (e *Egress) connector() func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
	if e.Dial != nil {
		return e.Dial
	}
	return dialTCP
}

// dialTCP is what an Egress dials with. There are no keep-alives: each wait has a deadline.
func dialTCP(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: control}
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	network := "tcp4"
	if remote.Addr().Is6() {
		network = "tcp6"
	}
	if local.IsValid() && local.Is4() != remote.Addr().Is4() {
		return nil, os.NewSyscallError("bind", syscall.EAFNOSUPPORT)
	}
	return d.DialContext(ctx, network, remote.String())
}
