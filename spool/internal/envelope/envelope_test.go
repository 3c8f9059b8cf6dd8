package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

func full() *mtakit.Message {
	return &mtakit.Message{
		Sender: "a@example.com", To: []string{"b@example.org", "c@example.net"},
		Queue: mtakit.QueueName{Campaign: "c", Tenant: "t", Domain: "d", Routing: "r"},
		Meta: map[string]any{"s": "x", "n": 1.5, "t": true, "f": false, "z": nil, "l": []string{"a", ""}, "j": []any{1.0, "x"},
			"o": map[string]any{"k": nil}, "": "\xff\x00"},
		Schedule: &mtakit.Schedule{First: time.Unix(1, 0).UTC(), Expires: time.Unix(2, 0).UTC()},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]*mtakit.Message{"full": full(), "empty": {}, "one recipient": {To: []string{"x"}}} {
		b, err := Append([]byte("before"), m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b = b[len("before"):]
		got := &mtakit.Message{Sender: "stale", To: []string{"stale"}, Meta: map[string]any{"stale": 1}, Schedule: new(mtakit.Schedule)}
		if err := Parse(b, got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("%s: got %+v\nwant %+v", name, got, m)
		}
		key, err := CutQueue(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if q, err := ParseQueue(key); q != m.Queue || err != nil {
			t.Errorf("%s: queue %v, %v", name, q, err)
		}
		for n := range b {
			if err := Parse(b[:n], got); !errors.Is(err, ErrBad) {
				t.Errorf("%s: cut to %d of %d bytes: %v, want ErrBad", name, n, len(b), err)
			}
		}
	}
}

func TestOtherTypesBecomeJSON(t *testing.T) {
	t.Parallel()
	m := &mtakit.Message{Meta: map[string]any{"int": 7, "struct": struct{ A string }{"x"}, "raw": json.RawMessage(`[1]`)}}
	b, err := Append(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := Parse(b, m); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"int": 7.0, "struct": map[string]any{"A": "x"}, "raw": []any{1.0}}
	if !reflect.DeepEqual(m.Meta, want) {
		t.Errorf("got %v, want %v", m.Meta, want)
	}
	for _, bad := range []any{func() {}, make(chan int), nan()} {
		if _, err := Append(nil, &mtakit.Message{Meta: map[string]any{"bad": bad}}); err == nil {
			t.Errorf("%T has a stored form", bad)
		}
	}
}

func nan() float64 { var z float64; return z / z }

func TestAllocations(t *testing.T) {
	m := full()
	m.Schedule, m.Meta = nil, map[string]any{"a": "x", "b": "y", "l": []string{"z"}, "n": 1.0}
	b := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { b, _ = Append(b[:0], m) }); n != 0 {
		t.Errorf("Append allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = CutQueue(b) }); n != 0 {
		t.Errorf("CutQueue allocates %v times", n)
	}
}

// What parses is written again as an envelope that parses to the same.
func FuzzParse(f *testing.F) {
	for _, m := range []*mtakit.Message{full(), {}} {
		b, err := Append(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again mtakit.Message
		if Parse(b, &m) != nil {
			return
		}
		c, err := Append(nil, &m)
		if err != nil {
			if m.Schedule != nil {
				return // a zone or time that can be read and not written
			}
			t.Fatal(err)
		}
		if err := Parse(c, &again); err != nil {
			t.Fatal(err)
		}
		d, err := Append(nil, &again)
		if err != nil || !bytes.Equal(c, d) {
			t.Fatalf("written as %q, then as %q: %v", c, d, err)
		}
	})
}
