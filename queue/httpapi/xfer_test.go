package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/queue/xfer"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// What another node sends has a limit of its own, after decompression, and is refused while no mail is taken.
func TestXferLimits(t *testing.T) {
	t.Parallel()
	spool := &spooltest.Memory{}
	q, err := queue.New(queue.Config{Spool: spool, Router: mtakit.RouterFunc(nil), Egress: mtakit.EgressFunc(nil)})
	if err != nil {
		t.Fatal(err)
	}
	var api *httpapi.API
	received := map[string]func(again call) error{ // by sender; again is the same request
		"full@src.test": func(call) error { return fmt.Errorf("policy: %w", mtakit.ErrSpoolFull) },
		"twice@src.test": func(again call) error {
			r := do(api, again)
			if got := bodyOf(t, r); r.StatusCode != 503 || got != "Error: this message is being received already" {
				t.Errorf("the same message meanwhile: %d %s", r.StatusCode, got)
			}
			return errors.New("not this time")
		},
	}
	var sent call
	node, err := xfer.New(xfer.Config{Queue: q, Spool: spool, NodeID: "here", Received: func(_ context.Context, m *mtakit.Message, _ xfer.Origin) error {
		if f := received[m.Sender]; f != nil {
			return f(sent)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	var trouble httpapi.Trouble
	api, err = httpapi.New(httpapi.Config{
		Queue: q, Xfer: node, BodyLimit: 100, XferLimit: 1 << 20, MaxInFlight: 1 << 20, Trouble: func() httpapi.Trouble { return trouble },
	})
	if err != nil {
		t.Fatal(err)
	}
	const envelope = `{"id":"0196f4b2a5e07abc8123456789abcdef","sender":"a@src.test","recipient":"b@d.test","meta":{}}` + "\n"
	for _, test := range []struct {
		name     string
		trouble  httpapi.Trouble
		body     string
		status   int
		contains string
	}{
		{"larger than a request for injection may be", 0, envelope + strings.Repeat("x", 1<<19), 200, `{"id":"`},
		{"too large", 0, envelope + strings.Repeat("x", 1<<20), 413, "length limit exceeded"},
		{"too large an envelope", 0, `{"id":"` + strings.Repeat("0", 1<<20), 413, "length limit exceeded"},
		{"no envelope", 0, "Subject: x\r\n\r\n", 500, "Error: malformed transfer: envelope: "},
		{"addresses with line ends", 0, strings.Replace(envelope, "b@d.test", `b@d.test>\r\nDATA`, 1), 500, "Error: malformed transfer: "},
		{"bad queue info", 0, strings.NewReplacer(`"meta":{`, `"meta":{"xfer_queue_info":5`, "cdef", "cdee").Replace(envelope), 500, "Error: malformed transfer: xfer: xfer_queue_info: "},
		{"no room", 0, strings.NewReplacer("a@", "full@", "cdef", "cde0").Replace(envelope), 503, "Error: disk is too full"},
		{"twice at once", 0, strings.NewReplacer("a@", "twice@", "cdef", "cde1").Replace(envelope), 500, "Error: internal error"},
		{"stopping", httpapi.Stopping, envelope, 503, "Error: shutting down"},
		{"full", httpapi.Full, envelope, 503, "Error: disk is too full"},
	} {
		for _, zip := range []bool{false, true} {
			trouble = test.trouble
			c := call{method: "POST", path: "/api/xfer/inject/v1", body: test.body, header: http.Header{"Content-Type": {"application/octet-stream"}}}
			if zip {
				c.body = gzipped(test.body)
				c.header.Set("Content-Encoding", "gzip")
			}
			sent = c
			r := do(api, c)
			if got := bodyOf(t, r); r.StatusCode != test.status || !strings.Contains(got, test.contains) {
				t.Errorf("%s (gzip %v): %d %.200s, want %d with %s", test.name, zip, r.StatusCode, got, test.status, test.contains)
			}
		}
	}
}
