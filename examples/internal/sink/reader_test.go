package sink

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"
)

// pieces is a connection whose bytes come in pieces.
type pieces struct {
	net.Conn
	r io.Reader
}

func (p pieces) Read(b []byte) (int, error)      { return p.r.Read(b) }
func (p pieces) SetReadDeadline(time.Time) error { return nil }

// FuzzBody compares with the plain way: what is before the first CRLF.CRLF, with the dots that begin a line taken out.
func FuzzBody(f *testing.F) {
	for _, s := range []string{".\r\n", "a\r\n.\r\nQUIT\r\n", "..\r\n...\r\n\r\n.\r\n", "a\n.\n\r\n.\r\n", "\r\r\n.\r\n", "x\r\n.\r.\r\n.\r\n", ".x"} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, slow bool) {
		wire := append([]byte("\r\n"), in...)
		end := bytes.Index(wire, []byte("\r\n.\r\n"))
		var r io.Reader = bytes.NewReader(in)
		if slow {
			r = iotest.OneByteReader(r)
		}
		b := &reader{nc: pieces{r: r}}
		var got []byte
		err := b.body(func(p []byte) { got = append(got, p...) })
		if end < 0 {
			if err == nil {
				t.Fatalf("%q ends", in)
			}
			return
		}
		want := bytes.ReplaceAll(wire[:end+2], []byte("\r\n."), []byte("\r\n"))[2:]
		rest, _ := io.ReadAll(r)
		rest = append(bytes.Clone(b.buf[b.r:b.w]), rest...)
		if err != nil || !bytes.Equal(got, want) || !bytes.Equal(rest, wire[end+5:]) {
			t.Fatalf("%q is read as %q, want %q, and leaves %q, %v", in, got, want, rest, err)
		}
	})
}

func BenchmarkBody(b *testing.B) {
	msg := append(bytes.Repeat([]byte("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod.\r\n"), 1400), ".\r\n"...)
	r := bytes.NewReader(nil)
	rd := &reader{nc: pieces{r: r}}
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(msg)
		if err := rd.body(func([]byte) {}); err != nil {
			b.Fatal(err)
		}
	}
}
