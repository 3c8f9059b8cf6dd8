// Package route finds out where mail goes: a [Router] turns a domain into the site of hosts that take its mail, over a [Resolver] that asks
// DNS servers and remembers their answers.
//
//	resolver, err := route.NewResolver(route.ResolverConfig{}) // the servers of /etc/resolv.conf
//	if err != nil {
//		return err
//	}
//	defer resolver.Close()
//	router := route.New(route.Config{Resolver: resolver})
//	site, err := router.Route(ctx, "gmail.com") // site.Name: (alt1|alt2|alt3|alt4)?.gmail-smtp-in.l.google.com
//
// The resolver is used for the addresses of the hosts too. [Static] is a router for smart hosts. Package routetest has a DNS server for tests,
// over loopback or in memory.
//
// # What is believed
//
// DNS servers, and who pretends to be one, may say anything. An answer counts if it repeats ID, question and, over UDP, the random case of the
// question; of it only the records that belong to the name asked for, or to where at most 8 CNAMEs lead, 200 of them. Answers, caches, look-ups at a time
// and their duration are bounded. DNSSEC is not validated here: an answer is Secure if a server says so that [ResolverConfig] trusts for it.
//
// # Ownership and goroutines
//
// A Router starts no goroutine. A Resolver has one per look-up that is on its way, at most MaxConcurrent for each record type; it ends by
// itself, and Close waits for it. Idle TCP connections, a few per server, are closed by timers.
package route
