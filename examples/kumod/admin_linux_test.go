package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// want sends a request to the daemon and returns the answer, which must be a 200, as JSON if it is.
func (d *daemon) want(method, path, body string) (answer any) {
	d.t.Helper()
	status, text := d.ask(method, path, body, "")
	if status != http.StatusOK {
		d.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if json.Unmarshal([]byte(text), &answer) != nil {
		return text
	}
	return answer
}

// The operator's rules are in force again after kill -9, and hold the mail that was there; cancelled ones stay so.
func TestRulesSurvive(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	args := []string{"--data", t.TempDir(), "--relay-to", peer.Addr().String()}
	d := start(t, nil, args...)
	id := func(answer any) string { return answer.(map[string]any)["id"].(string) }
	bounce := id(d.want("POST", "/api/admin/bounce/v1", `{"reason":"gone","domain":"gone.test","duration":"1h"}`))
	suspended := id(d.want("POST", "/api/admin/suspend/v1", `{"reason":"hold","domain":"dest.test","duration":"1h"}`))
	ready := id(d.want("POST", "/api/admin/suspend-ready-q/v1", `{"name":"unspecified->elsewhere@smtp_client","reason":"hold","duration":"1h"}`))
	d.want("POST", "/api/inject/v1", injection(3, ""))
	d.kill()

	d = start(t, nil, args...)
	for path, want := range map[string]string{"/api/admin/bounce/v1": bounce, "/api/admin/suspend/v1": suspended, "/api/admin/suspend-ready-q/v1": ready} {
		list, _ := d.want("GET", path, "null").([]any)
		if len(list) != 1 || id(list[0]) != want {
			t.Errorf("%s after a restart: %v, want %s", path, list, want)
		}
	}
	// What comes is bounced, what waited is held.
	d.want("POST", "/api/inject/v1", `{"envelope_sender":"s@src.test","recipients":[{"email":"a@gone.test"}],"content":"Subject: x\n\nx\n"}`)
	for end := time.Now().Add(10 * time.Second); ; {
		list, _ := d.want("GET", "/api/admin/bounce/v1", "null").([]any)
		if len(list) == 1 && list[0].(map[string]any)["total_bounced"] == 1.0 {
			break
		}
		if <-time.After(10 * time.Millisecond); time.Now().After(end) {
			t.Fatalf("not bounced: %v", list)
		}
	}
	if n := len(counted(peer)); n > 0 {
		t.Errorf("%d messages delivered while suspended", n)
	}
	d.want("DELETE", "/api/admin/bounce/v1", `{"id":"`+bounce+`"}`)
	d.want("DELETE", "/api/admin/suspend/v1", `{"id":"`+suspended+`"}`)
	d.kill()

	d = start(t, nil, args...)
	for _, path := range []string{"/api/admin/bounce/v1", "/api/admin/suspend/v1"} {
		if list, _ := d.want("GET", path, "null").([]any); len(list) != 0 {
			t.Errorf("%s: %v", path, list)
		}
	}
	d.want("POST", "/api/admin/rebind/v1", `{"reason":"flush","data":{},"always_flush":true}`)
	d.drained(30 * time.Second)
	onceEach(t, peer, 3)
	d.stop()
}

// What is about the process works in the daemon.
func TestProcessEndpoints(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	data := t.TempDir()
	users := filepath.Join(t.TempDir(), "users")
	write(t, users, "ann:{PLAIN}secret\n")
	d := start(t, nil, "--data", data, "--relay-to", peer.Addr().String(), "--auth", users)
	info := d.want("GET", "/api/machine-info", "null").(map[string]any)
	if info["hostname"] != "kumod.test" || info["process_kind"] != "kumod" || len(info["node_id"].(string)) != 36 {
		t.Errorf("%v", info)
	}
	d.want("POST", "/api/inject/v1", injection(20, ""))
	d.drained(30 * time.Second)
	for _, c := range []struct {
		path, body, want string
		status           int
	}{
		{"/api/admin/spool-compact/v1", `{"name":"data"}`, "", 200},
		{"/api/admin/spool-compact/v1", `{"name":"attic"}`, "Error: compacting spool attic: there is no such spool: expected spool, data or meta", 500},
		{"/api/admin/set_diagnostic_log_filter/v1", `{"filter":"kumod=trace"}`, "", 200},
		{"/api/admin/set_diagnostic_log_filter/v1", `{"filter":"info,queue=debug"}`, "", 200},
		{"/api/admin/set_diagnostic_log_filter/v1", `{"filter":"loud"}`, "Error: parsing log filter 'loud': there is no target \"loud\": expected kumod, ", 500},
		// A change of the files is in force when the request has been answered.
		{"/api/admin/bump-config-epoch", "null", "", 200},
	} {
		if status, body := d.ask("POST", c.path, c.body, ""); status != c.status || !strings.HasPrefix(body, c.want) || c.want == "" && body != "" {
			t.Errorf("%s %s: %d %q, want %d %q", c.path, c.body, status, body, c.status, c.want)
		}
	}
	write(t, users, "ann:{PLAIN}secret\nbob:{PLAIN}other\n")
	d.want("POST", "/api/admin/bump-config-epoch", "null")
	if status, body := d.ask("GET", "/metrics", "", "bob:other"); status != 200 {
		t.Errorf("after bump-config-epoch: %d %s", status, body)
	}
	d.want("GET", "/api/admin/memory/stats", "null")
	d.want("GET", "/api/admin/task-dump", "null")
	d.stop()
	if d, err := launch(t, nil, "--data", data, "--log-level", "loud"); err == nil || !strings.Contains(err.Error(), `kumod: --log-level: there is no target "loud"`) {
		t.Errorf("%v, %v", d, err)
	}
}
