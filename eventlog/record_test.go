package eventlog_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/internal/vfs"
)

func TestPerRecord(t *testing.T) {
	t.Parallel()
	disk := &vfs.Mem{}
	l := open(t, eventlog.Config{
		Filter: func(r *mtakit.Record) bool { return r.Size != 99 },
		PerRecord: map[mtakit.Kind]eventlog.KindConfig{
			eventlog.Any:     {Suffix: "-other", SegmentHeader: "# other\n"},
			mtakit.Bounce:    {Dir: "/bounces"},
			mtakit.Rejection: {Suffix: "-rejected"},
			mtakit.Delayed:   {Disable: true},
		},
	}, disk)
	for _, k := range []mtakit.Kind{mtakit.Reception, mtakit.Bounce, mtakit.Rejection, mtakit.Delayed, mtakit.Delivered} {
		for _, size := range []int64{1, 99} {
			l.Record(&mtakit.Record{Kind: k, Size: size})
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, dir := range []string{"/logs", "/bounces"} {
		for _, name := range segments(t, disk, dir) {
			_, suffix, _ := strings.Cut(name[len("20000101-"):], "-")
			for _, line := range lines(t, disk, dir+"/"+name) {
				kind, _, _ := strings.Cut(strings.TrimPrefix(line, `{"type":"`), `"`)
				got[dir+" "+suffix] = append(got[dir+" "+suffix], kind)
			}
		}
	}
	want := map[string][]string{
		"/logs other":    {"# other", "Reception", "Delivery"},
		"/logs rejected": {"Rejection", "Rejection"}, // which the filter is not asked about
		"/bounces ":      {"Bounce"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCapture(t *testing.T) {
	t.Parallel()
	disk := &vfs.Mem{}
	l := open(t, eventlog.Config{
		Meta:    []string{"tenant", "missing", "nothing", "x_*"},
		Headers: []string{"subject", "X-*", "Received"},
	}, disk)
	if !l.WantsBody() {
		t.Error("WantsBody is false although headers are captured")
	}
	r := record(1)
	r.Message = &mtakit.Message{Meta: map[string]any{"tenant": "a", "nothing": nil, "secret": "s", "x_n": 5, "x_nil": nil}}
	r.Body = mtakit.Bytes("received: 1\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\nX-One: 1\r\nTo: x\r\nReceived: 2\r\nRECEIVED: 3\r\n\r\nSubject: no\r\n")
	before := *r
	l.Record(r)
	if fmt.Sprint(*r) != fmt.Sprint(before) {
		t.Error("Record changed the record")
	}
	l.Record(record(2)) // nothing to capture from
	l.Record(&mtakit.Record{Kind: mtakit.Rejection, Meta: map[string]any{"tenant": "b", "secret": "s"}})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rs := records(t, disk, "/logs")
	for i, want := range []struct{ meta, headers string }{
		{"map[tenant:a x_n:5 x_nil:<nil>]", "map[Subject:café X-One:1 received:[1 2 3]]"},
		{"map[]", "map[]"},
		{"map[tenant:b]", "map[]"},
	} {
		if got := fmt.Sprint(rs[i].Meta); got != want.meta {
			t.Errorf("record %d: meta %s, want %s", i, got, want.meta)
		}
		if got := fmt.Sprint(rs[i].Headers); got != want.headers {
			t.Errorf("record %d: headers %s, want %s", i, got, want.headers)
		}
	}
}

// The reference's example, with what identifies the record in its stream after it.
func TestGolden(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/delivery.json")
	if err != nil {
		t.Fatal(err)
	}
	disk := &vfs.Mem{}
	l := open(t, eventlog.Config{Headers: []string{"Subject"}}, disk)
	id, err := mtakit.ParseID("1d98076abbbc11ed940250ebf67f93bd")
	if err != nil {
		t.Fatal(err)
	}
	l.Record(&mtakit.Record{
		Kind: mtakit.Delivered, ID: id, Sender: "user@sender.example.com", To: []string{"user@recipient.example.com"},
		Queue: mtakit.QueueName{Campaign: "campaign", Tenant: "tenant", Domain: "recipient.example.com"},
		Site:  "source2->mx.recipient.example.com@smtp_client", Size: 1047,
		Response: mtakit.Response{Code: 250, Enhanced: [3]uint16{2, 0, 0}, Text: "OK ids=8a54", Command: "."},
		PeerName: "mx.recipient.example.com.", PeerAddr: netip.MustParseAddrPort("192.0.2.27:0"),
		Time: time.Unix(1757675281, 440526026), Created: time.Unix(1757675280, 912345000), Pool: "pool0", Source: "source2",
		SourceAddr: netip.MustParseAddrPort("10.0.0.1:53210"), DeliveryProtocol: "ESMTP", ReceptionProtocol: "HTTP",
		NodeID: "557f3ad4-2c8c-11ee-976e-782d7e12e173", TLSCipher: "TLS_AES_256_GCM_SHA384", TLSVersion: "TLSv1.3",
		TLSSubject: []string{"CN=mx.example"}, SessionID: "9bcd689e-23d9-41b7-a015-63a1382f8b57",
		Body: mtakit.Bytes("Subject: hello\r\n\r\n"),
	})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := lines(t, disk, "/logs/"+segments(t, disk, "/logs")[0])[0]
	r := records(t, disk, "/logs")[0]
	if got = strings.Replace(got, r.Stream, "STREAM", 1); got != strings.TrimSpace(string(want)) {
		t.Errorf("record:\n%s\nwant:\n%s", got, want)
	}
	// What Record puts at the end is what AppendJSON would.
	if again := strings.Replace(string(r.AppendJSON(nil)), r.Stream, "STREAM", 1); again != got {
		t.Errorf("decoded and encoded again:\n%s\nwant:\n%s", again, got)
	}
}

func TestConcurrentRecords(t *testing.T) {
	t.Parallel()
	disk := &vfs.Mem{}
	l := open(t, eventlog.Config{MaxFileSize: 300_000}, disk)
	var wg sync.WaitGroup
	const writers, each = 8, 200
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := l.Pace(t.Context()); err != nil {
					t.Error(err)
				}
				l.Record(record(w*each + i))
				if i%50 == 0 {
					if err := l.Flush(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rs := records(t, disk, "/logs")
	wantUnbroken(t, rs)
	seen := map[int64]bool{}
	for _, r := range rs {
		seen[r.Size] = true
	}
	if len(seen) != writers*each || len(rs) != len(seen) {
		t.Errorf("%d records, %d different ones, want %d", len(rs), len(seen), writers*each)
	}
}

func TestPanickingFilterAndLateRecord(t *testing.T) {
	t.Parallel()
	disk := &vfs.Mem{}
	var diag bytes.Buffer
	l := open(t, eventlog.Config{Filter: func(*mtakit.Record) bool { panic("oops") }, Logger: slog.New(slog.NewTextHandler(&diag, nil))}, disk)
	l.Record(record(1))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Record(record(2))
	if n := len(records(t, disk, "/logs")); n != 1 {
		t.Errorf("%d records, want 1", n)
	}
	for _, want := range []string{"oops", "after the log was closed"} {
		if !strings.Contains(diag.String(), want) {
			t.Errorf("diagnostic log does not tell of %q: %s", want, diag.String())
		}
	}
}
