package httpapi

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/mtakit/mtakit"
)

// API is the HTTP interface of an MTA. It is an [http.Handler] and, for what it counts, a [mtakit.Collector]. It is safe for concurrent use; Handle is not,
// and comes before the first request.
type API struct {
	cfg      Config
	routes   map[string]map[string]http.Handler // by path and method
	pages    map[string]bool                    // paths that people open with a browser
	logins   logins
	inFlight *semaphore.Weighted
	pending  pending
	encoders encoders
	origin   *http.CrossOriginProtection
	names    []string // of this machine, in lower case
	received mtakit.Counter
	started  time.Time
}

// New makes an API with the endpoints for injection, liveness and its own description, and with those that what cfg names can serve. It does no I/O and
// starts no goroutine.
func New(cfg Config) (*API, error) {
	if err := cfg.withDefaults(); err != nil {
		return nil, err
	}
	a := &API{cfg: cfg, routes: make(map[string]map[string]http.Handler), inFlight: semaphore.NewWeighted(cfg.MaxInFlight), origin: http.NewCrossOriginProtection(), started: cfg.Now()}
	system, _ := os.Hostname()
	a.names = []string{strings.ToLower(cfg.Hostname), strings.ToLower(system)}
	a.Handle("GET", "/api/check-liveness/v1", http.HandlerFunc(a.liveness))
	a.Handle("POST", "/api/inject/v1", http.HandlerFunc(a.inject))
	a.Handle("GET", "/api-docs/openapi.json", http.HandlerFunc(a.openAPI))
	a.routesProcess()
	if cfg.Queue != nil {
		a.routesRules()
		a.routesLists()
		a.routesInspect()
		a.routesExplain()
	}
	if cfg.Xfer != nil {
		a.routesXfer()
	}
	if cfg.Activity != nil {
		a.routesActivity()
	}
	a.routesTracing()
	return a, nil
}

// Handle adds an endpoint, whose clients are authenticated, and asked for permission, before h is called. The path is exact. It panics if there is one
// already.
func (a *API) Handle(method, path string, h http.Handler) {
	methods := a.routes[path]
	if methods == nil {
		methods = make(map[string]http.Handler)
		a.routes[path] = methods
	}
	if methods[method] != nil {
		panic(fmt.Sprintf("httpapi: %s %s is there already", method, path))
	}
	methods[method] = h
}

// HandlePage is Handle of GET for what people open with a browser: those who may not see it and gave no valid password are asked for one, if Config.Auth can
// check it. To other endpoints a refusal is an answer for a program, and nobody is asked.
func (a *API) HandlePage(path string, h http.Handler) {
	a.Handle("GET", path, h)
	if a.pages == nil {
		a.pages = make(map[string]bool)
	}
	a.pages[path] = true
}

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !a.decode(w, r) {
		return
	}
	cw := a.encode(w, r)
	defer cw.close()
	w = cw
	methods, ok := a.routes[r.URL.Path]
	if !ok {
		empty(w, http.StatusNotFound)
		return
	}
	c, ok := a.admit(w, r)
	if !ok {
		return
	}
	h := methods[r.Method]
	if h == nil {
		allow := make([]string, 0, len(methods))
		for m := range methods {
			allow = append(allow, m)
		}
		slices.Sort(allow)
		w.Header().Set("Allow", strings.Join(allow, ","))
		empty(w, http.StatusMethodNotAllowed)
		return
	}
	h.ServeHTTP(w, r.WithContext(withCaller(r.Context(), c)))
}

// errorMax is how long the text of an error may be, which may quote what the client has sent.
const errorMax = 900

// text answers with plain text.
func text(w http.ResponseWriter, status int, body string) {
	if status >= 400 && len(body) > errorMax {
		body = strings.ToValidUTF8(body[:errorMax], "") + "…"
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write([]byte(body))
}

// problem answers with the error of a handler.
func problem(w http.ResponseWriter, status int, format string, args ...any) {
	text(w, status, "Error: "+fmt.Sprintf(format, args...))
}

func empty(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}

// writeJSON answers with what is JSON already.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// troubles are the reasons not to take mail, the first that counts first.
var troubles = [...]struct {
	is   Trouble
	body string
}{
	{Stopping, "shutting down"}, {Overloaded, "load shedding"}, {Starting, "waiting for spool startup"},
	{Unhealthy, "the spool is not accepting writes"}, {Full, "storage is too full"},
}

// liveness is GET /api/check-liveness/v1.
func (a *API) liveness(w http.ResponseWriter, _ *http.Request) {
	body, status := "OK", http.StatusOK
	t := a.cfg.Trouble()
	for _, c := range troubles {
		if t&c.is != 0 {
			body, status = c.body, http.StatusServiceUnavailable
			break
		}
	}
	w.Header()["Content-Type"] = nil // there is none, and none is to be guessed
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write([]byte(body))
}

// refusal is why no mail is taken now; "" if it is.
func (a *API) refusal() string {
	t := a.cfg.Trouble()
	switch {
	case t&Stopping != 0:
		return "shutting down"
	case t&Overloaded != 0:
		return "load shedding"
	case t&Full != 0:
		return "disk is too full"
	case t&Starting != 0:
		return "waiting for spool startup"
	case t&Unhealthy != 0:
		return "the spool is not accepting writes"
	}
	return ""
}

var families = []mtakit.MetricFamily{
	{Name: "total_messages_received", Help: "messages received", Type: mtakit.CounterType, Labels: []string{"service"}},
}

// Families implements [mtakit.Collector].
func (a *API) Families() []mtakit.MetricFamily { return families }

// Collect implements [mtakit.Collector].
func (a *API) Collect(_ string, yield func(mtakit.Sample) bool) {
	yield(mtakit.Sample{Labels: []string{"http_listener"}, Value: float64(a.received.Value())})
}
