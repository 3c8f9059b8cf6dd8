package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/mtakit/mtakit/authfile"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// ask sends a request to the daemon, with JSON if there is any, and returns status and body. user is NAME:PASSWORD or "".
func (d *daemon) ask(method, path, json, user string) (int, string) {
	d.t.Helper()
	req, err := http.NewRequest(method, "http://"+d.http+path, strings.NewReader(json))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if name, password, ok := strings.Cut(user, ":"); ok {
		req.SetBasicAuth(name, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// injection is a request for n recipients.
func injection(n int, more string) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`{"email":"r%d@dest.test","substitutions":{"n":%d}}`, i, i))
	}
	return `{"envelope_sender":"s@src.test","recipients":[` + strings.Join(list, ",") + `],"content":"Subject: hi\nX-Ledger: m{{ n }}\n\nHello {{ n }}\n"` + more + `}`
}

// onceEach checks that the destination has each of the messages of injection(n) exactly once.
func onceEach(t *testing.T, p *smtptest.Peer, n int) {
	t.Helper()
	got := counted(p)
	for i := range n {
		if got[fmt.Sprintf("m%d", i)] != 1 {
			t.Errorf("message %d has arrived %d times", i, got[fmt.Sprintf("m%d", i)])
		}
	}
	if len(got) != n {
		t.Errorf("%d different messages, want %d", len(got), n)
	}
}

// What is injected arrives, at once or generated later.
func TestInject(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, more, answer string }{
		{"at once", "", `{"success_count":40,"fail_count":0,"failed_recipients":[],"errors":[]}`},
		{"deferred generation", `,"deferred_generation":true`, `{"success_count":0,"fail_count":0,"failed_recipients":[],"errors":[]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.NewPeer(t, nil)
			d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String())
			if status, body := d.ask("POST", "/api/inject/v1", injection(40, c.more), ""); status != 200 || body != c.answer {
				t.Fatalf("%d %s", status, body)
			}
			d.drained(30 * time.Second)
			onceEach(t, peer, 40)
			for path, has := range map[string]string{"/metrics.json": `"http_listener"`, "/": `<script type="module" src="/dashboard/main.js">`, "/dashboard/main.js": "import"} {
				if status, body := d.get(path); status != 200 || !strings.Contains(body, has) {
					t.Errorf("%s: %d %.300s", path, status, body)
				}
			}
			var history struct{ Received, Delivered []int }
			if _, body := d.get("/api/admin/history/v1"); json.Unmarshal([]byte(body), &history) != nil || sum(history.Received) < 40 || sum(history.Delivered) < 40 {
				t.Errorf("history is %s", body)
			}
			d.stop()
		})
	}
}

func sum(all []int) (n int) {
	for _, x := range all {
		n += x
	}
	return n
}

// Who is not trusted needs a password, and may inject with it and nothing more. The file is watched.
func TestHTTPAuth(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users")
	line, err := authfile.Line("ann", "secret")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	peer := smtptest.NewPeer(t, nil)
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String(), "--auth", file, "--trust-http", "none")
	for _, c := range []struct {
		name, method, path, user string
		status                   int
		body                     string
	}{
		{"liveness", "GET", "/api/check-liveness/v1", "", 200, "OK"},
		{"no password", "POST", "/api/inject/v1", "", 401, "<Unauthenticated>@ ip=127.0.0.1 not permitted POST on http_listener/" + d.http + "/api/inject/v1"},
		{"wrong password", "POST", "/api/inject/v1", "ann:wrong", 401, "HttpBasicAuth Authentication Failed for ann"},
		{"password", "POST", "/api/inject/v1", "ann:secret", 200, `{"success_count":1,"fail_count":0,"failed_recipients":[],"errors":[]}`},
		{"metrics", "GET", "/metrics", "ann:secret", 401, "id=[ann]@ ip=127.0.0.1 not permitted GET on http_listener/" + d.http + "/metrics"},
		{"profiles", "GET", "/debug/pprof/heap", "ann:secret", 401, "id=[ann]@ ip=127.0.0.1 not permitted GET on http_listener/" + d.http + "/debug/pprof/heap"},
	} {
		if status, body := d.ask(c.method, c.path, injection(1, ""), c.user); status != c.status || body != c.body {
			t.Errorf("%s: %d %q, want %d %q", c.name, status, body, c.status, c.body)
		}
	}
	// A judgement is remembered for a minute, so each attempt is another user's.
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "u%d:{PLAIN}x\n", i)
	}
	if err := os.WriteFile(file, []byte(many.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if status, _ := d.ask("POST", "/api/inject/v1", injection(1, ""), fmt.Sprintf("u%d:x", i)); status == 200 {
			break
		}
		if <-time.After(20 * time.Millisecond); i == 999 {
			t.Fatal("the new file is not in force")
		}
	}
	if err := os.WriteFile(file, []byte("bob\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.stop()
	if d, err := launch(t, nil, "--data", t.TempDir(), "--auth", file); err == nil || !strings.Contains(err.Error(), file+":1: expected NAME:HASH") {
		t.Errorf("%v, %v", d, err)
	}
}

func TestCheckAuth(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("ann:{PLAIN}x\nbob:y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	code := run([]string{"check", "--auth", file}, out, out)
	b, err := os.ReadFile(out.Name())
	want := file + ":1: warning: the password is in clear\n" + file + ":2: error: bob: expected a hash of bcrypt, as htpasswd -nB prints it, or {PLAIN} and a password\n"
	if code != 1 || err != nil || string(b) != want {
		t.Errorf("%d, %v, %s", code, err, b)
	}
}

// With --http-tls there is nothing in clear, websockets included.
func TestHTTPS(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	cert, key, _ := certificate(t, ca)
	d := start(t, nil, "--data", t.TempDir(), "--http-tls", "--tls-cert", cert, "--tls-key", key)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: "mx.test"}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + d.http + "/api/check-liveness/v1")
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	c, _, err := websocket.Dial(t.Context(), "https://"+d.http+"/api/admin/trace-smtp-client/v1", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	c.CloseNow()
	if code, text := d.get("/api/check-liveness/v1"); code == 200 {
		t.Errorf("in clear: %d %s", code, text)
	}
	d.stop()
}
