package smtpserver

import (
	"bytes"
	"strings"
	"testing"
)

// naive reads data one byte after the other, as RFC 5321, 4.1.1.4 and 4.5.2 describe it. end is -1 where data does not end.
func naive(data []byte, limit int) (content []byte, end int, long, bare bool) {
	atStart, length := true, 0 // of a line
	for i := 0; i < len(data); i++ {
		c := data[i]
		if atStart && c == '.' {
			if bytes.HasPrefix(data[i:], []byte(".\r\n")) {
				return content, i + 3, long, bare
			}
			atStart = false
			continue
		}
		atStart = false
		content = append(content, c)
		switch {
		case c == '\r' && i+1 < len(data) && data[i+1] == '\n':
			content = append(content, '\n')
			i++
			atStart = true
			long = long || length > limit
			length = 0
		case c == '\n':
			bare = true
			long = long || length > limit
			length = 0
		case c == '\r':
			bare = true
			length++
		default:
			length++
		}
	}
	return content, -1, false, false
}

// scanChunks scans data as it arrives in pieces of the sizes given, over and over.
func scanChunks(data []byte, sizes []byte, limit int) (content []byte, end int, long, bare bool) {
	s := newScanner(limit)
	b := make([]byte, 0, len(data))
	for i := 0; len(b) < len(data); i++ {
		n := 1
		if len(sizes) > 0 {
			n = 1 + int(sizes[i%len(sizes)])
		}
		before := len(b)
		b = append(b, data[before:min(len(data), before+n)]...)
		if end := s.scan(b); end >= 0 {
			return b[:s.w], end, s.long, s.bare
		}
	}
	return nil, -1, false, false
}

func FuzzScanner(f *testing.F) {
	for _, s := range []string{
		".\r\n", "a\r\n.\r\n", "a\r\n..\r\n.\r\nQUIT\r\n", "a\n.\n.\r\n\r\n.\r\n", "\r\n.\r\r\n.\r\n", "\r\n\r\n.\r\n", "..a\r\n.b\r\n...\r\n.\r\n",
		"\r\r\n.\r\n", ".\n\r\n.\r\n", strings.Repeat("x", 20) + "\r\n.\r\n", ".\r", "\n.\r\n", "\r\n.\n\r\n.\r\n", "\r.\r\n.\r\n", ".\r.\r\n\r\n.\r\n",
	} {
		f.Add([]byte(s), []byte{0})
		f.Add([]byte(s), []byte{200})
		f.Add([]byte(s), []byte{2, 0, 1})
	}
	f.Fuzz(func(t *testing.T, data, sizes []byte) {
		const limit = 10
		want, wantEnd, wantLong, wantBare := naive(data, limit)
		got, end, long, bare := scanChunks(data, sizes, limit)
		if end != wantEnd {
			t.Fatalf("%q ends at %d, want %d", data, end, wantEnd)
		}
		if end >= 0 && (!bytes.Equal(got, want) || long != wantLong || bare != wantBare) {
			t.Errorf("%q: content %q, long %t, bare %t\nwant %q, %t, %t", data, got, long, bare, want, wantLong, wantBare)
		}
	})
}

// Data that is discarded ends where it would have ended if it had been kept, wherever the discarding begins.
func FuzzDiscard(f *testing.F) {
	f.Add([]byte("ab\r\n.\r\nQUIT\r\n"), uint8(3))
	f.Add([]byte("ab\n.\r\n\r\n.\r\n"), uint8(5))
	f.Add([]byte(".a\r\n..\r\n.\r\n"), uint8(6))
	f.Fuzz(func(t *testing.T, data []byte, at uint8) {
		_, want, _, _ := naive(data, 1000)
		kept := min(len(data), int(at))
		s := newScanner(1000)
		b := bytes.Clone(data[:kept])
		if end := s.scan(b); end >= 0 {
			return
		}
		tail := s.tail(b)
		got := bytes.Index(append(tail, data[kept:]...), endOfData)
		if got >= 0 {
			got += kept - len(tail) + len(endOfData)
		}
		if got != want {
			t.Errorf("%q discarded from %d on (tail %q) ends at %d, want %d", data, kept, tail, got, want)
		}
	})
}

func FuzzFixLines(f *testing.F) {
	f.Add([]byte("a\rb\nc\r\nd\r\r\n\n\n\r"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := fixLines(nil, b)
		if n := bytes.Count(got, []byte("\r\n")); bytes.Count(got, []byte("\r")) != n || bytes.Count(got, []byte("\n")) != n {
			t.Errorf("%q became %q, which has bare line ends", b, got)
		}
		if n := fixedLen(b); n != len(got) {
			t.Errorf("%q became %d bytes, and fixedLen is %d", b, len(got), n)
		}
		if again := fixLines(nil, got); !bytes.Equal(again, got) {
			t.Errorf("%q became %q, and that %q", b, got, again)
		}
		strip := func(b []byte) string { return strings.NewReplacer("\r", "", "\n", "").Replace(string(b)) }
		if strip(got) != strip(b) {
			t.Errorf("%q became %q: text changed", b, got)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	line := strings.Repeat("X", 76) + "\r\n"
	for _, bench := range []struct{ name, data string }{
		{"100KiB", strings.Repeat(line, 1313)},
		{"100KiB-stuffed", strings.Repeat("."+line, 1313)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			data := []byte(bench.data + ".\r\n")
			buf := make([]byte, len(data))
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, data)
				s := newScanner(998)
				if s.scan(buf) != len(data) {
					b.Fatal("no end")
				}
			}
		})
	}
}
