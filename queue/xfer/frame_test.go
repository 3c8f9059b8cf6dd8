package xfer

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

// What is sent is read as it was, and what is read is what would be sent.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{
		`{"id":"0196f4b2a5e07abc8123456789abcdef","sender":"a@b","recipient":["c@d","e@f"],"meta":{"queue":"q","x":[1,null,{"y":"z"}]}}` + "\nSubject: x\r\n\r\ny\n",
		`{"id":"0196f4b2-a5e0-7abc-8123-456789abcdef","sender":"","recipient":"c@d","meta":null}` + "\n",
		`{"id":"0196f4b2a5e01abc8123456789abcdef","recipient":["c@d"],"more":1}` + "\n\n",
		`{"id":"0196f4b2a5e04abc8123456789abcdef","recipient":["c@d"]}` + "\n",
		`{"id":"0196f4b2a5e07abc8123456789abcdef","recipient":["c@d\r\nDATA"]}` + "\n",
		`{"id":"0196f4b2a5e07abc8123456789abcdef","recipient":[]}` + "\n",
		`{"id":"0196f4b2a5e07abc8123456789abcdef","recipient":["c@d"]} x` + "\n",
		`null` + "\n", "", "\n", "{}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, body, err := split(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%v is not ErrMalformed", err)
			}
			return
		}
		if e.ID.Time().IsZero() || len(e.To) == 0 || !bytes.HasSuffix(b, body) {
			t.Fatalf("accepted: %+v", e)
		}
		for _, a := range append([]string{e.Sender}, e.To...) {
			if strings.ContainsAny(a, "\r\n\x00") {
				t.Fatalf("address %q", a)
			}
		}
		m := &mtakit.Message{ID: e.ID, Sender: e.Sender, To: e.To, Meta: e.Meta}
		line, err := appendEnvelope(nil, m, "node")
		if err != nil {
			t.Fatal(err)
		}
		again, body2, err := split(append(line, body...))
		if err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if again.Meta[MetaPriorID] != e.ID.String() || again.Meta[MetaPriorNode] != "node" {
			t.Fatalf("metadata are %v", again.Meta)
		}
		want := map[string]any{MetaPriorID: e.ID.String(), MetaPriorNode: "node"}
		for k, v := range e.Meta {
			if _, ok := want[k]; !ok {
				want[k] = v
			}
		}
		e.Meta = want
		if !reflect.DeepEqual(again, e) || !bytes.Equal(body, body2) {
			t.Fatalf("%+v is read as %+v", e, again)
		}
	})
}

// Numbers of 64 bits arrive as they were sent.
func TestSplitNumbers(t *testing.T) {
	t.Parallel()
	e, _, err := split([]byte(`{"id":"0196f4b2a5e07abc8123456789abcdef","sender":"","recipient":"c@d","meta":{"n":1234567890123456789,"x":[18446744073709551615,7]}}` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	line, err := appendEnvelope(nil, &mtakit.Message{ID: e.ID, To: e.To, Meta: e.Meta}, "node")
	if err != nil || !bytes.Contains(line, []byte(`"n":1234567890123456789,"x":[18446744073709551615,7],`)) {
		t.Errorf("%s, %v", line, err)
	}
}

// What is too much, or would be more than an address, is refused.
func TestSplitLimits(t *testing.T) {
	t.Parallel()
	envelope := func(to, more string) string {
		return `{"id":"0196f4b2a5e07abc8123456789abcdef","sender":"a@b","recipient":[` + to + `]` + more + "}\n"
	}
	many := func(n int) string { return strings.TrimSuffix(strings.Repeat(`"c@d",`, n), ",") }
	for _, c := range []struct{ name, payload, want string }{
		{"as many recipients as there may be", envelope(many(rcptsMax), ""), ""},
		{"too many recipients", envelope(many(rcptsMax+1), ""), "100001 recipients"},
		{"a long envelope", envelope(many(1), `,"meta":{"x":"`+strings.Repeat("x", envelopeMax-200)+`"}`), ""},
		{"too long an envelope", envelope(many(1), `,"meta":{"x":"`+strings.Repeat("x", envelopeMax)+`"}`), "the envelope is longer than 4194304 bytes"},
		{"a control character", envelope(`"c\u007f@d"`, ""), "is no address"},
		{"a line end in the sender", strings.Replace(envelope(many(1), ""), "a@b", `a@b\r\n`, 1), "is no address"},
	} {
		_, _, err := split([]byte(c.payload))
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// The id is the same for the same message, another one otherwise, and carries the time.
func TestLocalID(t *testing.T) {
	t.Parallel()
	a, b := &Node{cfg: Config{NodeID: "a"}}, &Node{cfg: Config{NodeID: "b"}}
	now := time.Date(2026, 1, 2, 3, 4, 5, 123_000_000, time.UTC)
	id := (&mtakit.IDSource{}).New(now)
	v1, err := mtakit.ParseID("d7ef7d2ac95e11f0b3ba00163e4a7f62") // as KumoMTA makes them
	if err != nil {
		t.Fatal(err)
	}
	seen := map[mtakit.ID]string{id: "itself", v1: "itself"}
	for name, got := range map[string]mtakit.ID{
		"a": a.localID(id, "x"), "another sender": a.localID(id, "y"), "another node": b.localID(id, "x"), "version 1": a.localID(v1, "x"),
	} {
		if other := seen[got]; other != "" {
			t.Errorf("%s and %s are the same", name, other)
		}
		seen[got] = name
		prior := id
		if name == "version 1" {
			prior = v1
		}
		if d := got.Time().Sub(prior.Time()); d > time.Microsecond || d < -time.Microsecond || got[6]>>4 != 7 || got[8]>>6 != 2 {
			t.Errorf("%s: %v is %v later", name, got, d)
		}
	}
	if got := a.localID(id, "x"); seen[got] != "a" {
		t.Errorf("the same message is %v the second time", got)
	}
}
