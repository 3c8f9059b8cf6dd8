package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient/route"
)

// sites finds the sites of domains: it asks the daemon, whose name servers and settings count, and the DNS from here where the daemon
// doesn't know how to answer.
type sites struct {
	DNS string `name:"dns" help:"DNS server for daemons that can't tell the site of a domain. Default: the system's resolvers." placeholder:"ADDR"`
}

// site is where mail for a domain goes.
type site struct {
	name     string // of the hosts, or the domain where there are none
	provider string // as configured, "" where that is not known
}

const (
	maxSites    = 5000 // domains that are looked up at all
	siteLookups = 16   // at a time
)

// resolve finds the sites of at most maxSites domains; the others are not in the answer.
func (s *sites) resolve(ctx context.Context, c *console, domains []string) (map[string]site, error) {
	if n := len(domains) - maxSites; n > 0 {
		c.note("The sites of %s domains are not looked up.", thousands(int64(n)))
		domains = domains[:maxSites]
	}
	var cfg route.ResolverConfig
	if s.DNS != "" {
		cfg.Servers = []string{s.DNS}
	}
	resolver, err := route.NewResolver(cfg)
	if err != nil {
		return nil, err
	}
	defer resolver.Close()
	look := lookup{api: c.api, router: route.New(route.Config{Resolver: resolver})}
	found := make(map[string]site, len(domains))
	var mu sync.Mutex // guards found
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(siteLookups)
	for _, d := range domains {
		g.Go(func() error {
			at := look.site(ctx, d)
			mu.Lock()
			found[d] = at
			mu.Unlock()
			return ctx.Err()
		})
	}
	return found, g.Wait()
}

type lookup struct {
	api    *client
	router mtakit.Router
	silent atomic.Bool // the daemon has no such endpoint
}

func (l *lookup) site(ctx context.Context, domain string) site {
	if !l.silent.Load() {
		var p egressPath
		err := l.api.get(ctx, egressPathPath, url.Values{"domain": {domain}}, &p)
		if err == nil {
			var config struct {
				Provider string `json:"provider_name"`
			}
			json.Unmarshal(p.Config, &config)      // what it doesn't have it doesn't tell
			_, name, _ := splitReadyQueue(p.Queue) // as the ready queues of /metrics have it, with MX records or without
			return site{cmp.Or(name, domain), config.Provider}
		}
		if status := (*statusError)(nil); errors.As(err, &status) && status.code == http.StatusNotFound {
			l.silent.Store(true)
		}
	}
	at, err := l.router.Route(ctx, domain)
	if err != nil || at.Name == "" {
		return site{name: domain}
	}
	return site{name: at.Name}
}
