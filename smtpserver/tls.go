package smtpserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
)

// tlsInfo is what metadata, records and trace headers say about an encrypted connection.
type tlsInfo struct {
	version, cipher string
	subject         []string // KEY=VALUE of the client's certificate
}

// startTLS is STARTTLS (RFC 3207). Everything the client said before is forgotten. What it said behind STARTTLS, in the clear, would count as
// said under TLS: that ends the connection, as does a handshake that fails.
func (s *Session) startTLS(arg string) error {
	switch {
	case arg != "":
		s.syntaxError("")
		return nil
	case s.tls != nil:
		s.reply(501, enhanced{}, "Cannot STARTTLS as TLS is already active")
		return nil
	case len(s.buffered()) > 0:
		s.unread(nil)
		s.log(slog.LevelWarn, "input behind STARTTLS")
		s.reply(421, enhanced{4, 7, 0}, s.opt.Hostname, " input behind STARTTLS")
		return nil
	}
	if s.reply(220, enhanced{}, "Ready to Start TLS") != 220 {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	config := s.opt.TLS
	if config == nil {
		config = s.srv.selfSigned()
	}
	c := tls.Server(s.conn, config)
	if err := s.conn.SetDeadline(time.Now().Add(s.opt.ClientTimeout)); err != nil {
		return err
	}
	if err := c.HandshakeContext(s.ctx); err != nil {
		s.diagnose(slog.LevelError, "STARTTLS handshake failed: "+err.Error())
		s.log(slog.LevelInfo, "STARTTLS handshake failed", "err", err)
		s.hangup = true
		return nil
	}
	s.conn = c
	s.secured(c.ConnectionState())
	return nil
}

// secured is after a handshake.
func (s *Session) secured(state tls.ConnectionState) {
	s.reset()
	s.helo, s.domains = "", nil
	delete(s.meta, mtakit.MetaEHLODomain)
	s.tls = &tlsInfo{
		version: strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1), cipher: tls.CipherSuiteName(state.CipherSuite),
	}
	s.meta[mtakit.MetaTLSProtocol] = s.tls.version
	s.meta[mtakit.MetaTLSCipher] = s.tls.cipher
	if len(state.PeerCertificates) > 0 {
		s.tls.subject = subject(state.PeerCertificates[0].Subject)
		s.meta[mtakit.MetaTLSPeerSubject] = s.tls.subject
	}
}

// subject lists the attributes of a distinguished name as KEY=VALUE.
func subject(n pkix.Name) (attrs []string) {
	for _, set := range n.ToRDNSequence() {
		for _, a := range set {
			one := pkix.RDNSequence{{a}}
			attrs = append(attrs, one.String())
		}
	}
	return attrs
}

// KeyPair is a certificate with its key in files, read again when they change. Its GetCertificate is for [tls.Config]. It is safe for
// concurrent use.
type KeyPair struct {
	certFile, keyFile string

	mu      sync.Mutex
	cert    *tls.Certificate
	checked time.Time
}

// keyPairAge is for how long a KeyPair believes that its files are unchanged.
const keyPairAge = time.Minute

// LoadKeyPair reads files in PEM form. The first has the certificate and those between it and the root.
func LoadKeyPair(certFile, keyFile string) (*KeyPair, error) {
	k := &KeyPair{certFile: certFile, keyFile: keyFile}
	return k, k.Reload()
}

// Reload reads the files now. After an error the pair read before stays in use.
func (k *KeyPair) Reload() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reload(time.Now())
}

func (k *KeyPair) reload(now time.Time) error {
	k.checked = now
	cert, err := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	if err != nil {
		return fmt.Errorf("smtpserver: key pair %s, %s: %w", k.certFile, k.keyFile, err)
	}
	k.cert = &cert
	return nil
}

// GetCertificate returns the pair; once a minute it reads the files again. While they cannot be read it
// returns what it has: Reload tells what is wrong.
func (k *KeyPair) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.checked) >= keyPairAge {
		if err := k.reload(now); err != nil && k.cert == nil {
			return nil, err
		}
	}
	return k.cert, nil
}

// newSelfSigned makes a certificate for the host name. Clients that deliver mail don't check it.
func newSelfSigned(host string, now time.Time) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}
