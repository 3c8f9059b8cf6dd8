package routetest_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient/route"
	"github.com/mtakit/mtakit/smtpclient/route/routetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestListen(t *testing.T) {
	t.Parallel()
	srv := routetest.NewServer("example.com. MX 10 mx.example.com.")
	defer srv.Close()
	addr, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	r, err := route.NewResolver(route.ResolverConfig{Servers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := []mtakit.MX{{Host: "mx.example.com", Pref: 10}}
	if mx, err := r.LookupMX(t.Context(), "example.com"); err != nil || !slices.Equal(mx.Records, want) {
		t.Errorf("over UDP: %+v, %v", mx, err)
	}
	srv.SetZones("example.net. MX 10 mx.example.com.")
	srv.Fail("Example.net/mx", routetest.Fault{Truncate: true})
	if mx, err := r.LookupMX(t.Context(), "example.net"); err != nil || !slices.Equal(mx.Records, want) {
		t.Errorf("over TCP: %+v, %v", mx, err)
	}
	wantQueries := []routetest.Query{{"udp", "example.com", "MX"}, {"udp", "example.net", "MX"}, {"tcp", "example.net", "MX"}}
	if q := srv.Queries(); !slices.Equal(q, wantQueries) {
		t.Errorf("queries %v, want %v", q, wantQueries)
	}
	srv.Close()
	if _, err := srv.Listen(); err == nil {
		t.Error("Listen works after Close")
	}
	if _, err := srv.Dial(t.Context(), "udp", ""); err == nil {
		t.Error("Dial works after Close")
	}
}

// Others' resolvers understand the server too.
func TestStandardResolver(t *testing.T) {
	t.Parallel()
	srv := routetest.NewServer(`
		example.com.      MX    10 mx.example.com.
		www.example.com.  CNAME example.com.
		example.com.      A     192.0.2.1`)
	defer srv.Close()
	addr, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	if mx, err := r.LookupMX(t.Context(), "example.com."); err != nil || len(mx) != 1 || mx[0].Host != "mx.example.com." {
		t.Errorf("MX: %v, %v", mx, err)
	}
	if a, err := r.LookupHost(t.Context(), "www.example.com."); err != nil || !slices.Equal(a, []string{"192.0.2.1"}) {
		t.Errorf("A: %v, %v", a, err)
	}
	if _, err := r.LookupHost(t.Context(), "nowhere.example.com."); err == nil {
		t.Error("a name that does not exist has an address")
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	srv := routetest.NewServer("")
	defer srv.Close()
	for name, f := range map[string]func(){
		"NewServer": func() { routetest.NewServer("not a zone") },
		"SetZones":  func() { srv.SetZones("a. MX x") },
		"Answer":    func() { srv.Fail("", routetest.Fault{Answer: "a. MX x"}) },
		"Rcode":     func() { srv.Fail("", routetest.Fault{Rcode: "OUCH"}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s takes bad input", name)
				}
			}()
			f()
		}()
	}
}

func Example() {
	srv := routetest.NewServer("example.com. MX 10 mx.example.com.")
	defer srv.Close()
	srv.Fail("broken.example", routetest.Fault{Rcode: "SERVFAIL"})

	router := route.New(route.Config{Resolver: srv.Resolver()})
	site, err := router.Route(context.Background(), "example.com")
	fmt.Println(site.Name, err)
	_, err = router.Route(context.Background(), "broken.example")
	fmt.Println(err != nil)
	// Output:
	// mx.example.com <nil>
	// true
}
