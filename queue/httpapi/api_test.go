package httpapi_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/queue/xfer"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// outbox is what was submitted.
type outbox struct {
	mu       sync.Mutex
	messages []*mtakit.Message
	texts    []string
	modes    []mtakit.Durability
	batches  int
	fail     func(batch []mtakit.Submission) error
}

func (o *outbox) submit(_ context.Context, batch []mtakit.Submission, d mtakit.Durability) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		if err := o.fail(batch); err != nil {
			return err
		}
	}
	o.batches++
	for _, s := range batch {
		b, err := io.ReadAll(io.NewSectionReader(s.Body, 0, s.Body.Size()))
		if err != nil {
			return err
		}
		if c, ok := s.Body.(mtakit.ChunkedBody); ok && !bytes.Equal(bytes.Join(c.Chunks(nil), nil), b) {
			return errors.New("ReadAt and Chunks differ")
		}
		o.messages = append(o.messages, s.Message)
		o.texts = append(o.texts, string(b))
		o.modes = append(o.modes, d)
		s.Body.Close()
	}
	return nil
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func newAPI(t testing.TB, change func(*httpapi.Config)) (*httpapi.API, *outbox) {
	t.Helper()
	o := &outbox{}
	ids := &mtakit.IDSource{Rand: zeros{}}
	cfg := httpapi.Config{
		Submit: o.submit, NewID: func() mtakit.ID { return ids.New(epoch) }, Hostname: "mta.example", ListenerHostname: "http.example",
		Now: func() time.Time { return epoch }, Random: zeros{}, TempDir: t.TempDir(),
	}
	if change != nil {
		change(&cfg)
	}
	api, err := httpapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return api, o
}

// fullAPI has every endpoint there can be. Its queue does not run.
func fullAPI(t testing.TB, change func(*httpapi.Config)) *httpapi.API {
	t.Helper()
	spool := &spooltest.Memory{}
	q, err := queue.New(queue.Config{Spool: spool, Router: mtakit.RouterFunc(nil), Egress: mtakit.EgressMap{}, MemoryLimit: -1})
	if err != nil {
		t.Fatal(err)
	}
	node, err := xfer.New(xfer.Config{Queue: q, Spool: spool, NodeID: "00000000-0000-4000-8000-000000000000"})
	if err != nil {
		t.Fatal(err)
	}
	api, _ := newAPI(t, func(c *httpapi.Config) {
		c.Queue, c.Activity, c.Xfer, c.XferLimit = q, &queue.Activity{}, node, 2<<20
		c.Outbound, c.Inbound = &mtakit.Traces{}, &mtakit.Traces{}
		c.SetLogFilter = func(string) error { return nil }
		c.Compact = func(context.Context, string) error { return nil }
		if change != nil {
			change(c)
		}
	})
	return api
}

type call struct {
	method, path, body, remote string
	header                     http.Header
}

func do(h http.Handler, c call) *http.Response {
	if c.method == "" {
		c.method = "GET"
	}
	r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
	for k, v := range c.header {
		r.Header[k] = v
	}
	r.Host = cmp.Or(c.header.Get("Host"), "127.0.0.1:8000")
	r.RemoteAddr = "127.0.0.1:50000"
	if c.remote != "" {
		r.RemoteAddr = c.remote
	}
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:8000"))))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var asJSON = http.Header{"Content-Type": {"application/json"}}

func TestConfig(t *testing.T) {
	t.Parallel()
	submit := func(context.Context, []mtakit.Submission, mtakit.Durability) error { return nil }
	id := func() mtakit.ID { return mtakit.ID{} }
	for _, c := range []httpapi.Config{{}, {Submit: submit}, {Submit: submit, NewID: id, BodyLimit: -1}, {Submit: submit, NewID: id, XferLimit: -1},
		{Submit: submit, NewID: id, MaxInFlight: -1}, {Submit: submit, NewID: id, RecipientRate: mtakit.Rate{N: 1, Per: time.Second}}} {
		if _, err := httpapi.New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	if _, err := httpapi.New(httpapi.Config{Submit: submit, NewID: id}); err != nil {
		t.Error(err)
	}
}

func TestLiveness(t *testing.T) {
	t.Parallel()
	var trouble httpapi.Trouble
	api, _ := newAPI(t, func(c *httpapi.Config) { c.Trouble = func() httpapi.Trouble { return trouble } })
	for _, c := range []struct {
		trouble httpapi.Trouble
		status  int
		body    string
	}{
		{0, 200, "OK"},
		{httpapi.Stopping | httpapi.Full, 503, "shutting down"},
		{httpapi.Overloaded | httpapi.Starting, 503, "load shedding"},
		{httpapi.Starting | httpapi.Unhealthy, 503, "waiting for spool startup"},
		{httpapi.Unhealthy | httpapi.Full, 503, "the spool is not accepting writes"},
		{httpapi.Full, 503, "storage is too full"},
	} {
		trouble = c.trouble
		r := do(api, call{path: "/api/check-liveness/v1", remote: "192.0.2.1:1"})
		if got := bodyOf(t, r); r.StatusCode != c.status || got != c.body || r.Header.Get("Content-Type") != "" {
			t.Errorf("%b: %d %q %q", c.trouble, r.StatusCode, got, r.Header.Get("Content-Type"))
		}
	}
}

type users map[string]string

func (u users) Authenticate(_ context.Context, _, authn, password string) (*mtakit.Identity, error) {
	switch {
	case authn == "broken":
		return nil, errors.New("the directory is away")
	case password == "" || u[authn] != password:
		return nil, mtakit.ErrBadCredentials
	}
	return &mtakit.Identity{Authn: authn, Authz: authn}, nil
}

func basic(user, password string) http.Header {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header
}

func with(h http.Header, kv ...string) http.Header {
	h = h.Clone()
	if h == nil {
		h = http.Header{}
	}
	for i := 0; i < len(kv); i += 2 {
		h.Set(kv[i], kv[i+1])
	}
	return h
}

func TestAccess(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, func(c *httpapi.Config) {
		c.Auth = users{"ann": "secret"}
		c.Bearer = func(_ context.Context, token string) (*mtakit.Identity, error) {
			if token != "good" {
				return nil, mtakit.ErrBadCredentials
			}
			return &mtakit.Identity{Authn: "robot"}, nil
		}
	})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, httpapi.CallerOf(r).Summary()) })
	api.Handle("GET", "/api/admin/x/v1", handler)
	api.Handle("POST", "/api/admin/x/v1", handler)
	api.Handle("GET", "/metrics", handler)
	const away = "192.0.2.1:999"
	for _, c := range []struct {
		name   string
		call   call
		status int
		body   string
	}{
		{"unknown path", call{path: "/nope", remote: away}, 404, ""},
		{"unknown path with bad credentials", call{path: "/nope", header: basic("ann", "wrong")}, 404, ""},
		{"a name that leads here", call{path: "/metrics", header: http.Header{"Host": {"evil.example:8000"}}}, 401, "<Unauthenticated>@ ip=127.0.0.1 not permitted GET on http_listener/127.0.0.1:8000/metrics"},
		{"liveness by that name", call{path: "/api/check-liveness/v1", header: http.Header{"Host": {"evil.example:8000"}}}, 200, "OK"},
		{"liveness for all", call{path: "/api/check-liveness/v1", remote: away}, 200, "OK"},
		{"liveness with bad credentials", call{path: "/api/check-liveness/v1", header: basic("ann", "wrong")}, 401, "HttpBasicAuth Authentication Failed for ann"},
		{"HEAD", call{method: "HEAD", path: "/api/check-liveness/v1"}, 401, "<Unauthenticated>@ ip=127.0.0.1 not permitted HEAD on http_listener/127.0.0.1:8000/api/check-liveness/v1"},
		{"admin from afar", call{path: "/api/admin/x/v1", remote: away}, 401, "<Unauthenticated>@ ip=192.0.2.1 not permitted GET on http_listener/127.0.0.1:8000/api/admin/x/v1"},
		{"admin with a password", call{path: "/api/admin/x/v1", remote: away, header: basic("ann", "secret")}, 401, "id=[ann]@ ip=192.0.2.1 not permitted GET on http_listener/127.0.0.1:8000/api/admin/x/v1"},
		{"metrics with a password", call{path: "/metrics", remote: away, header: basic("ann", "secret")}, 401, "id=[ann]@ ip=192.0.2.1 not permitted GET on http_listener/127.0.0.1:8000/metrics"},
		{"admin from here", call{path: "/api/admin/x/v1"}, 200, "127.0.0.1"},
		{"admin from here, IPv4 in IPv6", call{path: "/api/admin/x/v1", remote: "[::ffff:127.0.0.1]:1"}, 200, "127.0.0.1"},
		{"admin from here with a name", call{path: "/api/admin/x/v1", header: basic("ann", "secret")}, 200, "ann"},
		{"admin from here with a bad password", call{path: "/api/admin/x/v1", header: basic("ann", "wrong")}, 401, "HttpBasicAuth Authentication Failed for ann"},
		{"no such user", call{path: "/api/admin/x/v1", header: basic("x\r\ny", "")}, 401, "HttpBasicAuth Authentication Failed for x y"},
		{"directory away", call{path: "/api/admin/x/v1", header: basic("broken", "x")}, 500, "try again later"},
		{"token", call{path: "/metrics", header: http.Header{"Authorization": {"Bearer good"}}}, 200, "robot"},
		{"bad token", call{path: "/metrics", header: http.Header{"Authorization": {"Bearer bad"}}}, 401, "BearerToken Authentication Failed for "},
		{"bad base64", call{path: "/metrics", header: http.Header{"Authorization": {"Basic !"}}}, 400, "Malformed or unsupported Authorization header"},
		{"scheme in small letters", call{path: "/metrics", header: http.Header{"Authorization": {"basic " + basic("ann", "secret").Get("Authorization")[6:]}}}, 400, "Malformed or unsupported Authorization header"},
		{"not UTF-8", call{path: "/metrics", header: basic("\xff", "x")}, 400, "Malformed or unsupported Authorization header"},
		{"not visible", call{path: "/metrics", header: http.Header{"Authorization": {"Basic é"}}}, 400, "Malformed Authorization header"},
		{"wrong method from here", call{method: "DELETE", path: "/api/admin/x/v1"}, 405, ""},
		{"wrong method from afar", call{method: "DELETE", path: "/api/admin/x/v1", remote: away}, 401, "<Unauthenticated>@ ip=192.0.2.1 not permitted DELETE on http_listener/127.0.0.1:8000/api/admin/x/v1"},
		{"method without privilege", call{method: "PUT", path: "/api/admin/x/v1"}, 401, "<Unauthenticated>@ ip=127.0.0.1 not permitted PUT on http_listener/127.0.0.1:8000/api/admin/x/v1"},
		{"a page from elsewhere", call{method: "POST", path: "/api/admin/x/v1", header: http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}}, 403, "Error: cross-origin request detected from Sec-Fetch-Site header"},
		{"GET with a body", call{path: "/metrics", body: "null", header: asJSON}, 200, "127.0.0.1"},
		{"inject from afar", call{method: "POST", path: "/api/inject/v1", remote: away, header: asJSON, body: "{}"}, 401, "<Unauthenticated>@ ip=192.0.2.1 not permitted POST on http_listener/127.0.0.1:8000/api/inject/v1"},
	} {
		r := do(api, c.call)
		if got := bodyOf(t, r); r.StatusCode != c.status || got != c.body {
			t.Errorf("%s: %d %q, want %d %q", c.name, r.StatusCode, got, c.status, c.body)
		}
		if r.StatusCode == 405 && r.Header.Get("Allow") != "GET,POST" {
			t.Errorf("%s: Allow is %q", c.name, r.Header.Get("Allow"))
		}
		if r.StatusCode == 401 && (r.Header.Get("WWW-Authenticate") != "" || r.Header.Get("Content-Type") != "text/plain; charset=utf-8") {
			t.Errorf("%s: header is %v", c.name, r.Header)
		}
	}
	r := do(api, call{method: "POST", path: "/api/inject/v1", remote: away, header: with(basic("ann", "secret"), "Content-Type", "application/json"), body: minimal})
	if got := bodyOf(t, r); r.StatusCode != 200 {
		t.Errorf("injection with a password: %d %s", r.StatusCode, got)
	}
}

// Who opens a page is asked for a password as long as one could help.
func TestPages(t *testing.T) {
	t.Parallel()
	const asks, away = `Basic realm="mtakit", charset="UTF-8"`, "192.0.2.1:999"
	for _, auth := range []mtakit.Authenticator{nil, users{"ann": "secret", "bob": "hidden"}} {
		api, _ := newAPI(t, func(c *httpapi.Config) {
			c.Auth = auth
			c.Permit = func(_ context.Context, a *httpapi.Access) (httpapi.Permission, error) {
				if a.Auth.Trusted() || slices.ContainsFunc(a.Auth.Identities, func(i httpapi.Identity) bool { return i.Identity == "ann" }) {
					return httpapi.Allowed, nil
				}
				return httpapi.NotPermitted, nil
			}
		})
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "page") })
		api.HandlePage("/", handler)
		api.Handle("GET", "/api/admin/x/v1", handler)
		for _, c := range []struct {
			name   string
			call   call
			status int
			asked  bool // where passwords can be checked
		}{
			{"trusted", call{path: "/"}, 200, false},
			{"nobody", call{path: "/", remote: away}, 401, true},
			{"wrong password", call{path: "/", remote: away, header: basic("ann", "x")}, 401, true},
			{"right password", call{path: "/", remote: away, header: basic("ann", "secret")}, 200, false},
			{"who may not", call{path: "/", remote: away, header: basic("bob", "hidden")}, 401, false},
			{"not a page", call{path: "/api/admin/x/v1", remote: away}, 401, false},
		} {
			if c.status == 200 && c.call.header != nil && auth == nil {
				continue
			}
			r := do(api, c.call)
			want := ""
			if c.asked && auth != nil {
				want = asks
			}
			if got := r.Header.Get("WWW-Authenticate"); r.StatusCode != c.status || got != want {
				t.Errorf("%s, passwords %v: %d, asked %q, want %d, %q", c.name, auth != nil, r.StatusCode, got, c.status, want)
			}
		}
	}
}

func TestPermit(t *testing.T) {
	t.Parallel()
	var asked *httpapi.Access
	answer, failure := httpapi.Denied, error(nil)
	api, _ := newAPI(t, func(c *httpapi.Config) {
		c.Trusted = mtakit.Prefixes{}
		c.Permit = func(_ context.Context, a *httpapi.Access) (httpapi.Permission, error) {
			asked = a
			return answer, failure
		}
	})
	path := "/a/b/c/d/e/f/g/h/i/j/k/l"
	api.Handle("GET", path, http.NotFoundHandler())
	if r := do(api, call{path: path}); bodyOf(t, r) != "<Unauthenticated>@ ip=127.0.0.1 denied GET on http_listener/127.0.0.1:8000/a/b/c/d/e/f/g/h/i/j" {
		t.Errorf("%d", r.StatusCode)
	}
	if asked.Auth.Trusted() || asked.Path != path || asked.Method != "GET" {
		t.Errorf("asked %+v", asked)
	}
	failure = errors.New("no rules")
	if r := do(api, call{path: path}); r.StatusCode != 500 || bodyOf(t, r) != "try again later" {
		t.Errorf("%d", r.StatusCode)
	}
	defer func() {
		if recover() == nil {
			t.Error("a second handler was taken")
		}
	}()
	api.Handle("GET", path, http.NotFoundHandler())
}

// A judged password is not judged again for a minute.
func TestLoginsAreKept(t *testing.T) {
	t.Parallel()
	now, asked := epoch, 0
	api, _ := newAPI(t, func(c *httpapi.Config) {
		c.Now = func() time.Time { return now }
		c.Bearer = func(context.Context, string) (*mtakit.Identity, error) {
			asked++
			return nil, mtakit.ErrBadCredentials
		}
	})
	for _, c := range []struct {
		after time.Duration
		token string
		want  int
	}{{0, "a", 1}, {time.Second, "a", 1}, {time.Second, "b", 2}, {time.Minute, "a", 3}} {
		now = now.Add(c.after)
		do(api, call{path: "/api/check-liveness/v1", header: http.Header{"Authorization": {"Bearer " + c.token}}})
		if asked != c.want {
			t.Errorf("asked %d times, want %d", asked, c.want)
		}
	}
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

func deflated(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

func TestRequestEncodings(t *testing.T) {
	t.Parallel()
	api, o := newAPI(t, nil)
	for _, c := range []struct {
		encoding, body string
		status         int
		text           string
	}{
		{"gzip", gzipped(minimal), 200, ""},
		{"deflate", deflated(minimal), 200, ""},
		{"identity", minimal, 200, ""},
		{"br", minimal, 415, ""},
		{"gzip, gzip", minimal, 415, ""},
		{"gzip", minimal, 400, "Failed to buffer the request body: gzip: invalid header"},
		{"gzip", gzipped(minimal)[:40], 400, "Failed to buffer the request body: unexpected EOF"},
		{"gzip", gzipped(strings.Repeat(" ", 3<<20)), 413, "Failed to buffer the request body: length limit exceeded"},
		{"deflate", "", 400, "Failed to buffer the request body: unexpected EOF"},
	} {
		r := do(api, call{method: "POST", path: "/api/inject/v1", header: with(asJSON, "Content-Encoding", c.encoding), body: c.body})
		got := bodyOf(t, r)
		if r.StatusCode != c.status || c.status != 200 && got != c.text {
			t.Errorf("%s %.20q: %d %q, want %d %q", c.encoding, c.body, r.StatusCode, got, c.status, c.text)
		}
		if c.status == 415 && r.Header.Get("Accept-Encoding") != "gzip,deflate" {
			t.Errorf("Accept-Encoding is %q", r.Header.Get("Accept-Encoding"))
		}
	}
	if len(o.messages) != 3 {
		t.Errorf("%d messages", len(o.messages))
	}
	if r := do(api, call{path: "/nope", header: http.Header{"Content-Encoding": {"br"}}}); r.StatusCode != 415 {
		t.Errorf("an unknown path with an unknown encoding: %d", r.StatusCode)
	}
}

func TestResponseEncodings(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, nil)
	long := strings.Repeat("0123456789", 10)
	api.Handle("GET", "/long", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, long) }))
	api.Handle("GET", "/short", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		io.WriteString(w, "ab")
	}))
	api.Handle("GET", "/image", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		io.WriteString(w, long)
	}))
	api.Handle("GET", "/done", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "x")
		io.WriteString(w, long)
	}))
	api.Handle("GET", "/stream", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, long[:50])
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		io.WriteString(w, long[50:])
	}))
	for _, c := range []struct{ path, accept, encoding, want string }{
		{"/long", "", "", long}, {"/long", "br", "", long}, {"/long", "gzip;q=0", "", long},
		{"/long", "deflate, gzip", "gzip", long}, {"/long", "gzip;q=0.5, deflate", "deflate", long}, {"/stream", "gzip", "gzip", long},
		{"/short", "gzip", "", "ab"}, {"/image", "gzip", "", long}, {"/done", "gzip", "x", long},
	} {
		r := do(api, call{path: c.path, header: http.Header{"Accept-Encoding": {c.accept}}})
		in := io.Reader(r.Body)
		var err error
		switch r.Header.Get("Content-Encoding") {
		case "gzip":
			in, err = gzip.NewReader(in)
		case "deflate":
			in, err = zlib.NewReader(in)
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil || string(b) != c.want || r.Header.Get("Content-Encoding") != c.encoding {
			t.Errorf("%s %q: %q, %v, %v", c.path, c.accept, b, err, r.Header)
		}
		if c.encoding == "gzip" && r.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: type %q", c.path, r.Header.Get("Content-Type"))
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, nil)
	do(api, call{method: "POST", path: "/api/inject/v1", header: asJSON, body: minimal})
	for _, f := range api.Families() {
		api.Collect(f.Name, func(s mtakit.Sample) bool {
			if f.Name != "total_messages_received" || !slices.Equal(s.Labels, []string{"http_listener"}) || s.Value != 1 {
				t.Errorf("%s%v = %v", f.Name, s.Labels, s.Value)
			}
			return true
		})
	}
}
