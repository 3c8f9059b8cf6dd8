package main

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

// server is an SMTP destination. Its fields are set before serve.
type server struct {
	hostname string
	rules    rules
	tls      *tls.Config    // nil: no STARTTLS
	ledger   *ledger.Ledger // nil: none
	dump     string         // directory; "" is none
	limit    int64          // messages after which stop is called; 0 is none
	stop     func()

	dumped atomic.Int64
	stats  stats
}

// serve takes connections, each in a goroutine, until ctx ends and all of them have ended.
func (s *server) serve(ctx context.Context, l net.Listener) error {
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

// selfSigned makes a certificate for host that lasts a year.
func selfSigned(host string) (*tls.Config, error) {
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
