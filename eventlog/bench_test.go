package eventlog_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/internal/vfs"
)

// typical is a record of about 950 bytes.
func typical() *mtakit.Record {
	now := time.Now()
	return &mtakit.Record{
		Kind: mtakit.Delivered, ID: new(mtakit.IDSource).New(now), Sender: "bounce+48213@sender.example.com", To: []string{"user@recipient.example.com"},
		Queue: mtakit.QueueName{Campaign: "campaign", Tenant: "tenant", Domain: "recipient.example.com"},
		Site:  "source2->mx.recipient.example.com@smtp_client", Size: 1047,
		Response: mtakit.Response{Code: 250, Enhanced: [3]uint16{2, 0, 0}, Text: "OK ids=8a54", Command: "."},
		PeerName: "mx.recipient.example.com.", PeerAddr: netip.MustParseAddrPort("192.0.2.27:25"), Time: now, Created: now,
		Pool: "pool0", Source: "source2", SourceAddr: netip.MustParseAddrPort("10.0.0.1:53210"), DeliveryProtocol: "ESMTP",
		ReceptionProtocol: "HTTP", NodeID: "557f3ad4-2c8c-11ee-976e-782d7e12e173", TLSCipher: "TLS_AES_256_GCM_SHA384",
		TLSVersion: "TLSv1.3", TLSSubject: []string{"CN=mx.example"}, SessionID: "9bcd689e-23d9-41b7-a015-63a1382f8b57",
	}
}

// BenchmarkRecord is what the one who records pays; the writer runs beside it and is waited for as Pace says.
func BenchmarkRecord(b *testing.B) {
	l := openReal(b, b.TempDir())
	r := typical()
	b.ReportAllocs()
	for b.Loop() {
		l.Record(r)
		if err := l.Pace(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEndToEnd includes compression and the write to the file.
func BenchmarkEndToEnd(b *testing.B) {
	dir := b.TempDir()
	l := openReal(b, dir)
	r, ids := typical(), mtakit.IDSource{}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.Time = r.Time.Add(time.Millisecond)
		r.ID = ids.New(r.Time)
		l.Record(r)
		if n++; n%1000 == 0 {
			if err := l.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	var size int64
	for _, name := range segments(b, vfs.OS, dir) {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		size += st.Size()
	}
	b.ReportMetric(float64(size)/float64(n), "disk-B/op")
}

// BenchmarkFlush is one that records and waits, as a session does before a message leaves the spool.
func BenchmarkFlush(b *testing.B) {
	l := openReal(b, b.TempDir())
	r := typical()
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Record(r)
			if err := l.Flush(b.Context()); err != nil {
				b.Error(err)
			}
		}
	})
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkTailer(b *testing.B) {
	dir := b.TempDir()
	l := openReal(b, dir)
	for range b.N {
		l.Record(typical())
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	t := tail(b, eventlog.TailerConfig{Dir: dir})
	for n := 0; n < b.N; {
		batch, err := t.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		n += batch.Len()
	}
}
