package xfer_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/xfer"
)

func TestQueueName(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"http://10.0.0.2:8000":           "http://10.0.0.2:8000/.xfer.kumomta.internal",
		"http://10.0.0.2:8000/":          "http://10.0.0.2:8000/.xfer.kumomta.internal",
		"HTTPS://Node.Example:443/":      "https://node.example/.xfer.kumomta.internal",
		"http://node:80":                 "http://node/.xfer.kumomta.internal",
		"http://[2001:db8::1]:8000/some": "http://[2001:db8::1]:8000/some.xfer.kumomta.internal",
		"":                               "",
		"10.0.0.2:8000":                  "",
		"node":                           "",
		"ftp://node/":                    "",
		"http://":                        "",
		"http://user:secret@node/":       "",
		"http://node/?x":                 "",
		"http://node/#x":                 "",
		"http://node/a!b":                "",
		"http://node/a@b":                "",
		"http://node:port/":              "",
	} {
		q, err := xfer.QueueName(target)
		if want == "" {
			if !errors.Is(err, xfer.ErrBadTarget) {
				t.Errorf("%q is %v, %v", target, q, err)
			}
			continue
		}
		if err != nil || q.String() != want {
			t.Errorf("%q is %v, %v, want %s", target, q, err, want)
		}
		if again := mtakit.ParseQueueName(q.String()); again != q {
			t.Errorf("%v is read as %v", q, again)
		}
		m := &mtakit.Message{To: []string{"a@b.test"}}
		if err := xfer.Redirect(m, target); err != nil {
			t.Fatal(err)
		}
		if to, err := xfer.QueueName(xfer.Target(m)); err != nil || to != q {
			t.Errorf("the target of %v is %q, and that is %v, %v", q, xfer.Target(m), to, err)
		}
	}
}

// What Redirect has done Restore undoes, whatever nodes the message was sent to in between.
func TestRedirect(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		yes := func() bool { return rnd.IntN(2) == 0 }
		word := func() string { return strconv.FormatUint(rnd.Uint64N(1e6)+36, 36) }
		date := func() time.Time { return time.Unix(rnd.Int64N(1<<33)+1, 0).UTC() }
		m := &mtakit.Message{
			ID: (&mtakit.IDSource{}).New(time.Now()), Sender: "s@src.test", To: []string{"u@D.test"}, Tries: rnd.IntN(1000),
			Meta: map[string]any{"x_other": word()},
		}
		for _, key := range []string{"queue", "tenant", "campaign", "routing_domain"} {
			if yes() {
				m.Meta[key] = word()
			}
		}
		if yes() {
			m.Due = date()
		}
		if yes() {
			m.Schedule = &mtakit.Schedule{Expires: date()}
		}
		elsewhere := rnd.IntN(3)
		var err error
		switch elsewhere {
		case 0:
			m.Queue, err = m.DeriveQueue()
		case 1: // the application has chosen another
			m.Queue = mtakit.QueueName{Tenant: word(), Domain: "elsewhere.test"}
		}
		if err != nil {
			t.Fatal(err)
		}
		was := clone(t, m)
		for range 1 + rnd.IntN(3) {
			if err := xfer.Redirect(m, "http://"+word()); err != nil {
				t.Fatal(err)
			}
			if !m.Due.IsZero() || m.Tries != 0 || m.Schedule != nil || m.Meta["queue"] != m.Queue.String() || m.Meta["tenant"] != nil {
				t.Fatalf("after Redirect it is %+v", m)
			}
			m = clone(t, m) // as the spool does it
		}
		if err := xfer.Restore(m); err != nil {
			t.Fatal(err)
		}
		switch elsewhere {
		case 1:
			if m.Queue != was.Queue {
				t.Fatalf("the queue is %v, was %v", m.Queue, was.Queue)
			}
			m.Meta["queue"] = was.Meta["queue"] // it says what Queue does
			if m.Meta["queue"] == nil {
				delete(m.Meta, "queue")
			}
		case 2:
			was.Queue, _ = was.DeriveQueue()
		}
		if got, want := clone(t, m), clone(t, was); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: it is %+v, was %+v", seed, got, want)
		}
	}
}

// clone is a message as it is after it was stored.
func clone(t *testing.T, m *mtakit.Message) *mtakit.Message {
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var c mtakit.Message
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	c.Due = c.Due.UTC()
	return &c
}

func TestRestore(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		meta map[string]any
		to   string // "" is an error
	}{
		{"nothing kept", map[string]any{"queue": "http://x/.xfer.kumomta.internal", "tenant": "t"}, "t@d.test"},
		{"not on its way", map[string]any{"queue": "q"}, "q"},
		{"kept", map[string]any{"queue": "http://x/.xfer.kumomta.internal", "xfer_queue_info": map[string]any{"queue": "q", "num_attempts": 1.0, "new": "field"}}, "q"},
		{"no object", map[string]any{"queue": "http://x/.xfer.kumomta.internal", "xfer_queue_info": "x"}, ""},
		{"negative", map[string]any{"queue": "http://x/.xfer.kumomta.internal", "xfer_queue_info": map[string]any{"num_attempts": -1.0}}, ""},
		{"bad time", map[string]any{"queue": "http://x/.xfer.kumomta.internal", "xfer_queue_info": map[string]any{"due": "soon"}}, ""},
		{"bad schedule", map[string]any{"queue": "http://x/.xfer.kumomta.internal", "xfer_queue_info": map[string]any{"schedule": map[string]any{"tz": "UTC"}}}, ""},
	} {
		m := &mtakit.Message{To: []string{"u@d.test"}, Meta: test.meta}
		m.Queue, _ = m.DeriveQueue()
		was, keys := m.Queue, len(m.Meta)
		err := xfer.Restore(m)
		switch {
		case test.to == "" && (err == nil || m.Queue != was || len(m.Meta) != keys):
			t.Errorf("%s: %v, %+v", test.name, err, m)
		case test.to != "" && (err != nil || m.Queue.String() != test.to):
			t.Errorf("%s: %v, %v, want %s", test.name, m.Queue, err, test.to)
		}
	}
}
