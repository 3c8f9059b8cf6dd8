package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// Queue files say by a header for whom a message is, however it came, and which headers go; the rest of it stays as it is.
func TestQueueHeaders(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	file := filepath.Join(t.TempDir(), "queues.toml")
	write(t, file, "tenant_header = 'X-Tenant'\nremove_tenant_header = true\ncampaign_header = 'X-Campaign'\nscheduling_header = 'X-Schedule'\n[tenant.acme]\nmax_age = '1h'\n")
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String(), "--queues", file)
	const schedule = `X-Schedule: {"first_attempt":"2026-01-02T03:04:05Z"}`
	c, err := dial(d.smtp)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.send("a@x.test", "b@smtp.test", "Subject: s\r\nX-Tenant: acme\r\nX-Campaign: spring\r\n"+schedule+"\r\n\r\nHello: you\r\n"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content string }{
		{"whole", `"Subject: s\nX-Tenant: acme\nX-Campaign: spring\n` + strings.ReplaceAll(schedule, `"`, `\"`) + `\n\nHello: you\n"`},
		{"built", `{"subject":"s","text_body":"Hello: {{ name }}","headers":{"X-Tenant":"acme","X-Campaign":"spring","X-Schedule":"{\"first_attempt\":\"2026-01-02T03:04:05Z\"}"}}`},
	} {
		body := `{"envelope_sender":"a@x.test","recipients":[{"email":"b@` + c.name + `.test","name":"you"}],"content":` + c.content + `}`
		if status, answer := d.ask("POST", "/api/inject/v1", body, ""); status != 200 || !strings.Contains(answer, `"success_count":1,`) {
			t.Errorf("%s: %d %s", c.name, status, answer)
		}
	}
	d.drained(30 * time.Second)
	_, metrics := d.get("/metrics")
	for _, name := range []string{"smtp", "whole", "built"} {
		if !strings.Contains(metrics, `scheduled_count{queue="spring:acme@`+name+`.test"}`) {
			t.Errorf("there is no queue for the tenant and campaign of %s", name)
		}
	}
	all := peer.Messages()
	if len(all) != 3 {
		t.Errorf("%d messages have arrived, want 3", len(all))
	}
	for _, m := range all {
		header, text, ok := strings.Cut(string(m.Data), "\r\n\r\n")
		if !ok || text != "Hello: you\r\n" || strings.Contains(header, "X-Tenant") || strings.Contains(header, "X-Schedule") || !strings.Contains(header, "X-Campaign: spring") {
			t.Errorf("what has arrived for %s:\n%s", m.To, m.Data)
		}
	}
	// Who is nobody's tenant is refused, either way.
	if err := c.send("a@x.test", "b@smtp.test", "X-Tenant: nobody\r\n\r\nx\r\n"); err == nil {
		t.Error("a message for an unknown tenant is accepted")
	}
	body := `{"envelope_sender":"a@x.test","recipients":[{"email":"b@built.test"}],"content":{"text_body":"x","headers":{"X-Tenant":"nobody"}}}`
	if status, answer := d.ask("POST", "/api/inject/v1", body, ""); status != 200 || !strings.Contains(answer, `tenant 'nobody' specified by 'X-Tenant' header is not defined`) {
		t.Errorf("a message for an unknown tenant: %d %s", status, answer)
	}
	d.stop()
}
