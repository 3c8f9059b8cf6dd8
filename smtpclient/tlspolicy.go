package smtpclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mtakit/mtakit"
)

// posture is what a connection has to be: how it is encrypted, and how the peer proves who it is. What the path says is where it
// starts; TLSA records and an MTA-STS policy change it here and nowhere else.
type posture struct {
	mode   mtakit.TLSMode
	verify func(tls.ConnectionState) error // nil: the certificate isn't looked at
}

func (e *Egress) posture(p *mtakit.Path, c Candidate) posture {
	pos := posture{mode: p.EnableTLS}
	if pos.mode == "" {
		pos.mode = mtakit.TLSOpportunistic
	}
	if pos.mode == mtakit.TLSOpportunistic || pos.mode == mtakit.TLSRequired {
		name := verificationName(c.Host)
		pos.verify = func(s tls.ConnectionState) error { return e.verify(s, name) }
	}
	return pos
}

func (p posture) required() bool {
	return p.mode == mtakit.TLSRequired || p.mode == mtakit.TLSRequiredInsecure
}

// verificationName is the host's name as a certificate has it.
func verificationName(host string) string {
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if a, err := toASCII(host); err == nil {
		return a
	}
	return host
}

// verify checks the certificate against the CA store.
func (e *Egress) verify(s tls.ConnectionState, name string) error {
	roots, err := e.roots()
	if err != nil {
		return err
	}
	opts := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err = s.PeerCertificates[0].Verify(opts)
	return err
}

// roots is the CA store. The system's is read once; crypto/x509 honours SSL_CERT_FILE and SSL_CERT_DIR.
func (e *Egress) roots() (*x509.CertPool, error) {
	if e.RootCAs != nil {
		return e.RootCAs, nil
	}
	e.sys.Do(func() {
		e.sysRoots, e.sysErr = x509.SystemCertPool()
		if e.sysErr != nil {
			e.sysErr = fmt.Errorf("%w (%w)", ErrNoCertificates, e.sysErr)
		} else if e.sysRoots.Equal(x509.NewCertPool()) {
			e.sysErr = ErrNoCertificates
		}
	})
	return e.sysRoots, e.sysErr
}

// tlsConfig is how to encrypt the connection to a candidate. Verification takes the place of crypto/tls' own, so that its reason
// is the one that is told.
func (e *Egress) tlsConfig(p *mtakit.Path, c Candidate, pos posture) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: verificationName(c.Host), InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}
	if !pos.required() {
		// The alternative is clear text, beside which all of these are good.
		cfg.MinVersion = tls.VersionTLS10
		for _, s := range tls.CipherSuites() {
			cfg.CipherSuites = append(cfg.CipherSuites, s.ID)
		}
		cfg.CipherSuites = append(cfg.CipherSuites, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
	}
	only13, err := restrict(cfg, p.PathConfig)
	if err != nil {
		return nil, err
	}
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		if s.Version == tls.VersionTLS13 && only13 != nil && !slices.Contains(only13, s.CipherSuite) {
			return fmt.Errorf("the path doesn't allow %s", tls.CipherSuiteName(s.CipherSuite))
		}
		if pos.verify == nil {
			return nil
		}
		if len(s.PeerCertificates) == 0 {
			return errors.New("the peer has no certificate")
		}
		return pos.verify(s)
	}
	if c.classic {
		cfg.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	}
	if p.TLSCertificate != nil && p.TLSPrivateKey != nil {
		pair, err := e.keyPair(p.TLSCertificate, p.TLSPrivateKey)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{*pair}
	}
	if e.TLSConfig != nil {
		e.TLSConfig(p, c.Host, cfg)
	}
	return cfg, nil
}

// CheckTLS says what of a path's TLS options crypto/tls cannot do; with such a path no connection is made. There is one TLS stack, so
// tls_prefer_openssl changes nothing; options of either stack are taken from both.
//
// openssl_cipher_list and rustls_cipher_suites name the suites of TLS 1.2, as OpenSSL and as the IANA registry do; keywords such as
// HIGH are refused. Suites of TLS 1.3, from rustls_cipher_suites or openssl_cipher_suites, cannot be left out of the offer: if the
// peer chooses another one than those named, the handshake fails. Of openssl_options NO_TLSV1 to NO_TLSV1_3 and NO_TICKET
// have an effect; the others are either so anyway or don't concern clients.
func CheckTLS(p *mtakit.PathConfig) error {
	_, err := restrict(&tls.Config{}, p)
	return err
}

// restrict narrows cfg as the path says, and gives the suites of TLS 1.3 that are allowed, nil for all.
func restrict(cfg *tls.Config, p *mtakit.PathConfig) (only13 []uint16, err error) {
	var only12 []uint16
	add := func(option, name string) error {
		id, ok := suiteByName(name)
		if !ok {
			return fmt.Errorf("%s: %q is not a cipher suite that crypto/tls has", option, name)
		}
		if id>>8 == 0x13 {
			only13 = append(only13, id)
		} else {
			only12 = append(only12, id)
		}
		return nil
	}
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == ',' || r == ' ' || r == '|' })
	}
	for _, name := range split(p.OpenSSLCipherList) {
		if err := add("openssl_cipher_list", name); err != nil {
			return nil, err
		}
	}
	for _, name := range split(p.OpenSSLCipherSuites) {
		if err := add("openssl_cipher_suites", name); err != nil {
			return nil, err
		}
	}
	for _, name := range p.RustlsCipherSuites {
		if err := add("rustls_cipher_suites", name); err != nil {
			return nil, err
		}
	}
	if len(only12) > 0 {
		cfg.CipherSuites = only12
	}
	if len(p.RustlsCipherSuites) > 0 { // one list for both versions
		if len(only13) == 0 {
			cfg.MaxVersion = tls.VersionTLS12
		}
		if len(only12) == 0 {
			cfg.MinVersion = tls.VersionTLS13
		}
	}
	return only13, versions(cfg, split(p.OpenSSLOptions))
}

var opensslOptions = strings.Fields("ALL NO_QUERY_MTU COOKIE_EXCHANGE NO_TICKET NO_SESSION_RESUMPTION_ON_RENEGOTIATION NO_COMPRESSION " +
	"ALLOW_UNSAFE_LEGACY_RENEGOTIATION SINGLE_ECDH_USE SINGLE_DH_USE CIPHER_SERVER_PREFERENCE TLS_ROLLBACK_BUG NO_SSLV2 NO_SSLV3 NO_TLSV1 NO_TLSV1_1 " +
	"NO_TLSV1_2 NO_TLSV1_3 NO_DTLSV1 NO_DTLSV1_2 NO_RENEGOTIATION ENABLE_MIDDLEBOX_COMPAT PRIORITIZE_CHACHA")

// versions leaves the versions that openssl_options doesn't switch off.
func versions(cfg *tls.Config, options []string) error {
	all := []struct {
		name string
		id   uint16
	}{{"NO_TLSV1", tls.VersionTLS10}, {"NO_TLSV1_1", tls.VersionTLS11}, {"NO_TLSV1_2", tls.VersionTLS12}, {"NO_TLSV1_3", tls.VersionTLS13}}
	for _, o := range options {
		if !slices.Contains(opensslOptions, o) {
			return fmt.Errorf("openssl_options: %q is not an option", o)
		}
		if o == "NO_TICKET" {
			cfg.SessionTicketsDisabled = true
		}
	}
	if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "NO_TLSV1") }) {
		return nil
	}
	low := max(cfg.MinVersion, tls.VersionTLS12)
	if cfg.MinVersion != 0 {
		low = cfg.MinVersion
	}
	var first, last uint16
	for _, v := range all {
		if slices.Contains(options, v.name) || v.id < low || cfg.MaxVersion != 0 && v.id > cfg.MaxVersion {
			continue
		}
		if first == 0 {
			first = v.id
		}
		last = v.id
	}
	if first == 0 {
		return errors.New("openssl_options: no version of TLS is left")
	}
	cfg.MinVersion, cfg.MaxVersion = first, last
	return nil
}

// suiteByName knows the names of IANA, of rustls and of OpenSSL.
func suiteByName(name string) (uint16, bool) {
	want := strings.ToUpper(name)
	if rest, ok := strings.CutPrefix(want, "TLS13_"); ok {
		want = "TLS_" + rest
	}
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		iana := s.Name
		openssl := strings.NewReplacer("TLS_", "", "_WITH_", "-", "AES_128_CBC", "AES128", "AES_256_CBC", "AES256", "AES_128", "AES128", "AES_256", "AES256",
			"CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305").Replace(iana)
		openssl = strings.TrimPrefix(strings.ReplaceAll(openssl, "_", "-"), "RSA-")
		if want == iana || want == openssl {
			return s.ID, true
		}
	}
	return 0, false
}

var tlsVersions = map[uint16]string{tls.VersionTLS10: "TLSv1.0", tls.VersionTLS11: "TLSv1.1", tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3"}

// subject lists the parts of a certificate's subject as KEY=VALUE.
func subject(c *x509.Certificate) []string {
	keys := map[string]string{"2.5.4.3": "CN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street",
		"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.17": "postalCode", "1.2.840.113549.1.9.1": "emailAddress", "0.9.2342.19200300.100.1.25": "DC"}
	var list []string
	for _, n := range c.Subject.Names {
		key := n.Type.String()
		if k, ok := keys[key]; ok {
			key = k
		}
		list = append(list, fmt.Sprintf("%s=%v", key, n.Value))
	}
	return list
}
