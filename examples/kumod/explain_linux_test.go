package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// Each setting is explained with the file and line that set it, or the flag.
func TestExplain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	shapes := write("shaping.toml", `["default"]
connection_limit = 10

["dest.test"]
mx_rollup = false
max_message_rate = "50/s"

["dest.test".sources."ip-1"]
connection_limit = 2
`)
	queues := write("queues.toml", `[queue.default]
egress_pool = "warm"

[queue."dest.test"]
retry_interval = "5m"

[tenant.acme]
overall_max_message_rate = "100/h"
`)
	sources := write("sources.toml", `[source."ip-1"]
ehlo_domain = "mx1.test"

[pool.warm."ip-1"]
weight = 3
[pool.warm.unspecified]
`)
	peer := smtptest.NewPeer(t, nil)
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String(), "--dest-port", "2526",
		"--shaping", shapes, "--queues", queues, "--sources", sources)
	type setting struct {
		Option string
		Value  json.RawMessage
		By     string
		Place  *struct {
			File string
			Line int
		}
	}
	var x struct {
		Queue    string
		Settings []setting
		Limits   []struct {
			Name  string
			Limit string
		}
		Pool    string `json:"egress_pool"`
		Sources []struct {
			Name           string
			Weight         int
			Settings, Path []setting
			Place          *struct{ Line int }
		}
	}
	status, body := d.ask("GET", "/api/admin/explain/v1?queue=acme@dest.test", "", "")
	if err := json.Unmarshal([]byte(body), &x); status != 200 || err != nil {
		t.Fatalf("%d %s %v", status, body, err)
	}
	show := func(all []setting, option string) string {
		for _, s := range all {
			if s.Option == option && s.Place != nil {
				return fmt.Sprintf("%s by %s at %s:%d", s.Value, s.By, filepath.Base(s.Place.File), s.Place.Line)
			} else if s.Option == option {
				return fmt.Sprintf("%s by %s", s.Value, s.By)
			}
		}
		return "none"
	}
	if len(x.Sources) != 2 || x.Queue != "acme@dest.test" || x.Pool != "warm" || x.Sources[0].Weight != 3 || x.Sources[0].Place.Line != 5 {
		t.Fatalf("%s", body)
	}
	for _, c := range []struct{ got, want string }{
		{show(x.Settings, "retry_interval"), `"5m" by queue dest.test at queues.toml:5`},
		{show(x.Settings, "egress_pool"), `"warm" by queue default at queues.toml:2`},
		{show(x.Settings, "max_age"), `"7days" by `},
		{show(x.Sources[0].Settings, "ehlo_domain"), `"mx1.test" by source ip-1 at sources.toml:2`},
		{show(x.Sources[0].Path, "connection_limit"), `{"limit":2,"force_local":false} by domain dest.test source ip-1 at shaping.toml:9`},
		{show(x.Sources[1].Path, "connection_limit"), `{"limit":10,"force_local":false} by default at shaping.toml:2`},
		{show(x.Sources[1].Path, "max_message_rate"), `"50/s" by domain dest.test at shaping.toml:6`},
		{show(x.Sources[1].Path, "smtp_port"), `2526 by --dest-port`},
		{fmt.Sprint(x.Limits), "[{queue-helper-tenant-overall_max_message_rate-acme 100/h}]"},
	} {
		if !strings.HasPrefix(c.got, c.want) {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	d.stop()
}
