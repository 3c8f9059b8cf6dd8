// Kumod is the reference daemon of mtakit: a whole MTA on embedded defaults. It shows how the packages are wired; what it needs that others
// would need too is in the packages.
//
//	go run ./examples/kumod                      # accepts mail on 127.0.0.1:2525
//	go run ./examples/kumod --help
//	go run ./examples/kumod demo                 # with traffic and destinations of its own
//	go run ./examples/kumod check --shaping FILE # validates data files
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/metrics"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/queue/httpapi/answerfile"
	"github.com/mtakit/mtakit/queue/httpapi/dashboard"
	"github.com/mtakit/mtakit/queue/httpapi/logfilter"
	"github.com/mtakit/mtakit/queue/xfer"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpserver"
	"github.com/mtakit/mtakit/spool"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// serve runs the daemon until ctx ends, and calls ready once it takes mail. Things are opened from the spool outwards and closed the other way round.
func serve(ctx context.Context, f *flags, logs *logfilter.Filter, ready func(a addrs)) (err error) {
	log := logs.Logger("")
	hup := make(chan os.Signal, 1) // from the beginning: unheard, it ends the process
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	router, resolver, closeDNS, err := f.routing()
	if err != nil {
		return err
	}
	defer closeDNS()
	data, err := f.load(ctx, router, logs.Logger("config"))
	if err != nil {
		return err
	}
	ids := &mtakit.IDSource{}
	store, err := spool.Open(f.spoolDir(), spool.Options{Log: logs.Logger("spool")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	node, err := nodeID(f.Data)
	if err != nil {
		return err
	}
	events, err := eventlog.Open(eventlog.Config{Dir: f.logsDir(), MaxSegmentDuration: time.Minute, Logger: logs.Logger("logs")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	activity := &queue.Activity{}
	records := mtakit.Tee{events, activity}

	var outbound, inbound mtakit.Traces
	smtp := &smtpclient.Egress{Resolver: resolver, Hostname: f.Hostname, Log: logs.Logger("smtpclient"), Trace: smtpclient.TraceTo(&outbound)}
	egress := mtakit.EgressMap{"smtp_client": smtp}
	q, err := queue.New(queue.Config{
		Spool: store, Router: router, Egress: egress, Record: records, IDs: ids, NodeID: node, Log: logs.Logger("queue"),
		Policy: data.policy(), Provenance: data.provenance(), Throttles: data.throttles, GracePeriod: f.ShutdownTimeout, State: queue.StateFile(filepath.Join(f.Data, "rules.json")),
	})
	if err != nil {
		return err
	}
	smtp.SourceFailed = q.SourceFailed
	changed := q.BumpEpoch
	data.changed.Store(&changed)
	trusted, err := f.trusted()
	if err != nil {
		return err
	}
	// Mail is refused for now while the disk is full or the spool unwell.
	logFull := func() error {
		if err := events.Err(); err != nil {
			return fmt.Errorf("%w: %w", mtakit.ErrSpoolFull, err)
		}
		return nil
	}
	srv := &smtpserver.Server{
		Deliver: q.Submit, IDs: ids, NodeID: node, Record: records, Log: logs.Logger("smtp"), Auth: data.auth(),
		Options: smtpserver.Options{Hostname: f.Hostname, RelayHosts: f.RelayFrom, TLS: data.tls},
		Policy:  smtpserver.Policy{Received: data.received},
		Trace:   smtpserver.TraceTo(&inbound),
		Admit:   func() error { return cmp.Or(store.Err(), logFull(), q.Overloaded()) },
	}
	answers, err := answerfile.Open(filepath.Join(f.Data, "answers"), answerfile.Options{Log: logs.Logger("http")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answers.Close()) }()
	arrivals, err := xfer.OpenArrivals(filepath.Join(f.Data, "xfer-arrivals"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, arrivals.Close()) }()
	transfers, err := xfer.New(xfer.Config{Queue: q, Spool: store, NodeID: node, Arrivals: arrivals, Log: logs.Logger("xfer")})
	if err != nil {
		return err
	}
	egress["xfer"] = transfers
	api, err := httpapi.New(httpapi.Config{
		Queue: q, Activity: activity, Xfer: transfers, Outbound: &outbound, Inbound: &inbound, Update: store.Update, Hostname: f.Hostname, Trusted: trusted, Auth: data.auth(), Throttles: data.throttles, Log: logs.Logger("http"),
		NodeID: node, Generated: data.generated, Answers: answers, SetLogFilter: logs.Set, Reload: data.reload, Compact: compact(store),
		Trouble: func() httpapi.Trouble {
			t := httpapi.TroubleOf(store.Err(), logFull(), q.Overloaded())
			if ctx.Err() != nil {
				t |= httpapi.Stopping
			}
			return t
		},
	})
	if err != nil {
		return err
	}
	egress["httpinject"] = api.Generator()
	reg := &metrics.Registry{}
	if err := reg.Register(collectors(q, store, events, srv, api, smtp, router, metrics.NewProcess())...); err != nil {
		return err
	}
	dashboard.Mount(api)
	api.Handle("GET", "/metrics", reg.Text())
	api.Handle("GET", "/metrics.json", reg.JSON())
	profiles(api)

	watchCtx, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	data.run(watchCtx)
	running := make(chan error, 1)
	runCtx, stopQueue := context.WithCancel(context.Background())
	defer stopQueue()
	go func() { running <- q.Run(runCtx) }()

	var at addrs
	for _, a := range f.SMTP {
		l, err := net.Listen("tcp", a)
		if err != nil {
			stopQueue()
			return errors.Join(fmt.Errorf("SMTP listener: %w", err), <-running)
		}
		at.smtp = append(at.smtp, l.Addr().String())
		go func() {
			if err := srv.Serve(l); !errors.Is(err, smtpserver.ErrServerClosed) {
				log.Error("listener ended", "addr", a, "err", err)
			}
		}()
	}
	var web *http.Server
	web, at.http, err = listenHTTP(f, data.tls, api, log)
	if err != nil {
		stopQueue()
		return errors.Join(err, <-running)
	}
	at.spooled = store.Stats().Messages
	ready(at)

	for stopped := false; !stopped; {
		select {
		case <-hup:
			data.reload(ctx)
			q.BumpEpoch()
		case err = <-running:
			running <- nil
			stopped = true
		case <-ctx.Done():
			stopped = true
		}
	}
	log.Info("stopping", "grace", f.ShutdownTimeout)
	grace, cancel := context.WithTimeout(context.Background(), f.ShutdownTimeout)
	defer cancel()
	srv.Shutdown(grace)
	stopQueue()
	err = errors.Join(err, <-running)
	outbound.Close()
	inbound.Close()
	if web.Shutdown(grace) != nil { // HTTP answers until here
		web.Close()
	}
	return err
}

// addrs is where a daemon is that takes mail, and what it found in the spool.
type addrs struct {
	smtp    []string
	http    string
	spooled int64
}

// compact compacts the spool, under its name and those that KumoMTA's two halves of it usually have.
func compact(store *spool.Spool) func(ctx context.Context, name string) error {
	return func(ctx context.Context, name string) error {
		if name != "spool" && name != "data" && name != "meta" {
			return errors.New("there is no such spool: expected spool, data or meta")
		}
		return store.Compact(ctx)
	}
}

// collectors are those of parts that count.
func collectors(parts ...any) (c []mtakit.Collector) {
	for _, p := range parts {
		if p, ok := p.(mtakit.Collector); ok {
			c = append(c, p)
		}
	}
	return c
}
