// Package demo is the world around "kumod demo": destinations that behave in different ways, their DNS, applications that send, and something that
// reacts to what the destinations answer. All of it is on loopback. To the daemon it is what the real world is: mail comes by SMTP and HTTP, data files
// change, the log is followed, and the administrator's endpoints are called.
package demo

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mtakit/mtakit/examples/internal/sink"
	"github.com/mtakit/mtakit/smtpclient/route/routetest"
)

//go:embed shaping.toml queues.toml sources.toml
var files embed.FS

// destination is a domain, of whose mail share percent is, and how its host behaves.
type destination struct {
	domain string
	share  int
	what   string // for people
	rules  []string
	badTLS bool
}

var destinations = []destination{
	{domain: "quick.example", share: 58, what: "accepts"},
	{domain: "slow.example", share: 4, what: "takes a second for each message", rules: []string{"delay=1s"}},
	{domain: "throttling.example", share: 11, what: "421 when more than 15 a second come",
		rules: []string{"on=mail rate=15/s reply=421 4.7.0 you are sending too fast"}},
	{domain: "greylisting.example", share: 10, what: "451 for three of five", rules: []string{"on=rcpt percent=60 reply=451 4.7.1 greylisted, come back later"}},
	{domain: "bouncing.example", share: 8, what: "550 for one of three", rules: []string{"on=rcpt percent=33 reply=550 5.1.1 no such user"}},
	{domain: "blocking.example", share: 7, what: "451 after a burst of mail", rules: []string{"on=rcpt rate=8/s,max_burst=40 reply=451 4.7.1 blocked: unusual volume"}},
	{domain: "brokentls.example", share: 2, what: "offers STARTTLS that fails", badTLS: true},
}

// World is what there is besides the daemon. Its servers run from New to Close; Run has the rest.
type World struct {
	Shaping, Queues, Sources []string // files for the daemon
	DNS                      string   // address of the server that knows the destinations

	dns       *routetest.Server
	reactions string // the file of Shaping that changes
	stop      context.CancelFunc
	work      sync.WaitGroup
}

// New starts the destinations and their DNS, and writes the data files into dir.
func New(dir string) (w *World, err error) {
	ctx, stop := context.WithCancel(context.Background())
	w = &World{stop: stop, reactions: filepath.Join(dir, "reactions.toml")}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	var zones, ports strings.Builder
	for _, d := range destinations {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		rules, err := sink.ParseRules(d.rules)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		srv := &sink.Server{Hostname: "mx." + d.domain, Rules: rules}
		if d.badTLS {
			srv.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return nil, errors.New("the certificate is lost")
			}}
		}
		w.work.Go(func() { srv.Serve(ctx, l) })
		fmt.Fprintf(&zones, "%[1]s. MX 10 mx.%[1]s.\nmx.%[1]s. A 127.0.0.1\n", d.domain)
		fmt.Fprintf(&ports, "[%q]\nsmtp_port = %d\n", d.domain, l.Addr().(*net.TCPAddr).Port)
	}
	w.dns = routetest.NewServer(zones.String())
	if w.DNS, err = w.dns.Listen(); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name, text string
		list       *[]string
	}{
		{"shaping.toml", embedded("shaping.toml"), &w.Shaping},
		{"ports.toml", "# The destinations are all on one address.\n" + ports.String(), &w.Shaping},
		{"reactions.toml", "# What is set because of answers, for as long as it holds.\n", &w.Shaping},
		{"queues.toml", embedded("queues.toml"), &w.Queues},
		{"sources.toml", embedded("sources.toml"), &w.Sources},
	} {
		name := filepath.Join(dir, f.name)
		if err := os.WriteFile(name, []byte(f.text), 0o644); err != nil {
			return nil, err
		}
		*f.list = append(*f.list, name)
	}
	return w, nil
}

func embedded(name string) string {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is in the program
	}
	return string(b)
}

// Destinations is how many domains there are.
func (w *World) Destinations() int { return len(destinations) }

// Close ends the destinations and the DNS.
func (w *World) Close() {
	w.stop()
	if w.dns != nil {
		w.dns.Close()
	}
	w.work.Wait()
}
