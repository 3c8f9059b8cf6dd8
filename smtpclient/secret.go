package smtpclient

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"time"

	"github.com/mtakit/mtakit"
)

// secretTTL is how long files with keys and passwords are kept in memory.
const secretTTL = 5 * time.Minute

// kept is what was read at some time.
type kept[T any] struct {
	value T
	until time.Time
}

// secret is a password, without a line end after it.
func (e *Egress) secret(k *mtakit.KeySource) ([]byte, error) {
	if k.File == "" {
		return k.Data, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s, ok := e.secrets[k.File]; ok && time.Now().Before(s.until) {
		return s.value, nil
	}
	b, err := os.ReadFile(k.File)
	if err != nil {
		return nil, err
	}
	b = bytes.TrimRight(b, "\r\n")
	if e.secrets == nil {
		e.secrets = map[string]kept[[]byte]{}
	}
	e.secrets[k.File] = kept[[]byte]{b, time.Now().Add(secretTTL)}
	return b, nil
}

// keyPair is a client certificate.
func (e *Egress) keyPair(cert, key *mtakit.KeySource) (*tls.Certificate, error) {
	id := cert.File + "\x00" + key.File + "\x00" + string(cert.Data) + "\x00" + string(key.Data)
	e.mu.Lock()
	p, ok := e.pairs[id]
	e.mu.Unlock()
	if ok && time.Now().Before(p.until) {
		return p.value, nil
	}
	c, err := e.secret(cert)
	if err != nil {
		return nil, fmt.Errorf("tls_certificate: %w", err)
	}
	k, err := e.secret(key)
	if err != nil {
		return nil, fmt.Errorf("tls_private_key: %w", err)
	}
	pair, err := tls.X509KeyPair(c, k)
	if err != nil {
		return nil, fmt.Errorf("tls_certificate and tls_private_key: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pairs == nil {
		e.pairs = map[string]kept[*tls.Certificate]{}
	}
	e.pairs[id] = kept[*tls.Certificate]{&pair, time.Now().Add(secretTTL)}
	return &pair, nil
}
