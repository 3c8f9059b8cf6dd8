package route_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient/route"
	"github.com/mtakit/mtakit/smtpclient/route/routetest"
)

const routerZone = `
x.net.                    MX 20 m3.x.net.
x.net.                    MX 10 M2.x.net.
x.net.                    MX 10 m1.x.net.
x.net.                    MX 30 m1.x.net.
null.example.             MX 0 .
notalone.example.         MX 0 .
notalone.example.         MX 10 mx.notalone.example.
implicit.example.         A  192.0.2.1
xn--bcher-kva.example.    A  192.0.2.1
xn--0.example.            A  192.0.2.1
a_b.example.              MX 10 m_x.a_b.example.
loopback.example.         MX 10 localhost.
`

func TestRoute(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		domain, site string
		hosts        []mtakit.Host
		ttl          time.Duration // 0 is for ever
	}{
		{"x.net", "(m1|m2|m3).x.net", []mtakit.Host{{Name: "m1.x.net", Pref: 10}, {Name: "m2.x.net", Pref: 10}, {Name: "m3.x.net", Pref: 20}}, 300 * time.Second},
		{"X.Net.", "(m1|m2|m3).x.net", []mtakit.Host{{Name: "m1.x.net", Pref: 10}, {Name: "m2.x.net", Pref: 10}, {Name: "m3.x.net", Pref: 20}}, 300 * time.Second},
		{"x.net:2025", "(m1|m2|m3).x.net:2025", []mtakit.Host{{Name: "m1.x.net", Pref: 10, Port: 2025}, {Name: "m2.x.net", Pref: 10, Port: 2025},
			{Name: "m3.x.net", Pref: 20, Port: 2025}}, 300 * time.Second},
		{"null.example", "", []mtakit.Host{{Name: "."}}, 300 * time.Second},
		{"notalone.example", "mx.notalone.example", []mtakit.Host{{Name: "mx.notalone.example", Pref: 10}}, 300 * time.Second},
		{"implicit.example", "implicit.example", []mtakit.Host{{Name: "implicit.example", Pref: 1}}, 10 * time.Second},
		{"implicit.example:26", "implicit.example:26", []mtakit.Host{{Name: "implicit.example", Pref: 1, Port: 26}}, 10 * time.Second},
		{"bücher.example", "xn--bcher-kva.example", []mtakit.Host{{Name: "xn--bcher-kva.example", Pref: 1}}, 10 * time.Second},
		{"xn--0.example", "xn--0.example", []mtakit.Host{{Name: "xn--0.example", Pref: 1}}, 10 * time.Second},
		{"a_b.example", "m_x.a_b.example", []mtakit.Host{{Name: "m_x.a_b.example", Pref: 10}}, 300 * time.Second},
		{"loopback.example", "localhost", []mtakit.Host{{Name: "localhost", Pref: 10}}, 300 * time.Second},
		{"[192.0.2.1]", "192.0.2.1", []mtakit.Host{{Name: "192.0.2.1", Addrs: addrs("192.0.2.1")}}, 0},
		{"[192.0.2.1:26]", "192.0.2.1:26", []mtakit.Host{{Name: "192.0.2.1", Addrs: addrs("192.0.2.1"), Port: 26}}, 0},
		{"[IPv6:::1]", "::1", []mtakit.Host{{Name: "::1", Addrs: addrs("::1")}}, 0},
		{"[::1]:26", "[::1]:26", []mtakit.Host{{Name: "::1", Addrs: addrs("::1"), Port: 26}}, 0},
	} {
		t.Run(tt.domain, func(t *testing.T) {
			bubble(t, routerZone, func(t *testing.T, _ *routetest.Server, r *route.Resolver) {
				site, err := route.New(route.Config{Resolver: r}).Route(t.Context(), tt.domain)
				if err != nil {
					t.Fatal(err)
				}
				if site.Name != tt.site || !reflect.DeepEqual(site.Hosts, tt.hosts) || site.Ordered || site.IsNull() != (tt.site == "") {
					t.Errorf("got %+v, want %s %+v", site, tt.site, tt.hosts)
				}
				if tt.ttl == 0 != site.Expires.IsZero() || tt.ttl != 0 && time.Until(site.Expires) != tt.ttl {
					t.Errorf("it expires at %v, want %v from now", site.Expires, tt.ttl)
				}
			})
		})
	}
}

func addrs(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }

func TestRouteErrors(t *testing.T) {
	t.Parallel()
	bubble(t, routerZone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		router := route.New(route.Config{Resolver: r})
		srv.Fail("nowhere.example", routetest.Fault{Delay: 250 * time.Millisecond})
		_, err := router.Route(t.Context(), "nowhere.example:26")
		d, ok := errors.AsType[*mtakit.DNSError](err)
		if !ok || !d.NotFound || err.Error() != "MX lookup for nowhere.example failed after 250ms: NXDOMAIN" {
			t.Errorf("no such domain: %v", err)
		}
		srv.Fail("x.net", routetest.Fault{Rcode: "SERVFAIL"})
		_, err = router.Route(t.Context(), "x.net")
		d, ok = errors.AsType[*mtakit.DNSError](err)
		if !ok || d.NotFound || err.Error() != "MX lookup for x.net failed after 0s: 192.0.2.53:53: SERVFAIL" {
			t.Errorf("server failure: %v", err)
		}
		if _, err = router.Route(t.Context(), "[192.0.2.1"); !errors.Is(err, route.ErrBadDomain) {
			t.Errorf("bad literal: %v", err)
		}
	})
}

func TestRouteIsCached(t *testing.T) {
	t.Parallel()
	bubble(t, routerZone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		router := route.New(route.Config{Resolver: r})
		sites := make([]*mtakit.Site, 20)
		var wg sync.WaitGroup
		for i := range sites {
			wg.Go(func() { sites[i], _ = router.Route(t.Context(), []string{"x.net", "X.NET."}[i%2]) })
		}
		wg.Wait()
		for i, s := range sites {
			if s == nil || s != sites[0] {
				t.Errorf("call %d got %p, another one %p", i, s, sites[0])
			}
		}
		sleep(299 * time.Second)
		if s, err := router.Route(t.Context(), "x.net"); s != sites[0] || err != nil {
			t.Errorf("before it expires: %p, %v, want %p", s, err, sites[0])
		}
		sleep(time.Second)
		if s, err := router.Route(t.Context(), "x.net"); s == sites[0] || err != nil || s.Name != sites[0].Name {
			t.Errorf("after it expired: %+v, %v, want a new one", s, err)
		}
		if n := len(srv.Queries()); n != 2 {
			t.Errorf("%d queries, want 2", n)
		}
	})
}

func TestSecureSites(t *testing.T) {
	t.Parallel()
	bubble(t, routerZone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		srv.SetSecure(true)
		router := route.New(route.Config{Resolver: r})
		for domain, want := range map[string]bool{"x.net": true, "implicit.example": true, "[192.0.2.1]": false} {
			site, err := router.Route(t.Context(), domain)
			if err != nil || site.Hosts[0].Secure != want {
				t.Errorf("%s: %+v, %v, want Secure %v", domain, site, err, want)
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	bubble(t, routerZone, func(t *testing.T, srv *routetest.Server, r *route.Resolver) {
		router := route.New(route.Config{Resolver: r})
		want := func(want map[string]float64) {
			t.Helper()
			got := map[string]float64{}
			for _, f := range router.Families() {
				router.Collect(f.Name, func(s mtakit.Sample) bool {
					got[f.Name] = s.Value
					return true
				})
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		for _, d := range []string{"x.net", "x.net", "X.net", "null.example", "nowhere.example"} {
			router.Route(t.Context(), d)
		}
		srv.Fail("", routetest.Fault{Delay: time.Second / 2})
		go router.Route(t.Context(), "implicit.example")
		synctest.Wait()
		want(map[string]float64{"dns_mx_resolve_cache_hit": 2, "dns_mx_resolve_cache_miss": 4, "dns_mx_resolve_in_progress": 1,
			"dns_mx_resolve_status_ok": 2, "dns_mx_resolve_status_fail": 1})
		sleep(time.Second)
		want(map[string]float64{"dns_mx_resolve_cache_hit": 2, "dns_mx_resolve_cache_miss": 4, "dns_mx_resolve_in_progress": 0,
			"dns_mx_resolve_status_ok": 3, "dns_mx_resolve_status_fail": 1})
	})
}

func TestStatic(t *testing.T) {
	t.Parallel()
	router, err := route.Static("Smart.example", "10.0.0.1:26", "[::1]:27")
	if err != nil {
		t.Fatal(err)
	}
	a, err := router.Route(t.Context(), "one.example")
	if err != nil {
		t.Fatal(err)
	}
	want := &mtakit.Site{Name: "mx_list:Smart.example,10.0.0.1:26,[::1]:27", Ordered: true, Hosts: []mtakit.Host{
		{Name: "smart.example", Exempt: true},
		{Name: "10.0.0.1", Port: 26, Addrs: addrs("10.0.0.1"), Pref: 1, Exempt: true},
		{Name: "::1", Port: 27, Addrs: addrs("::1"), Pref: 2, Exempt: true},
	}}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("got %+v, want %+v", a, want)
	}
	if b, err := router.Route(t.Context(), "[192.0.2.1]"); b != a || err != nil {
		t.Errorf("another domain has %p, %v, want %p", b, err, a)
	}
	for _, hosts := range [][]string{nil, {""}, {"a", "b:x"}} {
		if _, err := route.Static(hosts...); err == nil {
			t.Errorf("Static(%q) gives no error", hosts)
		}
	}
}

func TestDefaultRouter(t *testing.T) {
	t.Parallel()
	router := route.New(route.Config{})
	if s, err := router.Route(t.Context(), "[192.0.2.1]"); err != nil || s.Name != "192.0.2.1" {
		t.Errorf("%+v, %v", s, err)
	}
	if err := router.Close(); err != nil {
		t.Error(err)
	}
	if _, err := router.Route(t.Context(), "example.com"); !errors.Is(err, mtakit.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestRouteHitDoesNotAllocate(t *testing.T) {
	srv := routetest.NewServer(routerZone)
	defer srv.Close()
	router := route.New(route.Config{Resolver: srv.Resolver()})
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { router.Route(ctx, "x.net") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRouteHit(b *testing.B) {
	srv := routetest.NewServer(routerZone)
	defer srv.Close()
	router := route.New(route.Config{Resolver: srv.Resolver()})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := router.Route(ctx, "x.net"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRouteHitParallel(b *testing.B) {
	srv := routetest.NewServer(routerZone)
	defer srv.Close()
	router := route.New(route.Config{Resolver: srv.Resolver()})
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			router.Route(ctx, "x.net")
		}
	})
}

func ExampleRouter() {
	srv := routetest.NewServer(`
		gmail.com. MX 5  gmail-smtp-in.l.google.com.
		gmail.com. MX 10 alt1.gmail-smtp-in.l.google.com.
		gmail.com. MX 20 alt2.gmail-smtp-in.l.google.com.
	`)
	defer srv.Close()

	router := route.New(route.Config{Resolver: srv.Resolver()})
	site, err := router.Route(context.Background(), "gmail.com")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(site.Name)
	for _, h := range site.Hosts {
		fmt.Println(h.Pref, h.Name)
	}
	// Output:
	// (alt1|alt2)?.gmail-smtp-in.l.google.com
	// 5 gmail-smtp-in.l.google.com
	// 10 alt1.gmail-smtp-in.l.google.com
	// 20 alt2.gmail-smtp-in.l.google.com
}
