package route_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient/route"
	"github.com/mtakit/mtakit/smtpclient/route/routetest"
)

const zone = `
example.com.        600 MX    20 b.mx.example.com.
example.com.        300 MX    10 A.mx.example.com.
example.com.        300 TXT   "v=spf1 " "-all"
a.mx.example.com.   60  A     192.0.2.1
a.mx.example.com.   60  AAAA  2001:db8::1
_25._tcp.a.mx.example.com. TLSA 3 1 1 0102030405060708091011121314151617181920212223242526272829303132
alias.example.com.  60  CNAME example.com.
null.example.com.       MX    0 .
loop1.example.com.      CNAME loop2.example.com.
loop2.example.com.      CNAME loop1.example.com.
*.wild.example.com.     MX    10 mx.wild.example.com.
zero.example.com.   0   A     192.0.2.3
huge.example.com. 2147483648 A 192.0.2.4
long.example.com. 2147483647 A 192.0.2.5
soa.example.        SOA   ns.soa.example. root.soa.example. 1 2 3 4 60
soa.example.        A     192.0.2.6
odd.example.            MX    10 a\(b.example.
odd.example.            MX    20 good.example.
allodd.example.         MX    10 a\032b.example.
mapped.example.         AAAA  ::ffff:127.0.0.1
mapped.example.         AAAA  2001:db8::2
`

// bubble runs f with a server in memory and a resolver on top, in virtual time.
func bubble(t *testing.T, zone string, f func(t *testing.T, srv *routetest.Server, r *route.Resolver)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := routetest.NewServer(zone)
		defer srv.Close()
		f(t, srv, srv.Resolver())
	})
}

func TestLookups(t *testing.T) {
	t.Parallel()
	bubble(t, zone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		ctx := t.Context()
		mx, err := r.LookupMX(ctx, "Example.com.")
		want := []mtakit.MX{{Host: "a.mx.example.com", Pref: 10}, {Host: "b.mx.example.com", Pref: 20}}
		if err != nil || !slices.Equal(mx.Records, want) || mx.Name != "example.com" || mx.Secure || !mx.Expires.Equal(time.Now().Add(300*time.Second)) {
			t.Errorf("MX: %+v, %v", mx, err)
		}
		v4, err := r.LookupAddr(ctx, "a.mx.example.com", mtakit.IPv4)
		if err != nil || !slices.Equal(v4.Records, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) {
			t.Errorf("A: %+v, %v", v4, err)
		}
		v6, err := r.LookupAddr(ctx, "a.mx.example.com", mtakit.IPv6)
		if err != nil || !slices.Equal(v6.Records, []netip.Addr{netip.MustParseAddr("2001:db8::1")}) {
			t.Errorf("AAAA: %+v, %v", v6, err)
		}
		txt, err := r.LookupTXT(ctx, "example.com")
		if err != nil || !slices.Equal(txt.Records, []string{"v=spf1 -all"}) {
			t.Errorf("TXT: %+v, %v", txt, err)
		}
		tlsa, err := r.LookupTLSA(ctx, "_25._tcp.a.mx.example.com")
		if err != nil || len(tlsa.Records) != 1 || tlsa.Records[0].Usage != 3 || len(tlsa.Records[0].Data) != 32 || tlsa.Records[0].Data[1] != 2 {
			t.Errorf("TLSA: %+v, %v", tlsa, err)
		}
		alias, err := r.LookupMX(ctx, "alias.example.com")
		if err != nil || alias.Name != "example.com" || len(alias.Records) != 2 || time.Until(alias.Expires) != time.Minute {
			t.Errorf("alias: %+v, %v", alias, err)
		}
		wild, err := r.LookupMX(ctx, "x.y.wild.example.com")
		if err != nil || len(wild.Records) != 1 {
			t.Errorf("wildcard: %+v, %v", wild, err)
		}
		odd, err := r.LookupMX(ctx, "odd.example")
		if err != nil || len(odd.Records) != 1 || odd.Records[0].Host != "good.example" {
			t.Errorf("a name that is no host name: %+v, %v", odd, err)
		}
		if odd, err = r.LookupMX(ctx, "allodd.example"); err == nil {
			t.Errorf("no usable host name: %+v, want an error: it is not the same as no MX", odd)
		}
		mapped, err := r.LookupAddr(ctx, "mapped.example", mtakit.IPv6)
		if err != nil || len(mapped.Records) != 1 {
			t.Errorf("mapped address: %+v, %v", mapped, err)
		}
		none, err := r.LookupTXT(ctx, "a.mx.example.com")
		if err != nil || len(none.Records) != 0 {
			t.Errorf("no such record: %+v, %v", none, err)
		}
		_, err = r.LookupMX(ctx, "nowhere.example.com")
		if d, ok := errors.AsType[*mtakit.DNSError](err); !ok || !d.NotFound || err.Error() != "MX lookup for nowhere.example.com failed: NXDOMAIN" {
			t.Errorf("no such name: %v", err)
		}
		for _, bad := range []string{"", ".", "a..b", "a b", `a\.b`, "ä.example", strings.Repeat("a", 64)} {
			if _, err := r.LookupMX(ctx, bad); err == nil {
				t.Errorf("LookupMX(%q) gives no error", bad)
			}
		}
	})
}

func TestSecure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := routetest.NewServer(zone)
		defer srv.Close()
		srv.SetSecure(true)
		if mx, err := srv.Resolver().LookupMX(t.Context(), "example.com"); err != nil || !mx.Secure {
			t.Errorf("trusted server: %+v, %v", mx, err)
		}
		if mx, err := srv.Resolver().LookupMX(t.Context(), "a.mx.example.com"); err != nil || !mx.Secure || len(mx.Records) != 0 {
			t.Errorf("secure absence: %+v, %v", mx, err)
		}
		r := newResolver(t, route.ResolverConfig{Servers: []string{"[::1]:53"}, Dial: srv.Dial})
		if mx, err := r.LookupMX(t.Context(), "example.com"); err != nil || mx.Secure {
			t.Errorf("a server that is not trusted: %+v, %v", mx, err)
		}
	})
}

func newResolver(t *testing.T, c route.ResolverConfig) *route.Resolver {
	t.Helper()
	r, err := route.NewResolver(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestTTL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		typ  string
		want time.Duration
	}{
		{"a.mx.example.com", "A", time.Minute},
		{"zero.example.com", "A", 10 * time.Second},
		{"huge.example.com", "A", 10 * time.Second},
		{"long.example.com", "A", 24 * time.Hour},
		{"soa.example", "AAAA", time.Minute},
		{"none.soa.example", "A", time.Minute},
		{"example.com", "A", 10 * time.Second}, // no SOA record says how long it may be believed
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, zone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
				lookup := func() {
					family := mtakit.IPv4
					if tt.typ == "AAAA" {
						family = mtakit.IPv6
					}
					_, err := r.LookupAddr(t.Context(), tt.name, family)
					if d, ok := errors.AsType[*mtakit.DNSError](err); err != nil && (!ok || !d.NotFound) {
						t.Fatal(err)
					}
				}
				lookup()
				sleep(tt.want - time.Millisecond)
				lookup()
				if n := len(srv.Queries()); n != 1 {
					t.Errorf("%d queries before %v, want 1", n, tt.want)
				}
				sleep(time.Millisecond)
				lookup()
				if n := len(srv.Queries()); n != 2 {
					t.Errorf("%d queries after %v, want 2", n, tt.want)
				}
			})
		})
	}
}

// sleep lets virtual time pass.
func sleep(d time.Duration) { <-time.After(d) }

func TestNegativeTTLIsCapped(t *testing.T) {
	t.Parallel()
	bubble(t, "x.example. 86400 SOA ns. root. 1 2 3 4 86400", func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		mx, err := r.LookupMX(t.Context(), "x.example")
		if err != nil || time.Until(mx.Expires) != 5*time.Minute {
			t.Errorf("%+v, %v, want it to expire after 5m", mx, err)
		}
	})
}

// Each row is a way in which servers lie or fail.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	const nx = "NXDOMAIN"
	for _, tt := range []struct {
		name  string
		ask   string // for its A record; default a.mx.example.com
		fault routetest.Fault
		want  string        // address, NXDOMAIN, or the beginning of the error's text
		after time.Duration // that the answer takes
		asked []string      // networks of the queries; not checked if nil
	}{
		{"nothing wrong", "", routetest.Fault{}, "192.0.2.1", 0, []string{"udp"}},
		{"wrong ID once", "", routetest.Fault{WrongID: true, Times: 1}, "192.0.2.1", time.Second, []string{"udp", "udp"}},
		{"wrong ID", "", routetest.Fault{WrongID: true}, "no answer from 192.0.2.53:53 within 5s", 10 * time.Second, nil},
		{"wrong question", "", routetest.Fault{WrongQuestion: true}, "no answer", 10 * time.Second, nil},
		{"wrong case over UDP", "", routetest.Fault{WrongCase: true, Network: "udp"}, "192.0.2.1", 0, []string{"udp", "tcp"}},
		{"wrong case everywhere", "", routetest.Fault{WrongCase: true}, "192.0.2.1", 0, []string{"udp", "tcp"}},
		{"truncated", "", routetest.Fault{Truncate: true}, "192.0.2.1", 0, []string{"udp", "tcp"}},
		{"truncated, TCP silent", "", routetest.Fault{Truncate: true, Packet: onlyTruncated}, "no answer", 10 * time.Second, nil},
		{"late", "", routetest.Fault{Delay: 2500 * time.Millisecond}, "192.0.2.1", 2500 * time.Millisecond, []string{"udp", "udp"}},
		{"too late", "", routetest.Fault{Delay: 6 * time.Second}, "no answer", 10 * time.Second, nil},
		{"lost", "", routetest.Fault{Drop: true, Times: 2}, "192.0.2.1", 3 * time.Second, []string{"udp", "udp", "udp"}},
		{"garbage", "", routetest.Fault{Packet: func([]byte) []byte { return []byte("garbage, and quite some of it") }}, "no answer", 10 * time.Second, nil},
		{"empty packets", "", routetest.Fault{Packet: func([]byte) []byte { return []byte{} }}, "no answer", 10 * time.Second, nil},
		{"cut off", "", routetest.Fault{Packet: func(p []byte) []byte { return p[:len(p)-5] }}, "no answer", 10 * time.Second, nil},
		{"SERVFAIL", "", routetest.Fault{Rcode: "SERVFAIL"}, "192.0.2.53:53: SERVFAIL", 0, []string{"udp"}},
		{"REFUSED", "", routetest.Fault{Rcode: "REFUSED"}, "192.0.2.53:53: REFUSED", 0, []string{"udp"}},
		{"NXDOMAIN", "", routetest.Fault{Rcode: "NXDOMAIN"}, nx, 0, []string{"udp"}},
		{"other owner in the answer", "", routetest.Fault{Answer: "other.example. A 192.0.2.66"}, "192.0.2.1", 0, nil},
		{"only other owners", "b.mx.example.com", routetest.Fault{Rcode: "NOERROR", Answer: "other.example. A 192.0.2.66"}, "none", 0, nil},
		{"planted in additional", "b.mx.example.com", routetest.Fault{Rcode: "NOERROR", Extra: "b.mx.example.com. A 192.0.2.66"}, "none", 0, nil},
		{"other class", "b.mx.example.com", routetest.Fault{Rcode: "NOERROR", Answer: "b.mx.example.com. CH A 192.0.2.66"}, "none", 0, nil},
		{"CNAME loop", "loop1.example.com", routetest.Fault{}, "a loop or more than 8 CNAMEs", 0, nil},
		{"CNAME to itself", "b.mx.example.com", routetest.Fault{Answer: "b.mx.example.com. CNAME B.mx.example.com."}, "a loop", 0, nil},
		{"CNAME to a bad name", "b.mx.example.com", routetest.Fault{Answer: `b.mx.example.com. CNAME a\.b.example.`}, "a CNAME leads to", 0, nil},
		{"CNAME not followed by the server", "b.mx.example.com",
			routetest.Fault{Rcode: "NOERROR", Answer: "b.mx.example.com. CNAME a.mx.example.com.", Times: 1}, "192.0.2.1", 0, []string{"udp", "udp"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, zone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
				if tt.ask == "" {
					tt.ask = "a.mx.example.com"
				}
				srv.Fail("", tt.fault)
				start := time.Now()
				answer, err := r.LookupAddr(t.Context(), tt.ask, mtakit.IPv4)
				got := "none"
				if d, ok := errors.AsType[*mtakit.DNSError](err); ok && d.NotFound {
					got = nx
				} else if ok {
					got = d.Err.Error()
					if d.Timeout != strings.HasPrefix(got, "no answer") {
						t.Errorf("Timeout is %v for %v", d.Timeout, err)
					}
				} else if len(answer.Records) > 0 {
					got = fmt.Sprint(answer.Records[0])
				}
				if !strings.HasPrefix(got, tt.want) || len(answer.Records) > 1 {
					t.Errorf("got %+v, %v, want %s", answer, err, tt.want)
				}
				if d := time.Since(start); d != tt.after {
					t.Errorf("it took %v, want %v", d, tt.after)
				}
				var asked []string
				for _, q := range srv.Queries() {
					asked = append(asked, q.Network)
				}
				if tt.asked != nil && !slices.Equal(asked, tt.asked) {
					t.Errorf("queries over %v, want %v", asked, tt.asked)
				}
			})
		})
	}
}

// onlyTruncated lets pass what has TC set.
func onlyTruncated(p []byte) []byte {
	if p[2]&2 == 0 {
		return nil
	}
	return p
}

func TestManyRecords(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 500 {
		fmt.Fprintf(&b, "big.example. MX %d mx%03d.big.example.\nbig.example. A 192.0.%d.%d\n", 1000-i, i, i/250, i%250)
	}
	bubble(t, b.String(), func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		mx, err := r.LookupMX(t.Context(), "big.example")
		if err != nil || len(mx.Records) != 200 || mx.Records[0] != (mtakit.MX{Host: "mx499.big.example", Pref: 501}) {
			t.Errorf("%d records, %v, want the best 200", len(mx.Records), err)
		}
		if a, err := r.LookupAddr(t.Context(), "big.example", mtakit.IPv4); err != nil || len(a.Records) != 200 {
			t.Errorf("%d addresses, %v, want 200", len(a.Records), err)
		}
	})
}

func TestNextServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad, good := routetest.NewServer(zone), routetest.NewServer(zone)
		defer bad.Close()
		defer good.Close()
		bad.Fail("", routetest.Fault{Rcode: "SERVFAIL"})
		r := newResolver(t, route.ResolverConfig{Servers: []string{"bad", "good"}, Dial: dialTo(map[string]*routetest.Server{"bad:53": bad, "good:53": good})})
		for _, name := range []string{"example.com", "null.example.com"} {
			if _, err := r.LookupMX(t.Context(), name); err != nil {
				t.Error(err)
			}
		}
		if b, g := len(bad.Queries()), len(good.Queries()); b != 1 || g != 2 {
			t.Errorf("%d queries at the bad server and %d at the good one, want 1 and 2: the one that helped is asked first", b, g)
		}
		good.Fail("", routetest.Fault{Drop: true})
		bad.Fail("", routetest.Fault{})
		start := time.Now()
		if _, err := r.LookupMX(t.Context(), "alias.example.com"); err != nil || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v, want the other server's answer after 5s", err, time.Since(start))
		}
	})
}

func dialTo(servers map[string]*routetest.Server) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if s := servers[address]; s != nil {
			return s.Dial(ctx, network, address)
		}
		return nil, errors.New("connection refused")
	}
}

func TestLookupIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := routetest.NewServer(zone)
		defer srv.Close()
		srv.Fail("", routetest.Fault{Drop: true})
		r := newResolver(t, route.ResolverConfig{Servers: []string{"a", "b", "c", "d", "e"}, Dial: srv.Dial})
		start := time.Now()
		_, err := r.LookupMX(t.Context(), "example.com")
		if d := time.Since(start); err == nil || d != 20*time.Second || !strings.HasSuffix(err.Error(), "no answer within 20s: i/o timeout") {
			t.Errorf("%v after %v, want an error after 20s", err, d)
		}
	})
}

// A dial that hangs is bounded, and ends with Close.
func TestHangingDial(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newResolver(t, route.ResolverConfig{Servers: []string{"a"}, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		start := time.Now()
		_, err := r.LookupMX(t.Context(), "example.com")
		if d, ok := errors.AsType[*mtakit.DNSError](err); !ok || !d.Timeout || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %v, want a time-out after two times 5s", err, time.Since(start))
		}
		go r.Close()
		start = time.Now()
		if _, err := r.LookupMX(t.Context(), "example.net"); !errors.Is(err, mtakit.ErrClosed) || time.Since(start) != 0 {
			t.Errorf("%v after %v, want ErrClosed at once", err, time.Since(start))
		}
	})
}

// Who waits for a slot hears of the end of its context, and whoever comes late finds the answer that others got.
func TestWaitForSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := routetest.NewServer(zone)
		defer srv.Close()
		srv.Fail("", routetest.Fault{Delay: 900 * time.Millisecond})
		r := newResolver(t, route.ResolverConfig{Servers: []string{"a"}, Dial: srv.Dial, MaxConcurrent: 1})
		go r.LookupMX(t.Context(), "null.example.com")
		synctest.Wait()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if mx, err := r.LookupMX(t.Context(), "example.com"); err != nil || len(mx.Records) != 2 {
					t.Errorf("%+v, %v", mx, err)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := r.LookupMX(ctx, "alias.example.com"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		wg.Wait()
		if n := len(srv.Queries()); n != 2 {
			t.Errorf("%d queries, want 2", n)
		}
	})
}

func TestUnreachableServer(t *testing.T) {
	t.Parallel()
	r := newResolver(t, route.ResolverConfig{Servers: []string{"192.0.2.9"}, Dial: dialTo(nil)})
	_, err := r.LookupMX(t.Context(), "example.com")
	if err == nil || err.Error() != "MX lookup for example.com failed: 192.0.2.9:53: connection refused" {
		t.Errorf("%v", err)
	}
}

func TestSingleFlight(t *testing.T) {
	t.Parallel()
	bubble(t, zone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		srv.Fail("", routetest.Fault{Delay: 500 * time.Millisecond})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if mx, err := r.LookupMX(t.Context(), "example.com"); err != nil || len(mx.Records) != 2 {
					t.Errorf("%+v, %v", mx, err)
				}
			})
		}
		wg.Wait()
		if n := len(srv.Queries()); n != 1 {
			t.Errorf("%d queries, want 1", n)
		}
	})
}

func TestMaxConcurrent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := routetest.NewServer(zone)
		defer srv.Close()
		srv.Fail("", routetest.Fault{Delay: 500 * time.Millisecond})
		r := newResolver(t, route.ResolverConfig{Servers: []string{"x"}, Dial: srv.Dial, MaxConcurrent: 2})
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				if _, err := r.LookupMX(t.Context(), fmt.Sprintf("x%d.wild.example.com", i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(start); d != 1500*time.Millisecond {
			t.Errorf("six look-ups of 500ms, two at once, took %v", d)
		}
	})
}

func TestContext(t *testing.T) {
	t.Parallel()
	bubble(t, zone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		srv.Fail("", routetest.Fault{Delay: 3500 * time.Millisecond})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.LookupMX(ctx, "example.com")
		if d, ok := errors.AsType[*mtakit.DNSError](err); !ok || !d.Timeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		sleep(3 * time.Second)
		asked := len(srv.Queries())
		if mx := mustLookup(r); len(mx.Records) != 2 || len(srv.Queries()) != asked {
			t.Errorf("%+v, want the answer that came meanwhile", mx)
		}
	})
}

func mustLookup(r *route.Resolver) mtakit.Answer[mtakit.MX] {
	mx, err := r.LookupMX(context.Background(), "example.com")
	if err != nil {
		panic(err)
	}
	return mx
}

func TestFailureIsRemembered(t *testing.T) {
	t.Parallel()
	bubble(t, zone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		srv.Fail("", routetest.Fault{Rcode: "SERVFAIL"})
		for range 3 {
			if _, err := r.LookupMX(t.Context(), "example.com"); err == nil {
				t.Error("no error")
			}
		}
		if n := len(srv.Queries()); n != 1 {
			t.Errorf("%d queries, want 1", n)
		}
		srv.Fail("", routetest.Fault{})
		sleep(10 * time.Second)
		mustLookup(r)
	})
}

func TestStale(t *testing.T) {
	t.Parallel()
	bubble(t, zone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		srv.SetSecure(true)
		mustLookup(r)
		srv.SetSecure(false)
		sleep(301 * time.Second)
		srv.Fail("", routetest.Fault{Drop: true})
		start := time.Now()
		mx := mustLookup(r)
		if len(mx.Records) != 2 || !mx.Secure || time.Since(start) != 1800*time.Millisecond || time.Until(mx.Expires) != 30*time.Second {
			t.Errorf("%+v after %v, want the stale answer after 1.8s", mx, time.Since(start))
		}
		start = time.Now()
		if mx = mustLookup(r); len(mx.Records) != 2 || time.Since(start) != 0 {
			t.Errorf("%+v after %v, want the stale answer at once: somebody has waited", mx, time.Since(start))
		}
		sleep(10 * time.Second) // the look-up has failed
		start = time.Now()
		if mx = mustLookup(r); len(mx.Records) != 2 || time.Since(start) != 0 {
			t.Errorf("%+v after %v, want the stale answer at once", mx, time.Since(start))
		}
		sleep(30 * time.Second)
		srv.Fail("", routetest.Fault{Rcode: "SERVFAIL"})
		start = time.Now()
		if mx = mustLookup(r); len(mx.Records) != 2 || time.Since(start) != 0 {
			t.Errorf("%+v after %v, want the stale answer at once", mx, time.Since(start))
		}
		sleep(30 * time.Second)
		srv.Fail("", routetest.Fault{})
		if mx = mustLookup(r); len(mx.Records) != 2 || mx.Secure || time.Until(mx.Expires) != 300*time.Second {
			t.Errorf("%+v, want a new answer", mx)
		}
		srv.Fail("", routetest.Fault{Rcode: "SERVFAIL"})
		sleep(7 * time.Hour)
		if mx, err := r.LookupMX(t.Context(), "example.com"); err == nil {
			t.Errorf("%+v seven hours later, want an error", mx)
		}
		srv.Fail("", routetest.Fault{})
		sleep(10 * time.Second)
		mustLookup(r)
		sleep(301 * time.Second)
		srv.Fail("", routetest.Fault{Rcode: "NXDOMAIN"})
		if mx, err := r.LookupMX(t.Context(), "example.com"); err == nil {
			t.Errorf("%+v, want NXDOMAIN: the domain is gone", mx)
		}
	})
}

func TestTCPConnectionsAreReused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := routetest.NewServer(zone)
		defer srv.Close()
		srv.Fail("", routetest.Fault{Truncate: true})
		dials := 0
		r := newResolver(t, route.ResolverConfig{Servers: []string{"x"}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if network == "tcp" {
				dials++
			}
			return srv.Dial(ctx, network, address)
		}})
		for i := range 3 {
			if _, err := r.LookupMX(t.Context(), fmt.Sprintf("x%d.wild.example.com", i)); err != nil {
				t.Fatal(err)
			}
			sleep(5 * time.Second)
		}
		if dials != 1 {
			t.Errorf("%d TCP connections for three questions, want 1", dials)
		}
		sleep(10 * time.Second)
		if _, err := r.LookupMX(t.Context(), "x4.wild.example.com"); err != nil || dials != 2 {
			t.Errorf("%v, %d connections, want a second one after a while", err, dials)
		}
	})
}

func TestServerClosesIdleConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := routetest.NewServer(zone)
		defer srv.Close()
		srv.Fail("", routetest.Fault{Truncate: true})
		var conns []net.Conn
		r := newResolver(t, route.ResolverConfig{Servers: []string{"x"}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := srv.Dial(ctx, network, address)
			if network == "tcp" {
				conns = append(conns, conn)
			}
			return conn, err
		}})
		for i := range 2 {
			if _, err := r.LookupMX(t.Context(), fmt.Sprintf("x%d.wild.example.com", i)); err != nil {
				t.Fatal(err)
			}
			conns[i].Close()
		}
		if len(conns) != 2 || len(srv.Queries()) != 4 {
			t.Errorf("%d connections and %d queries, want 2 and 4", len(conns), len(srv.Queries()))
		}
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	bubble(t, zone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		mustLookup(r)
		srv.Fail("", routetest.Fault{Drop: true})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.LookupMX(t.Context(), "alias.example.com"); !errors.Is(err, mtakit.ErrClosed) {
				t.Errorf("while closing: %v", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		r.Close()
		wg.Wait()
		if time.Since(start) != 0 {
			t.Errorf("Close took %v", time.Since(start))
		}
		if _, err := r.LookupMX(t.Context(), "null.example.com"); !errors.Is(err, mtakit.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		mustLookup(r)
		r.Close()
	})
}

func TestResolverConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []route.ResolverConfig{
		{Timeout: -1}, {MaxConcurrent: -1}, {CacheSize: -1}, {MaxNegativeTTL: -1}, {Servers: []string{""}}, {Servers: []string{":53"}}, {Servers: []string{"a:"}},
	} {
		if r, err := route.NewResolver(c); err == nil {
			r.Close()
			t.Errorf("%+v is accepted", c)
		}
	}
	for _, s := range []string{"127.0.0.1", "127.0.0.1:5353", "::1", "[::1]", "[::1]:53", "dns.example"} {
		newResolver(t, route.ResolverConfig{Servers: []string{s}})
	}
}

func BenchmarkLookupMXCached(b *testing.B) {
	srv := routetest.NewServer(zone)
	defer srv.Close()
	r := srv.Resolver()
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.LookupMX(ctx, "example.com"); err != nil {
			b.Fatal(err)
		}
	}
}
