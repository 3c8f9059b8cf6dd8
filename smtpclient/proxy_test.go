package smtpclient_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
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

// proxyServer takes connections at addr, does the handshake and joins them to target; it gives what the handshake said.
func proxyServer(t *testing.T, n *smtptest.Network, addr string, handshake func(net.Conn) (ok bool), target netip.AddrPort) {
	t.Helper()
	l, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if !handshake(c) {
					return
				}
				d, err := n.Dial(t.Context(), netip.Addr{}, target)
				if err != nil {
					return
				}
				defer d.Close()
				go func() { io.Copy(c, d); c.Close() }()
				io.Copy(d, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
}

func proxied(peer *smtptest.Peer, src *mtakit.Source) *mtakit.Path {
	p := pathTo(nil, peer)
	src.Name = "s1"
	p.Source = src
	return p
}

func TestHAProxy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ peer, source, want string }{
		{"192.0.2.1:25", "198.51.100.7", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x00\x00\x00\x19"},
		{"[2001:db8::1]:25", "2001:db8::7", "\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24 \x01\r\xb8" + strings.Repeat("\x00", 11) + "\x07 \x01\r\xb8" + strings.Repeat("\x00", 11) + "\x01\x00\x00\x00\x19"},
	} {
		t.Run(tt.source, func(t *testing.T) {
			t.Parallel()
			var n smtptest.Network
			peer := newPeer(t, &n, tt.peer)
			got := make(chan string, 1)
			proxyServer(t, &n, "203.0.113.1:5000", func(c net.Conn) bool {
				b := make([]byte, len(tt.want))
				io.ReadFull(c, b)
				got <- string(b)
				return true
			}, peer.Addr())
			p := proxied(peer, &mtakit.Source{HAProxyServer: "203.0.113.1:5000", HAProxySourceAddress: netip.MustParseAddr(tt.source)})
			s := connect(t, egress(&n), p)
			if err := s.Send(t.Context(), delivery("a@x.test", "x\r\n", "b@y.test"), nil); err != nil {
				t.Fatal(err)
			}
			if g := <-got; g != tt.want {
				t.Errorf("header %q, want %q", g, tt.want)
			}
			i := s.Info()
			if i.ProxyProtocol != "haproxy" || i.ProxyServer.String() != "203.0.113.1:5000" || i.LocalAddr != netip.AddrPortFrom(netip.MustParseAddr(tt.source), 0) ||
				i.PeerAddr != peer.Addr() {
				t.Errorf("info is %+v", i)
			}
		})
	}
}

// socksScript answers a SOCKS5 client with the given replies, and keeps what it said.
type socksScript struct {
	mu   sync.Mutex
	said []string
	auth byte // method chosen
	pass byte // status of authentication
	bind byte // status of BIND
	conn byte // status of CONNECT
}

func (s *socksScript) serve(c net.Conn) bool {
	hear := func(n int) {
		b := make([]byte, n)
		io.ReadFull(c, b)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.said = append(s.said, fmt.Sprintf("%x", b))
	}
	head := make([]byte, 2)
	io.ReadFull(c, head)
	hear(int(head[1]))
	c.Write([]byte{5, s.auth})
	if s.auth == 2 {
		hear(2 + 4 + 1 + 3)
		c.Write([]byte{1, s.pass})
	}
	hear(10)
	c.Write([]byte{5, s.bind, 0, 1, 0, 0, 0, 0, 0, 0})
	hear(10)
	c.Write([]byte{5, s.conn, 0, 1, 198, 51, 100, 7, 0x10, 0})
	return s.bind == 0 && s.conn == 0
}

func TestSOCKS5(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		script *socksScript
		said   []string
		kind   smtpclient.SourceFailure
		err    string
	}{
		{"plain", &socksScript{}, []string{"0002", "05020001c63364070000", "05010001c00002010019"}, "", ""},
		{"authenticated", &socksScript{auth: 2}, []string{"0002", "0104757365720370773d", "05020001c63364070000", "05010001c00002010019"}, "", ""},
		{"authentication fails", &socksScript{auth: 2, pass: 1}, nil, smtpclient.ProxyHandshake, "proxy handshake: authentication as user failed"},
		{"no method", &socksScript{auth: 0xff}, nil, smtpclient.ProxyHandshake, "no acceptable authentication method"},
		{"bind fails", &socksScript{bind: 1}, nil, smtpclient.ProxyBindFailed, "All failures are related to the proxy server having an unplumbed source address. Are the network interfaces provisioned correctly on the proxy? " +
			"connect to 192.0.2.1:25 and read initial banner: The proxy server failed to bind 198.51.100.7 via 192.0.2.1:25 transport=203.0.113.1:1080 proto=socks5: general SOCKS server failure"},
		{"connect fails", &socksScript{conn: 5}, nil, smtpclient.ProxyHandshake, "proxy handshake: connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var n smtptest.Network
			peer := newPeer(t, &n, "192.0.2.1:25")
			proxyServer(t, &n, "203.0.113.1:1080", tt.script.serve, peer.Addr())
			p := proxied(peer, &mtakit.Source{SOCKS5Server: "203.0.113.1:1080", SOCKS5SourceAddress: netip.MustParseAddr("198.51.100.7"),
				SOCKS5Username: "user", SOCKS5Password: &mtakit.KeySource{Data: []byte("pw=")}})
			s, err := egress(&n).Connect(t.Context(), p)
			if tt.err != "" {
				var se *smtpclient.SourceError
				if !errors.As(err, &se) || se.Kind != tt.kind || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if i := s.Info(); i.ProxyProtocol != "socks5" || i.LocalAddr.String() != "198.51.100.7:4096" {
				t.Errorf("info is %+v", i)
			}
			if !slices.Equal(tt.script.said, tt.said) {
				t.Errorf("said %q, want %q", tt.script.said, tt.said)
			}
		})
	}
}

func TestProxyTrouble(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		name string
		src  mtakit.Source
		want string
	}{
		{"down", mtakit.Source{HAProxyServer: "203.0.113.9:5000", HAProxySourceAddress: addr("198.51.100.7")},
			"All failures are related to proxy connection issues. Is the proxy infrastructure online and healthy? connect to 192.0.2.1:25 and read initial banner: " +
				"failed to connect to 192.0.2.1:25 transport=203.0.113.9:5000 proto=haproxy: connect: connection refused"},
		{"silent", mtakit.Source{SOCKS5Server: "203.0.113.2:1080", SOCKS5SourceAddress: addr("198.51.100.7")},
			"timeout after 1m while performing proxy handshake with 192.0.2.1:25 transport=203.0.113.2:1080 proto=socks5"},
		{"two addresses", mtakit.Source{HAProxyServer: "proxy.test:5000", HAProxySourceAddress: addr("198.51.100.7")},
			"failed to connect via any of 2 candidate(s) for source s1: 203.0.113.8:5000: failed to connect to"},
		{"family", mtakit.Source{HAProxyServer: "203.0.113.9:5000", HAProxySourceAddress: addr("2001:db8::7")},
			"Skipping s1 because ha_proxy_source_address 2001:db8::7 address family does not match the destination address family 192.0.2.1"},
		{"unknown", mtakit.Source{HAProxyServer: "gone.test:5000", HAProxySourceAddress: addr("198.51.100.7")}, "the proxy gone.test:5000 of source s1 cannot be found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var n smtptest.Network
				peer := newPeer(t, &n, "192.0.2.1:25")
				newPeer(t, &n, "203.0.113.2:1080", smtptest.Tarpit(time.Hour))
				e := egress(&n)
				e.Resolver = zones{"proxy.test": {"203.0.113.8", "203.0.113.9"}}
				_, err := e.Connect(t.Context(), proxied(peer, &tt.src))
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got  %v\nwant %s", err, tt.want)
				}
			})
		})
	}
}
