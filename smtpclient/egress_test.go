package smtpclient_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// zones is a Resolver with addresses; a name without any does not exist.
type zones map[string][]string

func (z zones) LookupAddr(_ context.Context, name string, f mtakit.Family) (mtakit.Answer[netip.Addr], error) {
	a := mtakit.Answer[netip.Addr]{Name: name, Secure: true}
	list, ok := z[name]
	if !ok {
		return a, &mtakit.DNSError{Name: name, Type: map[mtakit.Family]string{mtakit.IPv4: "A", mtakit.IPv6: "AAAA"}[f], NotFound: true}
	}
	for _, s := range list {
		if addr := netip.MustParseAddr(s); addr.Is4() == (f == mtakit.IPv4) {
			a.Records = append(a.Records, addr)
		}
	}
	return a, nil
}
func (zones) LookupMX(context.Context, string) (a mtakit.Answer[mtakit.MX], err error)     { return }
func (zones) LookupTXT(context.Context, string) (a mtakit.Answer[string], err error)       { return }
func (zones) LookupTLSA(context.Context, string) (a mtakit.Answer[mtakit.TLSA], err error) { return }

func hosts(list ...mtakit.Host) *mtakit.Site { return &mtakit.Site{Name: "site", Hosts: list} }

// An address is secure if both the record that names the host and the one that has the address are.
func TestSecure(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{true, false} {
		var n smtptest.Network
		newPeer(t, &n, "192.0.2.1:25")
		e := egress(&n)
		e.Resolver = zones{"mx.test": {"192.0.2.1"}} // whose answers are
		s := connect(t, e, &mtakit.Path{Site: hosts(mtakit.Host{Name: "mx.test", Secure: secure})})
		if got := s.Info().Secure; got != secure {
			t.Errorf("secure is %t, that of the MX record %t", got, secure)
		}
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	z := zones{
		"a.test": {"192.0.2.1", "2001:db8::1"}, "b.test": {"192.0.2.2"}, "c.test": {"192.0.2.3"}, "six.test": {"2001:db8::6"},
		"loop.test": {"127.0.0.1"}, "none.test": {}, "xn--bcher-kva.test": {"192.0.2.7"},
	}
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		name  string
		site  *mtakit.Site
		set   func(*mtakit.PathConfig)
		src   *mtakit.Source
		want  string // addresses in order; those of one level in brackets
		fails string // the PathError with its reason
	}{
		{"preference", hosts(mtakit.Host{Name: "b.test", Pref: 20}, mtakit.Host{Name: "a.test", Pref: 10}), nil, nil, "[192.0.2.1:25 [2001:db8::1]:25] [192.0.2.2:25]", ""},
		{"level", hosts(mtakit.Host{Name: "a.test", Pref: 10}, mtakit.Host{Name: "b.test", Pref: 10}), nil, nil, "[192.0.2.1:25 192.0.2.2:25 [2001:db8::1]:25]", ""},
		{"ordered", &mtakit.Site{Ordered: true, Hosts: []mtakit.Host{{Name: "c.test", Pref: 9}, {Name: "b.test"}, {Addrs: []netip.Addr{addr("192.0.2.9")}, Port: 26}}}, nil, nil, "[192.0.2.3:25] [192.0.2.2:25] [192.0.2.9:26]", ""},
		{"only 4", hosts(mtakit.Host{Name: "a.test"}), func(c *mtakit.PathConfig) { c.IPLookupStrategy = mtakit.IPv4Only }, nil, "[192.0.2.1:25]", ""},
		{"only 6", hosts(mtakit.Host{Name: "a.test"}), func(c *mtakit.PathConfig) { c.IPLookupStrategy = mtakit.IPv6Only }, nil, "[[2001:db8::1]:25]", ""},
		{"4 then 6", hosts(mtakit.Host{Name: "a.test"}, mtakit.Host{Name: "six.test", Pref: 1}), func(c *mtakit.PathConfig) { c.IPLookupStrategy = mtakit.IPv4ThenIPv6 }, nil, "[192.0.2.1:25] [[2001:db8::6]:25]", ""},
		{"6 then 4", hosts(mtakit.Host{Name: "a.test"}, mtakit.Host{Name: "b.test", Pref: 1}), func(c *mtakit.PathConfig) { c.IPLookupStrategy = mtakit.IPv6ThenIPv4 }, nil, "[[2001:db8::1]:25] [192.0.2.2:25]", ""},
		{"port of path", hosts(mtakit.Host{Name: "b.test"}), func(c *mtakit.PathConfig) { c.SMTPPort = 587 }, nil, "[192.0.2.2:587]", ""},
		{"port of source", hosts(mtakit.Host{Name: "b.test", Port: 26}), nil, &mtakit.Source{Name: "s", RemotePort: 2525}, "[192.0.2.2:2525]", ""},
		{"a host is missing", hosts(mtakit.Host{Name: "gone.test"}, mtakit.Host{Name: "b.test"}), nil, nil, "[192.0.2.2:25]", ""},
		{"IDN", hosts(mtakit.Host{Name: "bücher.test"}), nil, nil, "[192.0.2.7:25]", ""},
		{"null MX", hosts(mtakit.Host{Name: "."}), nil, nil, "", "556 5.1.10 Recipient address has a null MX FailedDueToNullMx"},
		{"nothing", hosts(mtakit.Host{Name: "gone.test"}, mtakit.Host{Name: "none.test"}), nil, nil, "", "451 4.4.4 MX didn't resolve to any hosts MxResolvedToZeroHosts"},
		{"no hosts", hosts(), nil, nil, "", "451 4.4.4 MX didn't resolve to any hosts MxResolvedToZeroHosts"},
		{"prohibited", hosts(mtakit.Host{Name: "b.test"}, mtakit.Host{Name: "loop.test", Pref: 1}), nil, nil, "", "550 5.4.4 127.0.0.1 is on the list of prohibited_hosts 127.0.0.0/8, ::1, 0.0.0.0, :: MxWasProhibited"},
		{"exempt", hosts(mtakit.Host{Name: "loop.test", Exempt: true}), nil, nil, "[127.0.0.1:25]", ""},
		{"skipped", hosts(mtakit.Host{Name: "b.test"}, mtakit.Host{Name: "c.test"}), func(c *mtakit.PathConfig) { c.SkipHosts = mtakit.Prefixes{netip.MustParsePrefix("192.0.2.2/32")} }, nil, "[192.0.2.3:25]", ""},
		{"all skipped", hosts(mtakit.Host{Name: "b.test"}), func(c *mtakit.PathConfig) { c.SkipHosts = mtakit.Prefixes{netip.MustParsePrefix("192.0.2.0/24")} }, nil, "", "451 4.4.4 KumoMTA internal: MX consisted solely of hosts on the skip_hosts list MxWasSkipped"},
		{"prohibited before skipped", hosts(mtakit.Host{Name: "loop.test"}), func(c *mtakit.PathConfig) { c.SkipHosts = mtakit.Prefixes{netip.MustParsePrefix("127.0.0.0/8")} }, nil, "", "550 5.4.4 127.0.0.1 is on the list of prohibited_hosts 127.0.0.0/8, ::1, 0.0.0.0, :: MxWasProhibited"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := mtakit.DefaultPathConfig()
			if tt.set != nil {
				tt.set(&c)
			}
			orders := map[string]bool{}
			for range 20 {
				var n smtptest.Network // nobody listens: every address is tried
				e := egress(&n)
				e.Resolver = z
				_, err := e.Connect(t.Context(), &mtakit.Path{Name: "p", Site: tt.site, Source: tt.src, PathConfig: &c})
				var pe *mtakit.PathError
				if errors.As(err, &pe) {
					if got := pe.Response.String() + " " + pe.Reason; got != tt.fails {
						t.Fatalf("got %s\nwant %s", got, tt.fails)
					}
					return
				}
				rest := n.Dials()
				orders[fmt.Sprint(rest)] = true
				got := ""
				for level := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(tt.want, "["), "]"), "] [") {
					if strings.HasPrefix(tt.want, "[[") && !strings.Contains(tt.want, " ") {
						level = strings.TrimSuffix(strings.TrimPrefix(tt.want, "["), "]")
					}
					k := min(len(strings.Fields(level)), len(rest))
					part := rest[:k]
					rest = rest[k:]
					slices.SortFunc(part, netip.AddrPort.Compare)
					got += fmt.Sprint(part) + " "
				}
				for _, r := range rest {
					got += "and " + r.String()
				}
				if strings.TrimSpace(got) != tt.want {
					t.Fatalf("got %s, want %s", got, tt.want)
				}
			}
			if tt.name == "level" && len(orders) < 2 {
				t.Error("the level is not shuffled")
			}
		})
	}
}

func TestConnectGoesOn(t *testing.T) {
	t.Parallel()
	var n smtptest.Network
	busy := newPeer(t, &n, "192.0.2.1:25", smtptest.Busy)
	hello := newPeer(t, &n, "192.0.2.2:25", func(p *smtptest.Peer) { p.Reply("EHLO", "502 5.5.1 no") })
	good := newPeer(t, &n, "192.0.2.4:25")
	p := pathTo(nil, busy, hello, good)
	p.Site.Hosts = slices.Insert(p.Site.Hosts, 2, mtakit.Host{Name: "gone", Pref: 2, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.3")}})
	s := connect(t, egress(&n), p)
	if i := s.Info(); i.PeerAddr != good.Addr() || i.PeerName != "mx3.test" || i.Protocol != "ESMTP" || len(i.ID) != 36 || !i.LocalAddr.IsValid() {
		t.Errorf("info is %+v", i)
	}
	if got := hello.Commands(); !slices.Equal(got, []string{"EHLO client.test", "QUIT"}) {
		t.Errorf("%q", got)
	}

	p.Site.Hosts = p.Site.Hosts[:3]
	_, err := egress(&n).Connect(t.Context(), p)
	const want = "connect to 192.0.2.1:25 and read initial banner: the peer answered 421 4.3.2 too many connections, " +
		"192.0.2.2:25: EHLO client.test: the peer answered 502 5.5.1 no, " +
		"connect to 192.0.2.3:25 and read initial banner: failed to connect to 192.0.2.3:25 transport=192.0.2.3:25 proto=direct: connect: connection refused"
	var ce *smtpclient.ConnectError
	if !errors.As(err, &ce) || err.Error() != want || len(ce.Errs) != 3 {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if e := asError(t, ce.Errs[0]); e.Response.Code != 421 || e.Phase != smtpclient.PhaseBanner || e.PeerName != "mx1.test" || e.PeerAddr != busy.Addr() {
		t.Errorf("%+v", e)
	}
}

func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n smtptest.Network
		n.Fail("192.0.2.1", smtptest.ErrBlackhole)
		p := pathTo(nil)
		p.Site.Hosts = []mtakit.Host{{Name: "hole", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
		start := time.Now()
		_, err := egress(&n).Connect(t.Context(), p)
		const want = "connect to 192.0.2.1:25 and read initial banner: timeout after 1m while connecting to 192.0.2.1:25 transport=192.0.2.1:25 proto=direct"
		if err == nil || err.Error() != want || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestHelloName(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	for _, tt := range []struct{ path, source, egress, want string }{
		{"p.test", "s.test", "e.test", "p.test"}, {"", "s.test", "e.test", "s.test"}, {"", "", "e.test", "e.test"}, {"", "", "", host},
	} {
		var n smtptest.Network
		ca := smtptest.NewCA(t)
		peer := newPeer(t, &n, "192.0.2.1:25", smtptest.StartTLS(ca, "mx1.test"))
		p := pathTo(func(c *mtakit.PathConfig) { c.EHLODomain = tt.path; c.EnableTLS = mtakit.TLSRequired }, peer)
		p.Source = &mtakit.Source{Name: "s", EHLODomain: tt.source}
		connect(t, &smtpclient.Egress{Dial: n.Dial, Hostname: tt.egress, RootCAs: ca.Pool()}, p)
		if got := peer.Commands(); !slices.Equal(got, []string{"EHLO " + tt.want, "STARTTLS", "EHLO " + tt.want}) {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

func TestRedial(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		strategy mtakit.ReconnectStrategy
		want     string // "" is no further host
	}{
		{mtakit.ConnectNextHost, "mx2.test"}, {mtakit.ReconnectSameHost, "mx1.test"}, {mtakit.TerminateSession, ""},
	} {
		t.Run(string(tt.strategy), func(t *testing.T) {
			t.Parallel()
			var n smtptest.Network
			a := newPeer(t, &n, "192.0.2.1:25", func(p *smtptest.Peer) { p.On("DATA").Mute().Hangup().Times(1) })
			b := newPeer(t, &n, "192.0.2.2:25")
			s := connect(t, egress(&n), pathTo(func(c *mtakit.PathConfig) { c.ReconnectStrategy = tt.strategy }, a, b))
			id := s.Info().ID
			d := delivery("a@x.test", "x\r\n", "b@y.test")
			if err := s.Send(t.Context(), d, nil); err == nil {
				t.Fatal("no error")
			}
			if err := s.Send(t.Context(), d, nil); !errors.Is(err, mtakit.ErrNotAttempted) {
				t.Errorf("Send after the end: %v", err)
			}
			err := s.(mtakit.Redialer).Redial(t.Context())
			if tt.want == "" {
				if err == nil {
					t.Error("it went on")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if i := s.Info(); i.PeerName != tt.want || i.ID != id {
				t.Errorf("now at %s in session %s, want %s in %s", i.PeerName, i.ID, tt.want, id)
			}
			if err := s.Send(t.Context(), d, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTLSMatrix(t *testing.T) {
	t.Parallel()
	const (
		clear, enc, fail = "clear", "tls", "fail"
	)
	broken := func(p *smtptest.Peer) {
		p.On("STARTTLS").Then(func(c net.Conn) {
			io.ReadFull(c, make([]byte, 5))
			c.Write([]byte("garbage instead of a handshake\r\n"))
		})
	}
	refused := func(p *smtptest.Peer) { p.Reply("STARTTLS", "454 4.7.0 not now") }
	early := func(p *smtptest.Peer) { p.Reply("STARTTLS", "220 go\r\n250 injected\r\n").Raw() }
	for _, tt := range []struct {
		name   string
		mode   mtakit.TLSMode
		offer  string // "", good, wrong (name), unknown (CA)
		script func(*smtptest.Peer)
		want   string
		err    string
	}{
		{"disabled", mtakit.TLSDisabled, "good", nil, clear, ""},
		{"opportunistic none", mtakit.TLSOpportunistic, "", nil, clear, ""},
		{"opportunistic good", mtakit.TLSOpportunistic, "good", nil, enc, ""},
		{"opportunistic wrong name", mtakit.TLSOpportunistic, "wrong", nil, fail, "certificate is valid for other.test, not mx1.test"},
		{"opportunistic unknown CA", mtakit.TLSOpportunistic, "unknown", nil, fail, "certificate signed by unknown authority"},
		{"opportunistic broken", mtakit.TLSOpportunistic, "good", broken, fail, "TLS handshake: "},
		{"opportunistic refused", mtakit.TLSOpportunistic, "good", refused, fail, "STARTTLS: the peer answered 454 4.7.0 not now"},
		{"insecure none", mtakit.TLSOpportunisticInsecure, "", nil, clear, ""},
		{"insecure wrong name", mtakit.TLSOpportunisticInsecure, "wrong", nil, enc, ""},
		{"insecure unknown CA", mtakit.TLSOpportunisticInsecure, "unknown", nil, enc, ""},
		{"insecure broken", mtakit.TLSOpportunisticInsecure, "good", broken, fail,
			"All failures are related to OpportunisticInsecure STARTTLS. Consider setting enable_tls=Disabled for this site. "},
		{"insecure old", mtakit.TLSOpportunisticInsecure, "old", nil, clear, ""},
		{"required none", mtakit.TLSRequired, "", nil, fail, "tls policy is Required but STARTTLS is not advertised by 192.0.2.1:25"},
		{"required good", mtakit.TLSRequired, "good", nil, enc, ""},
		{"required wrong name", mtakit.TLSRequired, "wrong", nil, fail, "certificate is valid for other.test, not mx1.test"},
		{"required unknown CA", mtakit.TLSRequired, "unknown", nil, fail, "certificate signed by unknown authority"},
		{"required insecure none", mtakit.TLSRequiredInsecure, "", nil, fail, "tls policy is RequiredInsecure but STARTTLS is not advertised by 192.0.2.1:25"},
		{"required insecure wrong", mtakit.TLSRequiredInsecure, "wrong", nil, enc, ""},
		{"required insecure broken", mtakit.TLSRequiredInsecure, "good", broken, fail, "TLS handshake: "},
		{"injection", mtakit.TLSRequired, "good", early, fail, "bytes came in clear between the reply and the handshake"},
		{"injection insecure", mtakit.TLSOpportunisticInsecure, "good", early, fail, "bytes came in clear between the reply and the handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var n smtptest.Network
				ca := smtptest.NewCA(t)
				peer := newPeer(t, &n, "192.0.2.1:25")
				switch tt.offer {
				case "good":
					peer.SetTLS(ca.Config("mx1.test"))
				case "wrong":
					peer.SetTLS(ca.Config("other.test"))
				case "unknown":
					peer.SetTLS(smtptest.NewCA(t).Config("mx1.test"))
				case "old": // no version in common
					c := ca.Config("mx1.test")
					c.CipherSuites, c.MaxVersion = []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}, tls.VersionTLS12
					peer.SetTLS(c)
				}
				if tt.script != nil {
					tt.script(peer)
				}
				e := egress(&n)
				e.RootCAs = ca.Pool()
				s, err := e.Connect(t.Context(), pathTo(func(c *mtakit.PathConfig) { c.EnableTLS = tt.mode }, peer))
				if err != nil {
					if tt.want != fail || !strings.Contains(err.Error(), tt.err) {
						t.Errorf("got %v, want %s %q", err, tt.want, tt.err)
					}
					return
				}
				defer s.Close()
				if err := s.Send(t.Context(), delivery("a@x.test", "x\r\n", "b@y.test"), nil); err != nil {
					t.Fatal(err)
				}
				got := clear
				if m := peer.Messages(); len(m) == 1 && m[0].TLS != nil {
					got = enc
				}
				if got != tt.want {
					t.Errorf("the message went %s, want %s", got, tt.want)
				}
				if i := s.Info(); (got == enc) != (i.TLSVersion == "TLSv1.3" && strings.HasPrefix(i.TLSCipher, "TLS_") && slices.Contains(i.TLSSubject, "O=smtptest")) {
					t.Errorf("info is %+v", i)
				}
			})
		})
	}
}

func TestBrokenTLSIsRemembered(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		mode       mtakit.TLSMode
		remember   time.Duration
		reconnect  bool
		first      bool // the first Connect succeeds
		later      bool // and the second
		afterwards bool // and one after 20 minutes
	}{
		{"not", mtakit.TLSOpportunistic, 0, false, false, false, false},
		{"for an hour", mtakit.TLSOpportunistic, time.Hour, false, false, true, true},
		{"reconnect", mtakit.TLSOpportunistic, 0, true, true, true, true},
		{"reconnect insecure", mtakit.TLSOpportunisticInsecure, 0, true, true, true, true},
		{"required", mtakit.TLSRequired, time.Hour, true, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var n smtptest.Network
				peer := newPeer(t, &n, "192.0.2.1:25", func(p *smtptest.Peer) {
					p.On("STARTTLS").Then(func(c net.Conn) {
						io.ReadFull(c, make([]byte, 5))
						c.Write([]byte("garbage garbage\r\n"))
					})
				}, smtptest.StartTLS(smtptest.NewCA(t), "mx1.test"))
				e := egress(&n)
				p := pathTo(func(c *mtakit.PathConfig) {
					c.EnableTLS, c.RememberBrokenTLS, c.OpportunisticTLSReconnectOnFailedHandshake = tt.mode, mtakit.Duration(tt.remember), tt.reconnect
				}, peer)
				attempt := func(what string, want bool) int {
					before := slices.Clone(peer.Commands())
					s, err := e.Connect(t.Context(), p)
					if (err == nil) != want {
						t.Errorf("%s: %v", what, err)
					}
					if err == nil {
						s.Close()
					}
					tried := 0
					for _, c := range peer.Commands()[len(before):] {
						if c == "STARTTLS" {
							tried++
						}
					}
					return tried
				}
				attempt("first", tt.first)
				if tried := attempt("later", tt.later); (tried == 0) != tt.later {
					t.Errorf("STARTTLS %d times though remembered is %v", tried, tt.later)
				}
				time.Sleep(20 * time.Minute)
				if tried := attempt("afterwards", tt.afterwards); tt.remember == 0 && tried != 1 {
					t.Errorf("STARTTLS %d times after it was to be forgotten", tried)
				}
			})
		})
	}
}

// TestHandshakeTimeout: a peer that chokes on the key exchange is asked once more without its large part.
func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n smtptest.Network
		ca := smtptest.NewCA(t)
		var mu sync.Mutex
		var curves [][]tls.CurveID
		peer := newPeer(t, &n, "192.0.2.1:25")
		c := ca.Config("mx1.test")
		block := make(chan struct{})
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			mu.Lock()
			curves = append(curves, h.SupportedCurves)
			first := len(curves) == 1
			mu.Unlock()
			if first {
				<-block
			}
			return nil, nil
		}
		peer.SetTLS(c)
		e := egress(&n)
		e.RootCAs = ca.Pool()
		s, err := e.Connect(t.Context(), pathTo(func(c *mtakit.PathConfig) { c.EnableTLS = mtakit.TLSRequired }, peer))
		close(block)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if len(curves) != 2 || !slices.Contains(curves[0], tls.X25519MLKEM768) || slices.Contains(curves[1], tls.X25519MLKEM768) {
			t.Errorf("groups were %v", curves)
		}
	})
}

func TestAuth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		mode  mtakit.TLSMode
		set   func(*mtakit.PathConfig)
		reply string
		err   string
	}{
		{"verified", mtakit.TLSRequired, nil, "", ""},
		{"wrong password", mtakit.TLSRequired, nil, "535 5.7.8 no", "authenticating as scott via SMTP AUTH PLAIN to 192.0.2.1:25: 535 5.7.8 no"},
		{"clear", mtakit.TLSDisabled, nil, "", "TLS is not enabled and AUTH PLAIN is required. Skipping (192.0.2.1:25)"},
		{"clear allowed", mtakit.TLSDisabled, func(c *mtakit.PathConfig) { c.AllowAuthPlainWithoutTLS = true }, "", ""},
		{"unverified", mtakit.TLSRequiredInsecure, nil, "", "TLS peer certificate was not validated and AUTH PLAIN requires a valid certificate. Skipping (192.0.2.1:25)"},
		{"unverified allowed", mtakit.TLSRequiredInsecure, func(c *mtakit.PathConfig) { c.AllowAuthPlainWithoutValidCertificate = true }, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var n smtptest.Network
			ca := smtptest.NewCA(t)
			peer := newPeer(t, &n, "192.0.2.1:25", smtptest.StartTLS(ca, "mx1.test"))
			if tt.reply != "" {
				peer.Reply("AUTH", tt.reply)
			}
			file := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(file, []byte("tiger\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			e := egress(&n)
			e.RootCAs = ca.Pool()
			var shown strings.Builder
			e.Trace = func(*mtakit.Path, *mtakit.SessionInfo) *smtpclient.Trace {
				return &smtpclient.Trace{Command: func(line []byte) { shown.Write(line) }}
			}
			err := send(t.Context(), t, e, pathTo(func(c *mtakit.PathConfig) {
				c.EnableTLS, c.AuthPlainUsername, c.AuthPlainPassword = tt.mode, "scott", &mtakit.KeySource{File: file}
				if tt.set != nil {
					tt.set(c)
				}
			}, peer), delivery("a@x.test", "x\r\n", "b@y.test"))
			if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if err == nil && peer.Messages()[0].User != "scott" {
				t.Errorf("the user is %q", peer.Messages()[0].User)
			}
			if tt.err != "" && tt.reply == "" && slices.ContainsFunc(peer.Commands(), func(c string) bool { return strings.HasPrefix(c, "AUTH") }) {
				t.Error("the password went out")
			}
			if strings.Contains(shown.String(), "AHNjb3R0") {
				t.Errorf("the trace shows the password: %s", shown.String())
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	var n smtptest.Network
	ca := smtptest.NewCA(t)
	c := ca.Config("mx1.test")
	c.ClientAuth = tls.RequireAndVerifyClientCert
	peer := newPeer(t, &n, "192.0.2.1:25")
	peer.SetTLS(c)
	e := egress(&n)
	e.RootCAs = ca.Pool()
	cert, key := ca.KeyPEM(ca.Certificate("client.test"))
	err := send(t.Context(), t, e, pathTo(func(c *mtakit.PathConfig) {
		c.EnableTLS, c.TLSCertificate, c.TLSPrivateKey = mtakit.TLSRequired, &mtakit.KeySource{Data: cert}, &mtakit.KeySource{Data: key}
	}, peer), delivery("a@x.test", "x\r\n", "b@y.test"))
	if err != nil {
		t.Fatal(err)
	}
	if s := peer.Messages()[0].TLS; len(s.PeerCertificates) != 1 || s.PeerCertificates[0].Subject.CommonName != "client.test" {
		t.Errorf("%+v", s.PeerCertificates)
	}
}

func TestNoCACertificates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.pem")
	t.Setenv("SSL_CERT_FILE", file)
	t.Setenv("SSL_CERT_DIR", t.TempDir())
	if pool, err := x509.SystemCertPool(); err != nil || !pool.Equal(x509.NewCertPool()) {
		t.Skip("the system's certificates were loaded already")
	}
	var n smtptest.Network
	peer := newPeer(t, &n, "192.0.2.1:25", smtptest.StartTLS(smtptest.NewCA(t), "mx1.test"))
	_, err := egress(&n).Connect(t.Context(), pathTo(func(c *mtakit.PathConfig) { c.EnableTLS = mtakit.TLSRequired }, peer))
	if !errors.Is(err, smtpclient.ErrNoCertificates) || !strings.Contains(fmt.Sprint(err), "set SSL_CERT_FILE") {
		t.Errorf("got %v", err)
	}
}

func TestCheckTLS(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		set  func(*mtakit.PathConfig)
		want string
	}{
		{func(c *mtakit.PathConfig) {
			c.OpenSSLCipherList = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:AES256-SHA"
		}, ""},
		{func(c *mtakit.PathConfig) { c.OpenSSLCipherList = "HIGH:!aNULL" }, `openssl_cipher_list: "HIGH" is not a cipher suite that crypto/tls has`},
		{func(c *mtakit.PathConfig) {
			c.OpenSSLCipherSuites = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
		}, ""},
		{func(c *mtakit.PathConfig) {
			c.RustlsCipherSuites = []string{"TLS13_AES_128_GCM_SHA256", "tls_ecdhe_rsa_with_aes_256_gcm_sha384"}
		}, ""},
		{func(c *mtakit.PathConfig) { c.RustlsCipherSuites = []string{"TLS_NULL"} }, `rustls_cipher_suites: "TLS_NULL" is not a cipher suite that crypto/tls has`},
		{func(c *mtakit.PathConfig) { c.OpenSSLOptions = "NO_TLSV1|NO_TLSV1_1|NO_COMPRESSION" }, ""},
		{func(c *mtakit.PathConfig) { c.OpenSSLOptions = "NO_TLSV1|NO_FUN" }, `openssl_options: "NO_FUN" is not an option`},
		{func(c *mtakit.PathConfig) { c.OpenSSLOptions = "NO_TLSV1|NO_TLSV1_1|NO_TLSV1_2|NO_TLSV1_3" }, "openssl_options: no version of TLS is left"},
	} {
		c := mtakit.DefaultPathConfig()
		tt.set(&c)
		err := smtpclient.CheckTLS(&c)
		if got := fmt.Sprint(err); err != nil && got != tt.want || err == nil && tt.want != "" {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

func TestTLSOptionsHold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		set  func(*mtakit.PathConfig)
		want string // version and suite, or a part of the error
	}{
		{"no 1.3", func(c *mtakit.PathConfig) { c.OpenSSLOptions = "NO_TLSV1_3" }, "TLSv1.2"},
		{"a suite of 1.2", func(c *mtakit.PathConfig) {
			c.RustlsCipherSuites = []string{"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"}
		}, "TLSv1.2 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
		{"not that of 1.3", func(c *mtakit.PathConfig) { c.OpenSSLCipherSuites = "TLS_CHACHA20_POLY1305_SHA256" }, "TLS_AES_128_GCM_SHA256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var n smtptest.Network
			ca := smtptest.NewCA(t)
			peer := newPeer(t, &n, "192.0.2.1:25", smtptest.StartTLS(ca, "mx1.test"))
			e := egress(&n)
			e.RootCAs = ca.Pool()
			s, err := e.Connect(t.Context(), pathTo(func(c *mtakit.PathConfig) { c.EnableTLS = mtakit.TLSRequired; tt.set(c) }, peer))
			got := fmt.Sprint(err)
			if err == nil {
				defer s.Close()
				got = s.Info().TLSVersion + " " + s.Info().TLSCipher
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestSourceAddress(t *testing.T) {
	t.Parallel()
	var n smtptest.Network
	peer := newPeer(t, &n, "192.0.2.1:25")
	e := egress(&n)
	var told []string
	e.SourceFailed = func(s *mtakit.Source, health string, err error) { told = append(told, s.Name+" "+health) }
	p := pathTo(nil, peer)
	p.Source = &mtakit.Source{Name: "s1", SourceAddress: netip.MustParseAddr("198.51.100.7")}
	s := connect(t, e, p)
	if got := s.Info().LocalAddr.Addr(); got != p.Source.SourceAddress {
		t.Errorf("from %s", got)
	}
	n.Fail("198.51.100.7", smtptest.ErrUnplumbed)
	_, err := e.Connect(t.Context(), p)
	const want = "All failures are related to having an unplumbed source address. Are the network interfaces provisioned correctly? " +
		"connect to 192.0.2.1:25 and read initial banner: bind 198.51.100.7 for s1 failed: cannot assign requested address " +
		"while attempting to connect to 192.0.2.1:25 transport=192.0.2.1:25 proto=direct"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if !slices.Equal(told, []string{"s1 Unplumbed"}) {
		t.Errorf("told of %q", told)
	}
	got := map[string]float64{}
	for _, f := range e.Families() {
		e.Collect(f.Name, func(s mtakit.Sample) bool {
			got[f.Name+strings.Join(s.Labels, ",")] = s.Value
			return true
		})
	}
	if want := map[string]float64{"bind_failures": 1, "proxy_connection_failures": 0, "egress_source_connection_failures_totals1,Unplumbed": 1}; !maps.Equal(got, want) {
		t.Errorf("metrics are %v, want %v", got, want)
	}
}

// TestSockets binds real addresses of this machine, and one that it hasn't got.
func TestSockets(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	e := egress(nil)
	p := pathTo(nil, peer)
	p.Source = &mtakit.Source{Name: "s1", SourceAddress: netip.MustParseAddr("127.0.0.2")}
	s := connect(t, e, p)
	if got := s.Info().LocalAddr.Addr().String(); got != "127.0.0.2" {
		t.Errorf("from %s", got)
	}
	p.Source = &mtakit.Source{Name: "s2", SourceAddress: netip.MustParseAddr("192.0.2.77")}
	_, err := e.Connect(t.Context(), p)
	if !strings.Contains(fmt.Sprint(err), "unplumbed source address. Are the network interfaces provisioned correctly? ") {
		t.Errorf("got %v", err)
	}
	p.Source = &mtakit.Source{Name: "s3", SourceAddress: netip.MustParseAddr("2001:db8::77")}
	_, err = e.Connect(t.Context(), p)
	var se *smtpclient.SourceError
	if !errors.As(err, &se) || se.Kind != smtpclient.BindFailed {
		t.Errorf("got %v", err)
	}
}

// TestTraceSeesTheWholeMessage looks at what Data is given of messages on every way out.
func TestTraceSeesTheWholeMessage(t *testing.T) {
	t.Parallel()
	body := strings.Repeat(".0123456789abcdef\r\n", 6<<10)
	for name, b := range map[string]mtakit.Body{"memory": mtakit.Bytes(body), "disk": disk(body), "chunks": chunked(body)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.NewPeer(t, nil)
			var seen strings.Builder
			e := egress(nil)
			e.Trace = func(*mtakit.Path, *mtakit.SessionInfo) *smtpclient.Trace {
				return &smtpclient.Trace{Data: func(p []byte) { seen.Write(p) }}
			}
			d := delivery("a@x.test", "", "b@y.test")
			d.Body = b
			if err := send(t.Context(), t, e, pathTo(nil, peer), d); err != nil {
				t.Fatal(err)
			}
			if got, want := seen.String(), string(stuffNaively([]byte(body))); got != want {
				t.Errorf("%d bytes seen, want %d", len(got), len(want))
			}
		})
	}
}

func TestTrace(t *testing.T) {
	t.Parallel()
	var n smtptest.Network
	ca := smtptest.NewCA(t)
	peer := newPeer(t, &n, "192.0.2.1:25", smtptest.StartTLS(ca, "mx1.test"))
	var log []string
	note := func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
	e := egress(&n)
	e.RootCAs = ca.Pool()
	e.Trace = func(p *mtakit.Path, info *mtakit.SessionInfo) *smtpclient.Trace {
		return &smtpclient.Trace{
			Plan:       func(c []smtpclient.Candidate) { note("plan %d", len(c)) },
			Connecting: func(h string, a netip.AddrPort) { note("connecting %s %s", h, a) },
			Connected:  func(i *mtakit.SessionInfo, _ time.Duration) { note("connected %s", i.PeerAddr) },
			Handshake: func(s tls.ConnectionState, _ time.Duration, err error) {
				note("handshake %s %v", tls.VersionName(s.Version), err)
			},
			Delivery: func(d *mtakit.Delivery) { note("delivery %s", d.Message.Sender) },
			Command:  func(l []byte) { note("> %q", l) },
			Data:     func(b []byte) { note("data %q", b) },
			Reply:    func(r mtakit.Response, raw []byte, _ time.Duration) { note("< %d", r.Code) },
			Closed:   func(err error) { note("closed %v", err) },
		}
	}
	s := connect(t, e, pathTo(func(c *mtakit.PathConfig) { c.EnableTLS = mtakit.TLSRequired }, peer))
	if err := s.Send(t.Context(), delivery("a@x.test", ".x\r\n", "b@y.test"), nil); err != nil {
		t.Fatal(err)
	}
	s.Close()
	want := []string{
		"plan 1", "connecting mx1.test 192.0.2.1:25", "connected 192.0.2.1:25", "< 220", `> "EHLO client.test\r\n"`, "< 250", `> "STARTTLS\r\n"`, "< 220",
		"handshake TLS 1.3 <nil>", `> "EHLO client.test\r\n"`, "< 250", "delivery a@x.test", `> "MAIL FROM:<a@x.test> SIZE=4\r\n"`, `> "RCPT TO:<b@y.test>\r\n"`,
		`> "DATA\r\n"`, "< 250", "< 250", "< 354", `data "..x\r\n"`, `> ".\r\n"`, "< 250", `> "QUIT\r\n"`, "< 221", "closed <nil>",
	}
	if !slices.Equal(log, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
}
