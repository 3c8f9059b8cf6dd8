// Package sink is a destination for mail: an SMTP server that accepts, defers, throttles or refuses by rule, and counts. The program of that name
// serves it, and so does kumod demo.
package sink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit/examples/internal/ledger"
)

// Server is an SMTP destination. Its fields are set before Serve.
type Server struct {
	Hostname string
	Rules    Rules
	TLS      *tls.Config    // nil: no STARTTLS
	Ledger   *ledger.Ledger // nil: none
	Dump     string         // directory; "" is none
	Limit    int64          // messages after which Stop is called; 0 is none
	Stop     func()

	dumped atomic.Int64
	stats  stats
}

// Serve takes connections, each in a goroutine, until ctx ends and all of them have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		nc, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			s.stats.fail(err)
			// Out of descriptors, most likely: they come back when clients leave.
			if !sleep(ctx, 50*time.Millisecond) {
				return nil
			}
			continue
		}
		s.stats.connected()
		wg.Go(func() {
			defer s.stats.open.Add(-1)
			(&conn{srv: s, reader: reader{nc: nc}}).serve(ctx)
		})
	}
}

// SelfSigned makes a certificate for host that lasts a year.
func SelfSigned(host string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}
