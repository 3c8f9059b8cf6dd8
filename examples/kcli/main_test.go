package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asKcli in the environment makes the test's program kcli itself, for tests with shells.
const asKcli = "TEST_AS_KCLI"

func TestMain(m *testing.M) {
	if os.Getenv(asKcli) != "" {
		main()
	}
	os.Exit(m.Run())
}

// runCommand runs kcli without a daemon's script.
func runCommand(ctx context.Context, args ...string) (out, stderr string, code int) {
	var o, e strings.Builder
	code = run(ctx, args, &console{out: &o, err: &e, now: time.Now})
	return o.String(), e.String(), code
}

// Each command and each flag says what it is for, in --help and in the Markdown that is made of the same.
func TestHelp(t *testing.T) {
	t.Parallel()
	top, _, code := runCommand(t.Context(), "--help")
	if code != 0 || !strings.Contains(top, "queue-summary") || strings.Contains(top, "markdown-help") {
		t.Errorf("exit code %d\n%s", code, top)
	}
	c := &console{out: new(strings.Builder), err: new(strings.Builder)}
	parser, err := newParser(new(commands), c, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	markdown, _, code := runCommand(t.Context(), "markdown-help")
	if code != 0 {
		t.Fatal(code)
	}
	for _, n := range parser.Model.Children {
		if n.Hidden {
			continue
		}
		help, _, code := runCommand(t.Context(), n.Name, "--help")
		if unfolded := strings.Join(strings.Fields(help), " "); code != 0 || n.Help == "" || !strings.Contains(unfolded, n.Help) {
			t.Errorf("%s --help: exit code %d\n%s", n.Name, code, help)
		}
		if !strings.Contains(markdown, "\n## kcli "+n.Name) {
			t.Errorf("%s is not in the Markdown", n.Name)
		}
		for _, f := range n.Flags {
			if !strings.HasSuffix(f.Help, ".") || !strings.Contains(help, "--"+f.Name) || !strings.Contains(markdown, "--"+f.Name) {
				t.Errorf("%s --%s has the help %q", n.Name, f.Name, f.Help)
			}
		}
		for _, p := range n.Positional {
			if !strings.HasSuffix(p.Help, ".") {
				t.Errorf("%s %s has the help %q", n.Name, p.Name, p.Help)
			}
		}
	}
}

// What goes wrong on the way to the daemon comes with what to do about it, and without the password.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") }))
	defer secure.Close()
	secure.Config.ErrorLog = log.New(t.Output(), "", 0)
	done := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-done }))
	defer silent.Close()
	defer close(done)
	for _, c := range []struct{ name, timeout, endpoint, want string }{
		{"nobody listens", "1m", "http://u:secret@127.0.0.1:1", "connection refused. Is the daemon up, and is its --http address 127.0.0.1:1? Use --endpoint or KUMO_KCLI_ENDPOINT"},
		{"a certificate of its own", "1m", strings.Replace(secure.URL, "//", "//u:secret@", 1), "name its file with --ca or KUMO_KCLI_CA"},
		{"no answer", "50ms", strings.Replace(silent.URL, "//", "//u:secret@", 1), "Use --timeout or KUMO_KCLI_TIMEOUT to wait for longer than 50ms"},
		{"no URL", "1m", "http://u:secret@[", "is no endpoint"},
	} {
		for _, command := range []string{"suspend-list", "trace-smtp-server"} {
			_, stderr, code := runCommand(t.Context(), "--endpoint", c.endpoint, "--timeout", c.timeout, command)
			if code == 0 || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "secret") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s, %s: exit code %d, %q", c.name, command, code, stderr)
			}
		}
	}
}

func TestCA(t *testing.T) {
	t.Parallel()
	user := ""
	daemon := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ = r.BasicAuth()
		fmt.Fprint(w, "[]")
	}))
	defer daemon.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: daemon.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, code := runCommand(t.Context(), "--endpoint", strings.Replace(daemon.URL, "//", "//me:secret@", 1), "--ca", ca, "suspend-list")
	if out != "[]\n" || code != 0 || user != "me" {
		t.Errorf("exit code %d, user %q, %s%s", code, user, out, stderr)
	}
	for file, want := range map[string]string{filepath.Join(t.TempDir(), "none"): "no such file", "main.go": "has no certificate"} {
		if _, stderr, code := runCommand(t.Context(), "--ca", file, "suspend-list"); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("--ca %s: exit code %d, %s", file, code, stderr)
		}
	}
}
