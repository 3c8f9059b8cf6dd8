package smtpclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/uuid"
)

// Egress is [mtakit.Egress] over SMTP and LMTP. The zero value works. Its exported fields must not be changed once it is in use; it
// must not be copied, and is safe for concurrent use. It is a [mtakit.Collector] too.
type Egress struct {
	// Resolver finds the addresses of hosts. Nil is the system's, without a cache of its own.
	Resolver mtakit.Resolver

	// Hostname is what we call ourselves where neither path nor source has a name. "" is the name of the machine.
	Hostname string

	// Dial makes a TCP connection from local, which is invalid where the system chooses, to remote. Nil is the system's.
	Dial func(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error)

	// RootCAs is what certificates are verified with. Nil is the system's store, which SSL_CERT_FILE and SSL_CERT_DIR move.
	RootCAs *x509.CertPool

	// TLSConfig has the last word on how the connection to a host is encrypted.
	TLSConfig func(p *mtakit.Path, host string, c *tls.Config)

	// Trace gives the functions that follow a session; it, and what it returns, may be nil. While a session has none it is asked again with each
	// message. info has the session's ID, and the peer where there is one.
	Trace func(p *mtakit.Path, info *mtakit.SessionInfo) *Trace

	// SourceFailed is told of failures that the health of a source is judged by; health is [HealthUnplumbed] or [HealthProxy]. It must
	// not block.
	SourceFailed func(s *mtakit.Source, health string, err error)

	// Log is where hosts are named that cannot be looked up. Nil is nowhere.
	Log *slog.Logger

	stats    stats
	sys      sync.Once
	sysRoots *x509.CertPool
	sysErr   error

	// mu guards what is remembered.
	mu        sync.Mutex
	brokenTLS map[string]time.Time // until when, by the name of the ready queue
	secrets   map[string]kept[[]byte]
	pairs     map[string]kept[*tls.Certificate]
}

var (
	_ mtakit.Egress    = (*Egress)(nil)
	_ mtakit.Collector = (*Egress)(nil)
	_ mtakit.Redialer  = (*session)(nil)
)

// Connect resolves the hosts of the path's site and goes through their addresses until one takes us: banner, EHLO, TLS and AUTH as
// the path says. The session is a [mtakit.Redialer]. The error is a [*mtakit.PathError] if no address may be used at all, else a
// [*ConnectError] with the reasons of every address.
func (e *Egress) Connect(ctx context.Context, p *mtakit.Path) (mtakit.Session, error) {
	if p.Site == nil {
		return nil, fmt.Errorf("smtpclient: the path %s has no site", p.Name)
	}
	if p.PathConfig == nil {
		c := mtakit.DefaultPathConfig()
		q := *p
		q.PathConfig = &c
		p = &q
	}
	s := &session{e: e, path: p}
	s.info.ID = uuid.New()
	s.watch()
	plan, failed, err := e.plan(ctx, p)
	for _, ferr := range failed {
		s.trace.note(slog.LevelWarn, ferr.Error())
		if e.Log != nil {
			e.Log.WarnContext(ctx, "host skipped", "site", p.Site.Name, "err", ferr)
		}
	}
	if err != nil {
		if pe, ok := errors.AsType[*mtakit.PathError](err); ok && pe.Reason == ReasonNullMX {
			s.trace.plan(nil)
		}
		s.trace.note(slog.LevelError, err.Error())
		return nil, err
	}
	s.plan = plan
	s.trace.plan(plan)
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (e *Egress) resolver() mtakit.Resolver {
	if e.Resolver != nil {
		return e.Resolver
	}
	return systemResolver{}
}

// helloName is what we call ourselves.
func (e *Egress) helloName(p *mtakit.Path) string {
	name := p.EHLODomain
	if p.Source != nil {
		name = cmp.Or(name, p.Source.EHLODomain)
	}
	if name = cmp.Or(name, e.Hostname); name == "" {
		name, _ = os.Hostname()
	}
	return cmp.Or(name, "[127.0.0.1]")
}

// rememberBroken notes that TLS with the path's site doesn't work; isBroken asks.
func (e *Egress) rememberBroken(p *mtakit.Path) {
	d := p.RememberBrokenTLS.Std()
	if d <= 0 {
		if !p.OpportunisticTLSReconnectOnFailedHandshake {
			return
		}
		d = 15 * time.Minute
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.brokenTLS == nil {
		e.brokenTLS = map[string]time.Time{}
	}
	for name, until := range e.brokenTLS {
		if !now.Before(until) {
			delete(e.brokenTLS, name)
		}
	}
	e.brokenTLS[p.Name] = now.Add(d)
}

func (e *Egress) isBroken(p *mtakit.Path) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	until, ok := e.brokenTLS[p.Name]
	return ok && time.Now().Before(until)
}
