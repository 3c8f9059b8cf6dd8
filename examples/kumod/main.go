// Kumod is the reference daemon of mtakit: a whole MTA on embedded defaults. It shows how the packages are wired; what it needs that others
// would need too is in the packages.
//
//	go run ./examples/kumod                      # accepts mail on 127.0.0.1:2525
//	go run ./examples/kumod --help
//	go run ./examples/kumod check --shaping FILE # validates data files
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/metrics"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpserver"
	"github.com/mtakit/mtakit/spool"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// serve runs the daemon until ctx ends. Things are opened from the spool outwards and closed the other way round.
func serve(ctx context.Context, f *flags, out *os.File, log *slog.Logger) (err error) {
	hup := make(chan os.Signal, 1) // from the beginning: unheard, it ends the process
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	router, resolver, closeDNS, err := f.routing()
	if err != nil {
		return err
	}
	defer closeDNS()
	data, err := f.load(ctx, router, log)
	if err != nil {
		return err
	}
	ids := &mtakit.IDSource{}
	store, err := spool.Open(f.spoolDir(), spool.Options{Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	node, err := nodeID(f.Data)
	if err != nil {
		return err
	}
	events, err := eventlog.Open(eventlog.Config{Dir: f.logsDir(), MaxSegmentDuration: time.Minute, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()

	egress := &smtpclient.Egress{Resolver: resolver, Hostname: f.Hostname, Log: log}
	q, err := queue.New(queue.Config{
		Spool: store, Router: router, Egress: bySMTP(egress), Record: events, IDs: ids, NodeID: node, Log: log,
		Policy: data.policy(), Throttles: data.throttles, GracePeriod: f.ShutdownTimeout, State: queue.StateFile(filepath.Join(f.Data, "rules.json")),
	})
	if err != nil {
		return err
	}
	egress.SourceFailed = q.SourceFailed
	changed := q.BumpEpoch
	data.changed.Store(&changed)
	// Mail is refused for now while the disk is full or the spool unwell.
	srv := &smtpserver.Server{
		Deliver: q.Submit, IDs: ids, NodeID: node, Record: events, Log: log,
		Options: smtpserver.Options{Hostname: f.Hostname, RelayHosts: f.RelayFrom, TLS: data.tls},
		Policy:  smtpserver.Policy{Received: data.received},
		Admit: func() error {
			if err := store.Err(); err != nil {
				return err
			}
			if err := events.Err(); err != nil {
				return fmt.Errorf("%w: %w", mtakit.ErrSpoolFull, err)
			}
			if q.Overloaded() != nil {
				return smtpserver.ErrOverloaded
			}
			return nil
		},
	}

	watchCtx, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	data.run(watchCtx)
	running := make(chan error, 1)
	runCtx, stopQueue := context.WithCancel(context.Background())
	defer stopQueue()
	go func() { running <- q.Run(runCtx) }()

	var addrs []string
	for _, a := range f.SMTP {
		l, err := net.Listen("tcp", a)
		if err != nil {
			stopQueue()
			return errors.Join(fmt.Errorf("SMTP listener: %w", err), <-running)
		}
		addrs = append(addrs, l.Addr().String())
		go func() {
			if err := srv.Serve(l); !errors.Is(err, smtpserver.ErrServerClosed) {
				log.Error("listener ended", "addr", a, "err", err)
			}
		}()
	}
	reg := &metrics.Registry{}
	if err := reg.Register(collectors(q, store, events, srv, egress, router, metrics.NewProcess())...); err != nil {
		stopQueue()
		return errors.Join(err, <-running)
	}
	web, httpAddr, err := listenHTTP(f.HTTP, handler(srv.Admit, reg))
	if err != nil {
		stopQueue()
		return errors.Join(err, <-running)
	}
	fmt.Fprintf(out, "kumod ready smtp=%s http=%s spool=%d\n", strings.Join(addrs, ","), httpAddr, store.Stats().Messages)

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
	web.Close()
	return err
}

// bySMTP gives messages for queues with another protocol a clear failure; they are kept.
func bySMTP(smtp mtakit.Egress) mtakit.EgressFunc {
	return func(ctx context.Context, p *mtakit.Path) (mtakit.Session, error) {
		if proto := p.Protocol.ReadySuffix(); proto != "smtp_client" {
			return nil, &mtakit.PathError{Reason: "FailedToInsertIntoReadyQueue", Response: mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 3, 5},
				Text: mtakit.Internal + "kumod delivers by SMTP only, and the queue's protocol is " + proto}}
		}
		return smtp.Connect(ctx, p)
	}
}

// handler serves what there is over HTTP.
func handler(admit func() error, reg *metrics.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/check-liveness/v1", func(w http.ResponseWriter, r *http.Request) {
		if err := admit(); err != nil {
			text := "the spool is not accepting writes"
			if errors.Is(err, mtakit.ErrSpoolFull) {
				text = "storage is too full"
			}
			http.Error(w, text, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "OK")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.Handle("GET /metrics", reg.Text())
	mux.Handle("GET /metrics.json", reg.JSON())
	return mux
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

func listenHTTP(addr string, h http.Handler) (*http.Server, string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, "", fmt.Errorf("HTTP listener: %w", err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	return srv, l.Addr().String(), nil
}
