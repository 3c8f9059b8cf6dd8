package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	rpprof "runtime/pprof"
	"time"

	"github.com/mtakit/mtakit/queue/httpapi"
)

// listenHTTP serves h, under TLS if the flags say so, and returns where.
func listenHTTP(f *flags, cert *tls.Config, h http.Handler, log *slog.Logger) (*http.Server, string, error) {
	l, err := net.Listen("tcp", f.HTTP)
	if err != nil {
		return nil, "", fmt.Errorf("HTTP listener: %w", err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	if f.HTTPTLS {
		srv.TLSConfig = cert.Clone()
		go srv.ServeTLS(l, "", "")
	} else {
		go srv.Serve(l)
	}
	return srv, l.Addr().String(), nil
}

// profiles adds what go tool pprof asks for.
func profiles(api *httpapi.API) {
	for path, h := range map[string]http.HandlerFunc{"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace} {
		api.Handle("GET", "/debug/pprof/"+path, h)
	}
	for _, p := range rpprof.Profiles() {
		api.Handle("GET", "/debug/pprof/"+p.Name(), pprof.Handler(p.Name()))
	}
}
