package mtakit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

// delivery is the record of the reference's example, and golden how it is written there.
func delivery(t testing.TB) *mtakit.Record {
	id, err := mtakit.ParseID("1d98076abbbc11ed940250ebf67f93bd")
	if err != nil {
		t.Fatal(err)
	}
	return &mtakit.Record{
		Kind: mtakit.Delivered, ID: id, Sender: "user@sender.example.com", To: []string{"user@recipient.example.com"},
		Queue: mtakit.ParseQueueName("campaign:tenant@recipient.example.com"), Site: "source2->mx.recipient.example.com@smtp_client", Size: 1047,
		Response: mtakit.Response{Code: 250, Enhanced: [3]uint16{2, 0, 0}, Text: "OK ids=8a54", Command: "."},
		PeerName: "mx.recipient.example.com.", PeerAddr: netip.MustParseAddrPort("192.0.2.27:0"),
		Time:    time.Date(2025, 9, 12, 11, 8, 1, 440526026, time.UTC),
		Created: time.Date(2025, 9, 12, 13, 8, 0, 912345000, time.FixedZone("", 7200)),
		Pool:    "pool0", Source: "source2", SourceAddr: netip.MustParseAddrPort("10.0.0.1:53210"), Headers: map[string]any{"Subject": "hello"},
		DeliveryProtocol: "ESMTP", ReceptionProtocol: "HTTP", NodeID: "557f3ad4-2c8c-11ee-976e-782d7e12e173",
		TLSCipher: "TLS_AES_256_GCM_SHA384", TLSVersion: "TLSv1.3", TLSSubject: []string{"CN=mx.example"},
		SessionID: "9bcd689e-23d9-41b7-a015-63a1382f8b57",
	}
}

const golden = `{"type":"Delivery","id":"1d98076abbbc11ed940250ebf67f93bd","sender":"user@sender.example.com",
 "recipient":"user@recipient.example.com","queue":"campaign:tenant@recipient.example.com",
 "site":"source2->mx.recipient.example.com@smtp_client","size":1047,
 "response":{"code":250,"enhanced_code":{"class":2,"subject":0,"detail":0},"content":"OK ids=8a54","command":".\r\n"},
 "peer_address":{"name":"mx.recipient.example.com.","addr":"192.0.2.27"},
 "timestamp":1757675281,"event_time":"2025-09-12T11:08:01.440526026Z",
 "created":1757675280,"created_time":"2025-09-12T11:08:00.912345Z","num_attempts":0,
 "bounce_classification":"Uncategorized","egress_pool":"pool0","egress_source":"source2",
 "source_address":{"address":"10.0.0.1:53210"},"feedback_report":null,"meta":{},"headers":{"Subject":"hello"},
 "delivery_protocol":"ESMTP","reception_protocol":"HTTP","nodeid":"557f3ad4-2c8c-11ee-976e-782d7e12e173",
 "tls_cipher":"TLS_AES_256_GCM_SHA384","tls_protocol_version":"TLSv1.3","tls_peer_subject_name":["CN=mx.example"],
 "session_id":"9bcd689e-23d9-41b7-a015-63a1382f8b57"}`

func TestRecordGolden(t *testing.T) {
	t.Parallel()
	want := strings.ReplaceAll(golden, "\n ", "")
	if got := string(delivery(t).AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// records are such that every field has a value in one and none in another.
func records(t testing.TB) map[string]*mtakit.Record {
	full := delivery(t)
	full.Kind = mtakit.Feedback
	full.To = []string{"a@b", `"q\"q"@c`, "ü@example"}
	full.Queue.Routing = "routing.example"
	full.Queue.Tenant = "quote\" back\\ tab\t nul\x00 del\x7f line\u2028 <html>&"
	full.PeerSecure = true
	full.PeerAddr = netip.MustParseAddrPort("[2001:db8::1]:25")
	full.ProxyServer, full.ProxyProtocol = netip.MustParseAddrPort("[::1]:1080"), "socks5"
	full.Provider, full.Stream, full.Seq, full.Tries, full.Class = "gmail", "node-1", 1<<63, 7, "InvalidRecipient"
	full.Meta = map[string]any{"z": "s", "a": 1.5, "m": []any{"x", nil, true}, "o": map[string]any{"k": "v"}}
	full.Headers = map[string]any{"Subject": "ünï", "Received": []any{"one", "two"}}
	full.FeedbackReport = map[string]any{"feedback_type": "abuse"}
	full.Response.Text = "first\r\nsecond\nthird\rfourth"
	full.TLSSubject = nil
	return map[string]*mtakit.Record{
		"reference": delivery(t),
		"empty":     {},
		"full":      full,
		"rejection": {Kind: mtakit.Rejection, PeerAddr: netip.MustParseAddrPort("192.0.2.1:4711"), Response: mtakit.Response{Code: 550, Text: "no"}},
		"no such port": {Kind: mtakit.Delivered, To: []string{"a@b"}, SourceAddr: netip.MustParseAddrPort("10.0.0.1:0"), PeerName: "mx",
			Time: time.Unix(1, 5e6), Created: time.Unix(-1, 0)},
	}
}

// reference is a record as encoding/json writes it from a struct with the same keys.
type reference struct {
	Type      string           `json:"type"`
	ID        string           `json:"id"`
	Sender    string           `json:"sender"`
	Recipient any              `json:"recipient"`
	Queue     string           `json:"queue"`
	Site      string           `json:"site"`
	Size      int64            `json:"size"`
	Response  mtakit.Response  `json:"response"`
	Peer      *referencePeer   `json:"peer_address"`
	Timestamp int64            `json:"timestamp"`
	EventTime time.Time        `json:"event_time"`
	Created   int64            `json:"created"`
	CreatedAt time.Time        `json:"created_time"`
	Tries     int              `json:"num_attempts"`
	Class     string           `json:"bounce_classification"`
	Pool      *string          `json:"egress_pool"`
	Source    *string          `json:"egress_source"`
	Address   *referenceSource `json:"source_address"`
	Feedback  any              `json:"feedback_report"`
	Meta      map[string]any   `json:"meta"`
	Headers   map[string]any   `json:"headers"`
	Delivery  *string          `json:"delivery_protocol"`
	Reception *string          `json:"reception_protocol"`
	Node      string           `json:"nodeid"`
	Cipher    *string          `json:"tls_cipher,omitempty"`
	TLS       *string          `json:"tls_protocol_version,omitempty"`
	Subject   *[]string        `json:"tls_peer_subject_name,omitempty"`
	Provider  string           `json:"provider_name,omitempty"`
	Session   string           `json:"session_id,omitempty"`
	Stream    string           `json:"stream,omitempty"`
	Seq       uint64           `json:"seq,omitempty"`
}

type referencePeer struct {
	Name   string `json:"name"`
	Addr   string `json:"addr"`
	Secure bool   `json:"is_secure,omitempty"`
}

type referenceSource struct {
	Address  string `json:"address"`
	Server   string `json:"server,omitempty"`
	Protocol string `json:"protocol,omitempty"`
}

func marshalReference(t testing.TB, r *mtakit.Record) []byte {
	t.Helper()
	opt := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	object := func(m map[string]any) map[string]any {
		if m == nil {
			return map[string]any{}
		}
		return m
	}
	ref := reference{
		Type: string(r.Kind), Sender: r.Sender, Recipient: r.To, Queue: r.Queue.String(), Site: r.Site, Size: r.Size, Response: r.Response,
		Timestamp: r.Time.Unix(), EventTime: r.Time.UTC(), Created: r.Created.Unix(), CreatedAt: r.Created.UTC(), Tries: r.Tries,
		Class: string(r.Class), Pool: opt(r.Pool), Source: opt(r.Source), Feedback: r.FeedbackReport, Meta: object(r.Meta), Headers: object(r.Headers),
		Delivery: opt(r.DeliveryProtocol), Reception: opt(r.ReceptionProtocol), Node: r.NodeID, Provider: r.Provider, Session: r.SessionID,
	}
	if id, _ := r.ID.MarshalText(); id != nil {
		ref.ID = string(id)
	}
	switch len(r.To) {
	case 0:
		ref.Recipient = ""
	case 1:
		ref.Recipient = r.To[0]
	}
	if r.Class == "" {
		ref.Class = "Uncategorized"
	}
	if r.PeerAddr.IsValid() || r.PeerName != "" {
		ref.Peer = &referencePeer{Name: r.PeerName, Secure: r.PeerSecure}
		if a := r.PeerAddr; a.IsValid() && a.Port() == 0 {
			ref.Peer.Addr = a.Addr().String()
		} else if a.IsValid() {
			ref.Peer.Addr = a.String()
		}
	}
	if r.SourceAddr.IsValid() {
		ref.Address = &referenceSource{Address: r.SourceAddr.String(), Protocol: r.ProxyProtocol}
		if r.ProxyServer.IsValid() {
			ref.Address.Server = r.ProxyServer.String()
		}
	}
	if r.TLSVersion != "" {
		subject := append([]string{}, r.TLSSubject...)
		ref.Cipher, ref.TLS, ref.Subject = &r.TLSCipher, &r.TLSVersion, &subject
	}
	if r.Stream != "" {
		ref.Stream, ref.Seq = r.Stream, r.Seq
	}
	b, err := json.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sameJSON says whether a and b have the same keys in the same order and the same values, however they are escaped.
func sameJSON(a, b []byte) bool {
	da, db := json.NewDecoder(bytes.NewReader(a)), json.NewDecoder(bytes.NewReader(b))
	da.UseNumber()
	db.UseNumber()
	for {
		ta, erra := da.Token()
		tb, errb := db.Token()
		if erra != nil || errb != nil {
			return errors.Is(erra, errb)
		}
		if sa, ok := ta.(string); ok && ta != tb {
			// Only times may differ: encoding/json writes as few digits as it can.
			sb, _ := tb.(string)
			x, err1 := time.Parse(time.RFC3339Nano, sa)
			y, err2 := time.Parse(time.RFC3339Nano, sb)
			if err1 != nil || err2 != nil || !x.Equal(y) {
				return false
			}
		} else if ta != tb {
			return false
		}
	}
}

func TestRecordJSON(t *testing.T) {
	t.Parallel()
	for name, r := range records(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := r.AppendJSON(nil)
			if want := marshalReference(t, r); !sameJSON(got, want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			var again mtakit.Record
			if err := json.Unmarshal(got, &again); err != nil {
				t.Fatal(err)
			}
			if b := again.AppendJSON(nil); !bytes.Equal(b, got) {
				t.Errorf("it is read and written again as\n%s, was\n%s", b, got)
			}
			want := *r
			want.Time, want.Created = r.Time.UTC(), r.Created.UTC()
			want.Response.Text = string(mtakit.AppendOneLine(nil, r.Response.Text))
			if want.Class == "" {
				want.Class = mtakit.Uncategorized
			}
			for _, m := range []*map[string]any{&want.Meta, &want.Headers} {
				if *m == nil {
					*m = map[string]any{}
				}
			}
			if want.TLSVersion != "" && want.TLSSubject == nil {
				want.TLSSubject = []string{}
			}
			if !reflect.DeepEqual(again, want) {
				t.Errorf("it is read as\n%+v, was\n%+v", again, want)
			}
		})
	}
}

func TestRecordFromOthers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, in string
		check    func(r *mtakit.Record) bool
	}{
		{"before 2025.10.06", `{"type":"Bounce","id":"1d98076abbbc11ed940250ebf67f93bd","recipient":"a@b","timestamp":1757675281,"created":1757675280,"new_key":[1]}`,
			func(r *mtakit.Record) bool { return r.Time.Unix() == 1757675281 && r.Created.Unix() == 1757675280 }},
		{"a list with one recipient", `{"recipient":["a@b"]}`, func(r *mtakit.Record) bool { return len(r.To) == 1 && r.To[0] == "a@b" }},
		{"the null recipient", `{"recipient":""}`, func(r *mtakit.Record) bool { return r.To == nil }},
		{"a command without CRLF", `{"response":{"code":1,"command":"RSET"}}`, func(r *mtakit.Record) bool { return r.Response.Command == "RSET" }},
		{"a Unix socket", `{"peer_address":{"name":"x","addr":"/run/x.sock"}}`, func(r *mtakit.Record) bool { return r.PeerName == "x" && !r.PeerAddr.IsValid() }},
		{"a hyphenated id", `{"id":"1d98076a-bbbc-11ed-9402-50ebf67f93bd"}`, func(r *mtakit.Record) bool { return !r.ID.IsZero() }},
		{"nulls", `{"response":null,"peer_address":null,"meta":null,"recipient":null}`, func(r *mtakit.Record) bool { return r.Meta == nil && r.To == nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var r mtakit.Record
			if err := json.Unmarshal([]byte(test.in), &r); err != nil || !test.check(&r) {
				t.Errorf("read as %+v, %v", r, err)
			}
		})
	}
	for _, in := range []string{`[]`, `{"recipient":7}`, `{"recipient":[7]}`, `{"id":"x"}`, `{"timestamp":"x"}`, `{"source_address":{"address":"x"}}`} {
		if err := json.Unmarshal([]byte(in), new(mtakit.Record)); err == nil {
			t.Errorf("%s is read", in)
		}
	}
}

// FuzzRecordJSON puts any text into every place and compares with encoding/json.
func FuzzRecordJSON(f *testing.F) {
	f.Add("plain", "a\r\nb", "ü\x00\x1f\u2028", int64(1757675281440526026))
	f.Add("\xff\xfe", "\"\\/<>&\x7f", "\U0001F600\xf0\x9f", int64(0))
	f.Fuzz(func(t *testing.T, a, b, c string, ns int64) {
		r := &mtakit.Record{
			Kind: mtakit.Kind(a), Sender: b, To: []string{a, c}, Queue: mtakit.QueueName{Campaign: a, Tenant: b, Domain: c, Routing: a}, Site: c,
			Response: mtakit.Response{Code: 250, Text: b, Command: c}, PeerName: a, Time: time.Unix(0, ns), Created: time.Unix(ns%1e9, 0), Class: mtakit.Class(c),
			Pool: a, Source: b, Meta: map[string]any{a: b, c: a}, Headers: map[string]any{b: []string{c}}, NodeID: c, TLSVersion: a, TLSCipher: b,
			TLSSubject: []string{c}, Provider: b, SessionID: a, Stream: c, Seq: uint64(ns),
		}
		if strings.ToValidUTF8(a, "") != a || strings.ToValidUTF8(b, "") != b || strings.ToValidUTF8(c, "") != c {
			r.Meta = nil // two keys may become one
		}
		got := r.AppendJSON([]byte(" "))
		if want := marshalReference(t, r); r.Seq != 0 && !sameJSON(got, want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		var again mtakit.Record
		if err := json.Unmarshal(got, &again); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		if !again.Time.Equal(r.Time) {
			t.Fatalf("the time %v became %v", r.Time, again.Time)
		}
	})
}

func TestAppendTimestamp(t *testing.T) {
	t.Parallel()
	for ns, want := range map[int]string{
		0: "2026-01-02T03:04:05Z", 120_000_000: "2026-01-02T03:04:05.120Z", 120_000: "2026-01-02T03:04:05.000120Z", 1: "2026-01-02T03:04:05.000000001Z",
	} {
		at := time.Date(2026, 1, 2, 5, 4, 5, ns, time.FixedZone("", 7200))
		if got := string(mtakit.AppendTimestamp([]byte("<"), at)); got != "<"+want {
			t.Errorf("got %s, want <%s", got, want)
		}
	}
}

func TestRecordAllocs(t *testing.T) {
	r := delivery(t)
	buf := r.AppendJSON(nil)
	if n := testing.AllocsPerRun(100, func() { buf = r.AppendJSON(buf[:0]) }); n != 0 {
		t.Errorf("AppendJSON allocates %v times, want 0", n)
	}
}

// pacing is a Recorder with every optional method.
type pacing struct {
	n    *int
	err  error
	body bool
}

func (p pacing) Record(*mtakit.Record)      { *p.n++ }
func (p pacing) Pace(context.Context) error { return p.err }
func (p pacing) WantsBody() bool            { return p.body }

func TestTee(t *testing.T) {
	t.Parallel()
	n := 0
	count := mtakit.RecorderFunc(func(*mtakit.Record) { n++ })
	tee := mtakit.Tee{count, pacing{n: &n}, count}
	tee.Record(&mtakit.Record{})
	if n != 3 {
		t.Errorf("%d recorders were given the record, want 3", n)
	}
	if err := tee.Pace(t.Context()); err != nil || tee.WantsBody() {
		t.Errorf("Pace = %v, WantsBody = %v", err, tee.WantsBody())
	}
	full := errors.New("full")
	tee = append(tee, pacing{n: &n, err: full, body: true})
	if err := tee.Pace(t.Context()); !errors.Is(err, full) || !tee.WantsBody() {
		t.Errorf("Pace = %v, WantsBody = %v", err, tee.WantsBody())
	}
}

func BenchmarkRecordAppendJSON(b *testing.B) {
	r := delivery(b)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = r.AppendJSON(buf[:0])
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkRecordUnmarshalJSON(b *testing.B) {
	buf := delivery(b).AppendJSON(nil)
	b.ReportAllocs()
	for b.Loop() {
		var r mtakit.Record
		if err := json.Unmarshal(buf, &r); err != nil {
			b.Fatal(err)
		}
	}
}
