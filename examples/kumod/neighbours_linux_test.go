package main

import (
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/mtakit/mtakit/smtpclient/route/routetest"
)

var neighbourTime = flag.Duration("neighbours", 2*time.Second, "how long TestNeighbours measures, alone and beside bad destinations")

// A hundred destinations get their mail beside one that is dead, one that accepts connections and says nothing, and one that defers everything. The rates with and
// without these are logged, since a busy machine says little of them; what must hold is that everything good arrives once. For figures:
//
//	go test ./examples/kumod -run TestNeighbours -v -neighbours 1m
func TestNeighbours(t *testing.T) {
	const destinations = 100
	measure := func(t *testing.T, bad []string) float64 {
		good := newMX(t, "")
		port := good.l.Addr().(*net.TCPAddr).Port
		deferring := newMX(t, net.JoinHostPort("127.0.0.3", strconv.Itoa(port)))
		deferring.deferring.Store(true)
		mute, err := net.Listen("tcp", net.JoinHostPort("127.0.0.6", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		defer mute.Close()
		zone := "throttling.test. A 127.0.0.3\ndead.test. A 127.0.0.5\ntarpit.test. A 127.0.0.6\n"
		for i := range destinations {
			zone += fmt.Sprintf("good%d.test. A 127.0.0.1\n", i)
		}
		dns := routetest.NewServer(zone)
		defer dns.Close()
		resolver, err := dns.Listen()
		if err != nil {
			t.Fatal(err)
		}
		queues := filepath.Join(t.TempDir(), "queues.toml")
		write(t, queues, "[queue.default]\nretry_interval = '1s'\nmax_retry_interval = '2s'\n")
		d := start(t, nil, "--data", t.TempDir(), "--dns", resolver, "--dest-port", strconv.Itoa(port), "--prohibited-hosts", "none", "--queues", queues)
		var stops []func()
		for _, name := range bad {
			l := &load{domain: name + ".test", pause: 10 * time.Millisecond}
			stops = append(stops, l.run(d.smtp, 2, true))
		}
		loads := make([]*load, destinations)
		for i := range loads {
			loads[i] = &load{domain: fmt.Sprintf("good%d.test", i), pause: 100 * time.Millisecond}
			loads[i].next.Store(int64(i) << 24) // each has numbers of its own
			stops = append(stops, loads[i].run(d.smtp, 1, true))
		}
		<-time.After(time.Second) // until all are at it
		begin, from := time.Now(), good.count()
		<-time.After(*neighbourTime)
		rate := float64(good.count()-from) / time.Since(begin).Seconds()
		for _, stop := range stops {
			stop()
		}
		sent := 0
		for _, l := range loads {
			sent += l.count()
		}
		for end := time.Now().Add(30 * time.Second); good.count() < sent; <-time.After(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d of %d messages have arrived", good.count(), sent)
			}
		}
		good.mu.Lock()
		defer good.mu.Unlock()
		for _, l := range loads {
			for id := range l.acked {
				if n := good.got[id]; n != 1 {
					t.Errorf("message %d arrived %d times", id, n)
				}
			}
		}
		d.kill()
		return rate
	}
	alone := measure(t, nil)
	beside := measure(t, []string{"dead", "tarpit", "throttling"})
	t.Logf("alone %.0f messages a second, beside the bad ones %.0f: %.1f %%", alone, beside, 100*beside/alone)
}
