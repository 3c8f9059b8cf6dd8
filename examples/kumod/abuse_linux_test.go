package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

var peakLine = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// peak is the most memory that the daemon has had, in MiB.
func (d *daemon) peak() (mib int) {
	d.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	if m := peakLine.FindSubmatch(b); m != nil {
		fmt.Sscan(string(m[1]), &mib)
	}
	return mib >> 10
}

// While 50 MB are injected at once, others send what is no request, bombs, and attempts to bring in header fields. Each gets a plain answer of its own, what is
// right is delivered and nothing else, and memory stays flat.
func TestHTTPAbuse(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	dir := t.TempDir()
	d := start(t, nil, "--data", dir, "--relay-to", peer.Addr().String())
	d.get("/metrics")
	before := d.usage(dir)
	var zeros bytes.Buffer
	z := gzip.NewWriter(&zeros)
	z.Write(make([]byte, 64<<20))
	z.Close()
	request := func(content string) string {
		return `{"envelope_sender":"s@src.test","recipients":[{"email":"r@dest.test","name":"x\r\nBcc: e@src.test"}],"content":` + content + `}`
	}
	type attack struct {
		name, encoding, body string
		status               int
	}
	attacks := []attack{
		{"bomb", "gzip", zeros.String(), 413},
		{"another encoding", "br", "x", 415},
		{"too long", "", `{"x":"` + strings.Repeat("x", 3<<20) + `"}`, 413},
		{"broken JSON", "", `{"envelope_sender":`, 400},
		{"broken UTF-8", "", "{\"envelope_sender\":\"\xff\"}", 400},
		{"deep JSON", "", strings.Repeat("[", 1<<20), 422},
		{"wrong shape", "", `{"envelope_sender":7}`, 422},
		{"template bomb", "", request(`"Subject: x\n\n{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}"`), 422},
		{"memory bomb", "", request(`"Subject: x\n\n{% set a = 'x' %}` + strings.Repeat("{% set a = a ~ a %}", 40) + `{{ a }}"`), 422},
		{"header name", "", request(`{"text_body":"x","headers":{"X\r\nBcc":"e@src.test"}}`), 422},
		{"attachment type", "", request(`{"text_body":"x","attachments":[{"data":"x","content_type":"a/b\r\nBcc: e@src.test"}]}`), 422},
	}
	send := func(encoding, body string) (int, string) {
		req, err := http.NewRequest("POST", "http://"+d.http+"/api/inject/v1", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		req.Header.Set("Content-Type", "application/json")
		if encoding != "" {
			req.Header.Set("Content-Encoding", encoding)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			// Who sends more than is allowed may find the connection closed while it is still sending.
			return 0, err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	const good, size = 26, 1 << 20
	var wg sync.WaitGroup
	for i := range 2 * good {
		wg.Go(func() {
			body := request(fmt.Sprintf(`"X-Ledger: m%d\nSubject: {{ name }}\n\n%s\n"`, i, strings.Repeat(strings.Repeat("x", 70)+`\n`, size/72)))
			if status, text := send("", body); status != 200 || !strings.Contains(text, `"success_count":1`) {
				t.Errorf("injection %d: %d %s", i, status, text)
			}
		})
	}
	for range 4 {
		for _, a := range attacks {
			wg.Go(func() {
				status, text := send(a.encoding, a.body)
				if status != a.status && !(status == 0 && a.status == 413) || len(text) > 1000 || status != 0 && strings.ContainsAny(text, "\r\n") {
					t.Errorf("%s: %d %.300q, want %d", a.name, status, text, a.status)
				}
			})
		}
	}
	wg.Wait()
	http.DefaultClient.CloseIdleConnections()
	d.drained(time.Minute)
	onceEach(t, peer, 2*good)
	for _, m := range peer.Messages() {
		if head, _, _ := bytes.Cut(m.Data, []byte("\r\n\r\n")); bytes.Contains(head, []byte("\r\nBcc")) || len(m.To) != 1 {
			t.Errorf("to %q:\n%s", m.To, head)
		}
	}
	most := d.peak()
	t.Logf("%v before; most was %d MiB", before, most)
	if most > 400*memoryFactor {
		t.Errorf("the daemon has had %d MiB", most)
	}
	before.files += 4 // of the spool, which has grown meanwhile
	d.settled(dir, before, 30*time.Second)
	d.stop()
	if s := d.stderr.String(); strings.Contains(s, "panic") {
		t.Errorf("%s", s)
	}
}
