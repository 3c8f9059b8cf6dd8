package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

// Messages that wait on one node are moved to another, and first the one and then the other is killed meanwhile: nothing is lost, and what is repeated is what
// was in flight to the destination or was being taken over at the first moment. Age and tries come along.
func TestTransferWhileKilled(t *testing.T) {
	t.Parallel()
	deferring, dest := newMX(t, ""), newMX(t, "")
	deferring.deferring.Store(true)
	dirA, dirB := t.TempDir(), t.TempDir()
	argsA := soon(t, "--data", dirA, "--relay-to", deferring.addr())
	argsB := []string{"--data", dirB, "--relay-to", dest.addr()}
	a, b := start(t, nil, argsA...), start(t, nil, argsB...)
	argsB = append(argsB, "--http", b.http) // where it is found again

	var l load
	l.upTo(t, a.smtp, 3000, 10)
	order := `{"reason":"emptied","target":"http://` + b.http + `"}`
	// What a session has in hand when the order comes goes on, so it is repeated.
	until := func(n int) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); dest.count() < n; {
			a.want("POST", "/api/admin/xfer/v1", order)
			if <-time.After(50 * time.Millisecond); time.Now().After(end) {
				t.Fatalf("%d of %d messages have arrived", dest.count(), l.count())
			}
		}
	}
	until(300)
	b.kill()
	inFlight := dest.most() + 32
	b = start(t, nil, argsB...)
	until(1000)
	a.kill()
	a = start(t, nil, argsA...)
	until(l.count())
	a.drained(2 * time.Minute)
	b.drained(time.Minute)
	a.stop()
	b.stop()
	l.compare(t, dest, inFlight)

	created, out, in := map[int]time.Time{}, map[int]int{}, map[int]int{}
	eachRecord(t, filepath.Join(dirA, "logs"), func(r *mtakit.Record) {
		switch r.Kind {
		case mtakit.Reception:
			created[number(r.To[0])] = r.Created
		case mtakit.XferOut:
			out[number(r.To[0])]++
			if !strings.HasPrefix(r.Response.Text, "new id is ") || r.DeliveryProtocol != "xfer" {
				t.Errorf("record %s", r.AppendJSON(nil))
			}
		}
	})
	tried := 0
	eachRecord(t, filepath.Join(dirB, "logs"), func(r *mtakit.Record) {
		switch r.Kind {
		case mtakit.XferIn:
			id := number(r.To[0])
			in[id]++
			tried += min(r.Tries, 1)
			if d := r.Created.Sub(created[id]); d > time.Microsecond || d < -time.Microsecond {
				t.Errorf("message %d is %v younger than it was", id, d)
			}
		case mtakit.Reception:
			t.Errorf("record %s", r.AppendJSON(nil))
		}
	})
	repeated := 0
	for id := range l.acked {
		if out[id] == 0 || in[id] == 0 {
			t.Errorf("message %d has %d records XferOut and %d XferIn", id, out[id], in[id])
		}
		repeated += max(0, in[id]-1)
	}
	if repeated > 32 { // what was being taken over when the node was killed
		t.Errorf("%d messages were taken over more than once", repeated)
	}
	if tried < len(l.acked)/2 {
		t.Errorf("%d of %d messages had been tried before", tried, len(l.acked))
	}
	t.Logf("%d messages, %d taken over more than once, %d tried before", len(l.acked), repeated, tried)
}

// A transfer to a node that is not there is cancelled, and the mail goes out from where it is.
func TestTransferCancelled(t *testing.T) {
	t.Parallel()
	dest := newMX(t, "")
	dest.deferring.Store(true)
	d := start(t, nil, soon(t, "--data", t.TempDir(), "--relay-to", dest.addr())...)
	var l load
	l.upTo(t, d.smtp, 200, 4)
	const queue = "http://127.0.0.1:1/.xfer.kumomta.internal"
	moved := func() bool {
		_, text := d.get("/metrics")
		return strings.Contains(text, `scheduled_count{queue="`+queue+`"}`)
	}
	for end := time.Now().Add(time.Minute); !moved(); {
		d.want("POST", "/api/admin/xfer/v1", `{"reason":"emptied","target":"http://127.0.0.1:1"}`)
		if <-time.After(20 * time.Millisecond); time.Now().After(end) {
			t.Fatal("nothing is moved")
		}
	}
	dest.deferring.Store(false)
	for end := time.Now().Add(time.Minute); dest.count() < l.count(); {
		d.ask("POST", "/api/admin/xfer/cancel/v1", `{"reason":"it is down","queue_name":"`+queue+`"}`, "")
		if <-time.After(100 * time.Millisecond); time.Now().After(end) {
			t.Fatalf("%d of %d messages have arrived", dest.count(), l.count())
		}
	}
	d.drained(time.Minute)
	d.stop()
	l.compare(t, dest, 0)
}

// BenchmarkTransfer is how fast a node is emptied into another one, durable.
func BenchmarkTransfer(b *testing.B) {
	const n = 20_000
	b.ReportAllocs()
	for range b.N {
		dest := newMX(b, "")
		dest.deferring.Store(true)
		from, to := start(b, nil, "--data", b.TempDir(), "--relay-to", dest.addr()), start(b, nil, "--data", b.TempDir(), "--relay-to", dest.addr())
		var l load
		l.upTo(b, from.smtp, n, 20)
		for end := time.Now().Add(time.Minute); dest.deferred.Load() < int64(l.count()); {
			if <-time.After(10 * time.Millisecond); time.Now().After(end) {
				b.Fatalf("%d of %d messages were tried", dest.deferred.Load(), l.count())
			}
		}
		began := time.Now()
		from.want("POST", "/api/admin/xfer/v1", `{"reason":"emptied","target":"http://`+to.http+`"}`)
		from.drained(2 * time.Minute)
		b.ReportMetric(float64(l.count())/time.Since(began).Seconds(), "messages/s")
		from.stop()
		to.stop()
	}
}
