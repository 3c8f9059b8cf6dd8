package smtpserver_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
)

func TestSTARTTLS(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{})
	c := h.dial("192.0.2.1:4000")
	expect(t, c, "220 ")
	go io.WriteString(c, "EHLO plain.test\r\n"+mail+"STARTTLS\r\n")
	for _, want := range []string{"250-", "250-", "250-", "250-", "250-", "250 STARTTLS", "250 OK", "220 Ready to Start TLS"} {
		expect(t, c, want)
	}
	s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	out := exchange(t, s, "STARTTLS\r\n"+rcpt+"EHLO secret.test\r\n"+message+"QUIT\r\n")
	for _, want := range []string{
		"501 Cannot STARTTLS as TLS is already active", "503 5.5.0 MAIL FROM must be issued first", "250 SMTPUTF8\r\n", "250 OK ids="} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
	got := h.got()
	if len(got) != 1 {
		t.Fatalf("%d messages", len(got))
	}
	if !strings.Contains(got[0].head, "from secret.test") || !strings.Contains(got[0].head, "with ESMTPS (TLSv1.3:TLS_") {
		t.Errorf("head %q", got[0].head)
	}
	if v := got[0].MetaString(mtakit.MetaTLSProtocol); v != "TLSv1.3" {
		t.Errorf("metadata %v", got[0].Meta)
	}
}

// Commands behind STARTTLS, in the clear, must not count as said under TLS.
func TestSTARTTLSInjection(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{})
	out := h.talk("STARTTLS\r\n" + message)
	if want := "421 4.7.0 mx.test input behind STARTTLS\r\n"; !strings.HasSuffix(out, want) {
		t.Errorf("got %q, want %q at the end", out, want)
	}
	if len(h.got()) != 0 {
		t.Error("the message was taken")
	}
	if n := sample(h.srv, "smtp_server_rejections", "total"); n != 1 {
		t.Errorf("%v rejections were counted, want 1", n)
	}
}

func TestFailedHandshake(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, sent string
		after      time.Duration
	}{
		{"garbage", "EHLO in.the.clear\r\n" + message, 0}, {"stalls", "\x16\x03\x01", time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := start(t, &smtpserver.Server{})
				c := h.dial("192.0.2.1:4000")
				startTLS(t, c, nil)
				begin := time.Now()
				out := exchange(t, c, tt.sent)
				if strings.Contains(out, "250 ") || len(h.got()) != 0 {
					t.Errorf("the session went on in the clear: %q", out)
				}
				if got := time.Since(begin); got != tt.after {
					t.Errorf("closed after %v, want %v", got, tt.after)
				}
			})
		})
	}
}

// An idle session under TLS hears of a shutdown too.
func TestShutdownUnderTLS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &smtpserver.Server{})
		c := startTLS(t, h.dial("192.0.2.1:4000"), nil)
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		done := make(chan error)
		go func() { done <- h.srv.Shutdown(t.Context()) }()
		expect(t, c, "421 4.3.2 mx.test shutting down")
		io.Copy(io.Discard, c)
		c.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// users is an Authenticator.
type users map[string]string

func (u users) Authenticate(_ context.Context, authz, authn, password string) (*mtakit.Identity, error) {
	if authn == "broken" {
		return nil, errors.New("database is down at /secret")
	}
	want, ok := u[authn]
	if subtle.ConstantTimeCompare([]byte(want), []byte(password)) != 1 || !ok {
		return nil, mtakit.ErrBadCredentials
	}
	return &mtakit.Identity{Authn: authn, Authz: authz}, nil
}

func plain(fields ...string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(fields, "\x00")))
}

func TestAUTH(t *testing.T) {
	t.Parallel()
	good := "AUTH PLAIN " + plain("", "joe", "pw") + "\r\n"
	for _, tt := range []struct {
		name, input string
		want        []string
		clear       bool // without TLS
	}{
		{name: "initial response", input: good, want: []string{"235 2.7.0 AUTH OK!"}},
		{name: "lower case", input: "auth plain " + plain("", "joe", "pw") + "\r\n", want: []string{"235 2.7.0 AUTH OK!"}},
		{name: "on a line of its own", input: "AUTH PLAIN\r\n" + plain("other", "joe", "pw") + "\r\n", want: []string{"334  ", "235 2.7.0 AUTH OK!"}},
		{name: "LOGIN", input: "AUTH LOGIN\r\n" + plain("joe") + "\r\n" + plain("pw") + "\r\n",
			want: []string{"334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0 AUTH OK!"}},
		{name: "LOGIN with name", input: "AUTH LOGIN " + plain("joe") + "\r\n" + plain("pw") + "\r\n", want: []string{"334 UGFzc3dvcmQ6", "235 2.7.0 AUTH OK!"}},
		{name: "twice", input: good + good, want: []string{"235 2.7.0 AUTH OK!", "503 5.5.1 AUTH me once, can't get authed again!"}},
		{name: "in a transaction", input: mail + good, want: []string{"250 OK <a@src.test>", "503 5.5.1 AUTH not permitted inside a transaction"}},
		{name: "other mechanism", input: "AUTH CRAM-MD5\r\n", want: []string{"504 5.5.4 AUTH CRAM-MD5 not supported"}},
		{name: "no mechanism", input: "AUTH\r\n", want: []string{"501 Syntax error in command or arguments"}},
		{name: "in the clear", input: good, want: []string{"524 5.7.11 AUTH PLAIN requires an encrypted channel"}, clear: true},
		{name: "wrong password", input: "AUTH PLAIN " + plain("", "joe", "x") + "\r\n", want: []string{"535 5.7.8 AUTH invalid"}},
		{name: "unknown user", input: "AUTH PLAIN " + plain("", "jim", "") + "\r\n", want: []string{"535 5.7.8 AUTH invalid"}},
		{name: "authenticator fails", input: "AUTH PLAIN " + plain("", "broken", "x") + "\r\n", want: []string{"421 4.3.0 mx.test technical difficulties"}},
		{name: "line not UTF-8", input: "AUTH PLAIN\r\n\xff\r\n", want: []string{"334  ", "501 5.5.2 Invalid UTF-8 in authentication exchange"}},
		{name: "line too long", input: "AUTH PLAIN\r\n" + strings.Repeat("x", 16385) + "\r\n", want: []string{"334  ", "500 5.5.6 authentication exchange line too long"}},
		{name: "longest line", input: "AUTH PLAIN\r\n" + strings.Repeat("A", 16384) + "\r\n", want: []string{"334  ", "501 5.5.2 Invalid decoded PLAIN response"}},
		{name: "cancelled", input: "AUTH PLAIN\r\n*\r\n", want: []string{"334  ", "501 5.5.0 AUTH cancelled by client"}},
		{name: "bad base64", input: "AUTH PLAIN !\r\n", want: []string{"501 5.5.2 Invalid base64 response"}},
		{name: "empty", input: "AUTH PLAIN =\r\n", want: []string{"501 5.5.2 Invalid decoded PLAIN response"}},
		{name: "two fields", input: "AUTH PLAIN " + plain("joe", "pw") + "\r\n", want: []string{"501 5.5.2 Invalid decoded PLAIN response"}},
		{name: "fields not UTF-8", input: "AUTH PLAIN " + plain("", "\xff", "pw") + "\r\n", want: []string{"501 5.5.2 Invalid UTF8 in decoded PLAIN response"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, &smtpserver.Server{Auth: users{"joe": "pw"}})
			var got []string
			if tt.clear {
				got = replies(h.talk(tt.input + "QUIT\r\n"))
			} else {
				got = replies("220 \r\n" + exchange(t, startTLS(t, h.dial("192.0.2.1:4000"), nil), tt.input+"QUIT\r\n"))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for _, r := range h.records {
				if strings.Contains(r.Response.Command, plain("", "joe", "x")) {
					t.Errorf("the record has the password: %q", r.Response.Command)
				}
			}
		})
	}
}

// A malformed AUTH is recorded without its password, too.
func TestMalformedAUTHIsHidden(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		" AUTH PLAIN c2VjcmV0":       " AUTH PLAIN",
		"\tauth login c2VjcmV0":      "\tauth login",
		"AUTH\tPLAIN c2VjcmV0":       "AUTH\tPLAIN",
		"AUTH PLAIN c2VjcmV0\x01":    "AUTH PLAIN",
		"AUTH PLAIN c2VjcmV0\xff":    "AUTH PLAIN",
		"AUTHENTICATE is no command": "AUTHENTICATE is no command",
	} {
		h := start(t, &smtpserver.Server{})
		h.talk(line + "\r\nQUIT\r\n")
		if len(h.records) != 1 || h.records[0].Response.Command != want {
			t.Errorf("%q: got %+v, want the command %q", line, h.records, want)
		}
	}
}

// Who guesses passwords is stopped after a while, for a while, from one address or many.
func TestAUTHFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &smtpserver.Server{Auth: users{"joe": "pw"}, Limits: smtpserver.Limits{AuthFailures: 2, PerAddress: -1}})
		try := func(from, user, password string) string {
			c := startTLS(t, h.dial(from), nil)
			return strings.TrimSpace(strings.Split(exchange(t, c, "AUTH PLAIN "+plain("", user, password)+"\r\nQUIT\r\n"), "\r\n")[0])
		}
		const invalid, limited, ok = "535 5.7.8 AUTH invalid", "421 4.7.0 mx.test too many authentication failures. Try later", "235 2.7.0 AUTH OK!"
		for i, tt := range []struct{ from, user, password, want string }{
			{"203.0.113.1:1", "a", "x", invalid}, {"203.0.113.1:1", "b", "x", invalid}, {"203.0.113.1:1", "joe", "pw", limited},
			{"203.0.113.2:1", "joe", "pw", ok},
		} {
			if got := try(tt.from, tt.user, tt.password); got != tt.want {
				t.Errorf("try %d: %q, want %q", i, got, tt.want)
			}
		}
		pause(31 * time.Second)
		if got := try("203.0.113.1:1", "joe", "pw"); got != ok {
			t.Errorf("half a minute later: %q, want %q", got, ok)
		}
		for i := range 20 {
			if got := try("198.18.0."+string(rune('0'+i/2))+":1", "joe", "x"); got != invalid {
				t.Errorf("guess %d: %q, want %q", i, got, invalid)
			}
		}
		if got := try("203.0.113.3:1", "joe", "pw"); got != limited {
			t.Errorf("after guesses from everywhere: %q, want %q", got, limited)
		}
	})
}

// Identity decides nothing by itself; policy sees it.
func TestAUTHAllowsRelayByPolicy(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{Auth: users{"joe": "pw"}, Policy: smtpserver.Policy{
		ListenerDomain: func(_ context.Context, s *smtpserver.Session, _ string) (*smtpserver.ListenerDomain, error) {
			return &smtpserver.ListenerDomain{RelayTo: s.Identity() != nil && s.Identity().Authn == "joe"}, nil
		},
	}})
	c := startTLS(t, h.dial("203.0.113.1:1"), nil)
	out := exchange(t, c, envelope+"RSET\r\nAUTH PLAIN "+plain("", "joe", "pw")+"\r\n"+message+"QUIT\r\n")
	if !strings.Contains(out, "550 5.7.1 relaying not permitted") || !strings.Contains(out, "250 OK ids=") {
		t.Errorf("got %q", out)
	}
	m := h.got()[0]
	if m.MetaString(mtakit.MetaAuthnID) != "joe" || m.MetaString(mtakit.MetaAuthzID) != "joe" || !strings.Contains(m.head, "with ESMTPSA (") {
		t.Errorf("metadata %v, head %q", m.Meta, m.head)
	}
}

// certificate writes a pair to dir and returns the files.
func certificate(t *testing.T, dir, name string) (certFile, keyFile string, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"Test"}}, DNSNames: []string{name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for f, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(f, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile, cert, key
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	_, _, cert, key := certificate(t, t.TempDir(), "client.test")
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	certFile, keyFile, _, _ := certificate(t, t.TempDir(), "mx.test")
	pair, err := smtpserver.LoadKeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, &smtpserver.Server{Options: smtpserver.Options{
		TLS: &tls.Config{GetCertificate: pair.GetCertificate, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven},
	}})
	c := startTLS(t, h.dial("192.0.2.1:4000"), &tls.Config{InsecureSkipVerify: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}})
	exchange(t, c, message+"QUIT\r\n")
	got, _ := h.got()[0].Meta[mtakit.MetaTLSPeerSubject].([]string)
	if slices.Sort(got); !slices.Equal(got, []string{"CN=client.test", "O=Test"}) {
		t.Errorf("subject %q", got)
	}
}

func TestKeyPair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile, first, _ := certificate(t, dir, "one.test")
		k, err := smtpserver.LoadKeyPair(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		in := func(when string, want *x509.Certificate) {
			t.Helper()
			got, err := k.GetCertificate(nil)
			if err != nil || !want.Equal(got.Leaf) {
				t.Errorf("%s: the certificate is not that of %s (%v)", when, want.Subject.CommonName, err)
			}
		}
		in("at first", first)
		_, _, second, _ := certificate(t, dir, "two.test")
		in("before the minute is over", first)
		pause(time.Minute)
		in("a minute later", second)
		if err := os.WriteFile(certFile, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := k.Reload(); err == nil {
			t.Error("Reload of a damaged file succeeded")
		}
		pause(time.Minute)
		in("while the file is damaged", second)
		if _, err := smtpserver.LoadKeyPair(certFile, keyFile); err == nil {
			t.Error("LoadKeyPair of a damaged file succeeded")
		}
	})
}

func TestXCLIENT(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{
		Options: smtpserver.Options{AllowXCLIENT: new(true), Peer: map[netip.Prefix]smtpserver.Options{
			prefixes("203.0.113.0/24")[0]: {Banner: "hello stranger", RelayHosts: prefixes("203.0.113.7/32"), Meta: map[string]any{"x_zone": "far"}}}},
	})
	out := h.talk("EHLO x\r\nXCLIENT ADDR=no\r\nXCLIENT PORT=99999\r\nXCLIENT NAME=x\r\n" + mail + "XCLIENT PORT=1\r\nRSET\r\n" +
		"XCLIENT addr=203.0.113.7 PORT=77\r\nXCLIENT DESTADDR=IPV6:2001:db8::9\r\n" + message + "QUIT\r\n")
	for _, want := range []string{
		"501 ADDR no is invalid\r\n", "501 PORT 99999 is invalid\r\n", "501 parameter NAME is not supported\r\n", "503 mail transaction in progress\r\n",
		"220 mx.test hello stranger\r\n220 mx.test hello stranger\r\n", "250 OK ids=",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
	want := map[string]string{
		"received_from": "203.0.113.7:77", "received_via": "[2001:db8::9]:25", "orig_received_from": "192.0.2.1:4000", "orig_received_via": "198.51.100.1:25",
		"x_zone": "far",
	}
	for k, v := range want {
		if got := h.got()[0].MetaString(k); got != v {
			t.Errorf("metadata %s is %q, want %q", k, got, v)
		}
	}
}

// What policy has said about domains was about another client.
func TestXCLIENTAsksAboutDomainsAgain(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{
		Options: smtpserver.Options{AllowXCLIENT: new(true)},
		Policy: smtpserver.Policy{ListenerDomain: func(_ context.Context, s *smtpserver.Session, _ string) (*smtpserver.ListenerDomain, error) {
			return &smtpserver.ListenerDomain{RelayTo: s.Peer().Addr.Addr() == netip.MustParseAddr("203.0.113.7")}, nil
		}},
	})
	out := h.talkFrom("203.0.113.1:1", envelope+"RSET\r\nXCLIENT ADDR=203.0.113.7\r\n"+message+"QUIT\r\n")
	if !strings.Contains(out, "550 5.7.1 relaying not permitted") || !strings.Contains(out, "250 OK ids=") {
		t.Errorf("got %q", out)
	}
}

// What a block says about a proxy is not said about the clients behind it.
func TestMetaOfProxyIsNotItsClients(t *testing.T) {
	t.Parallel()
	blocks := map[netip.Prefix]smtpserver.Options{
		prefixes("127.0.0.1/32")[0]:   {Meta: map[string]any{"x_zone": "ours", "x_trusted": true}},
		prefixes("203.0.113.0/24")[0]: {Meta: map[string]any{"x_zone": "far"}},
	}
	for name, tt := range map[string]struct {
		opt   smtpserver.Options
		input string
	}{
		"PROXY":   {smtpserver.Options{RequireProxyProtocol: new(true)}, "PROXY TCP4 203.0.113.7 198.51.100.2 77 25\r\n"},
		"XCLIENT": {smtpserver.Options{AllowXCLIENT: new(true)}, "XCLIENT ADDR=203.0.113.7\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.opt.Peer, tt.opt.RelayHosts = blocks, prefixes("203.0.113.0/24")
			h := start(t, &smtpserver.Server{Options: tt.opt})
			h.talkFrom("127.0.0.1:1", tt.input+message+"QUIT\r\n")
			if m := h.got()[0].Meta; m["x_zone"] != "far" || m["x_trusted"] != nil {
				t.Errorf("metadata %v", m)
			}
		})
	}
}

func TestPROXY(t *testing.T) {
	t.Parallel()
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc6\x33\x64\x02\x00\x4d\x00\x19"
	for _, tt := range []struct {
		name, header, from string
		client             string // "" if the connection is closed without a word
	}{
		{"v1", "PROXY TCP4 203.0.113.7 198.51.100.2 77 25\r\n", "127.0.0.1:1", "203.0.113.7:77"},
		{"v1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::2 77 25\r\n", "127.0.0.1:1", "[2001:db8::7]:77"},
		{"v1, unknown", "PROXY UNKNOWN\r\n", "127.0.0.1:1", "127.0.0.1:1"},
		{"v2", v2, "127.0.0.1:1", "203.0.113.7:77"},
		{"v2, local", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.1:1", "127.0.0.1:1"},
		{"v2, too large", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "127.0.0.1:1", ""},
		{"missing", "", "127.0.0.1:1", ""},
		{"v1, much too long", "PROXY TCP4 " + strings.Repeat("9", 10000) + "\r\n", "127.0.0.1:1", ""},
		{"spoofed", "PROXY TCP4 127.0.0.1 198.51.100.2 77 25\r\n", "192.0.2.1:4000", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got string
			h := start(t, &smtpserver.Server{
				Options: smtpserver.Options{RequireProxyProtocol: new(true)},
				Policy: smtpserver.Policy{Connect: func(_ context.Context, s *smtpserver.Session) error {
					got = s.Meta()[mtakit.MetaReceivedFrom].(string)
					if got != s.Peer().Addr.String() {
						t.Errorf("metadata has %s, the session %s", got, s.Peer().Addr)
					}
					return nil
				}},
			})
			out := h.talkFrom(tt.from, tt.header+"NOOP\r\nQUIT\r\n")
			if got != tt.client || (out == "") != (tt.client == "") {
				t.Errorf("client %q, want %q; output %q", got, tt.client, out)
			}
			if tt.client != "" && !strings.Contains(out, "goggles") {
				t.Errorf("what followed the header got lost: %q", out)
			}
		})
	}
}

// A PROXY header that does not come.
func TestPROXYTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &smtpserver.Server{Options: smtpserver.Options{RequireProxyProtocol: new(true)}})
		begin := time.Now()
		c := h.dial("127.0.0.1:1")
		io.WriteString(c, "PRO")
		if b, _ := bufio.NewReader(c).ReadByte(); b != 0 || time.Since(begin) != time.Minute {
			t.Errorf("got %q after %v, want nothing after 1m", b, time.Since(begin))
		}
		c.Close()
	})
}
