package smtpclient_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient"
)

// stuffNaively is dot-stuffing as the definition has it, byte by byte.
func stuffNaively(p []byte) []byte {
	var out []byte
	start := true
	for _, c := range p {
		if start && c == '.' {
			out = append(out, '.')
		}
		out = append(out, c)
		start = c == '\n'
	}
	return out
}

// FuzzDotStuffing: both ways of stuffing agree with the naive one, however the text is split, and taking the dots away gives the text.
func FuzzDotStuffing(f *testing.F) {
	f.Add([]byte(".\r\n..\r\n.x\n.\n\n..\r\n"), 3)
	f.Add([]byte("x\r\n."), 1)
	f.Add([]byte("."), 1)
	f.Fuzz(func(t *testing.T, text []byte, n int) {
		n = max(n, 1)
		var copied []byte
		var segs [][]byte
		a, b := true, true
		for p := range bytesChunks(text, n) {
			copied, a = smtpclient.AppendStuffed(copied, p, a)
			segs, b = smtpclient.AppendSegments(segs, p, b)
		}
		want := stuffNaively(text)
		if !bytes.Equal(copied, want) || !bytes.Equal(bytes.Join(segs, nil), want) || a != b {
			t.Errorf("%q in pieces of %d: got %q and %q, want %q", text, n, copied, segs, want)
		}
		var back []byte
		for line := range bytes.SplitAfterSeq(copied, []byte("\n")) {
			back = append(back, bytes.TrimPrefix(line, []byte("."))...)
		}
		if !bytes.Equal(back, text) {
			t.Errorf("%q came back as %q", text, back)
		}
		if got, want := smtpclient.Has8bit(text), bytes.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }); got != want {
			t.Errorf("8-bit in %q: %v", text, got)
		}
	})
}

func bytesChunks(p []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(p) > 0 {
			k := min(n, len(p))
			if !yield(p[:k]) {
				return
			}
			p = p[k:]
		}
	}
}

// FuzzReply: our reader and mtakit.ParseResponse agree on what a reply is and what it says, however the bytes arrive.
func FuzzReply(f *testing.F) {
	f.Add([]byte("250-a\r\n250-2.1.5 b\r\n250 c\r\n"), 1)
	f.Add([]byte("250\r\n250 x\r\n"), 100)
	f.Add([]byte("421 4.3.2 x\n"), 2)
	f.Add([]byte("250-a\r\n251 b\r\n"), 5)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		n = max(n, 1)
		used, got, err := smtpclient.ScanReply(b, n)
		if used2, got2, err2 := smtpclient.ScanReply(b, len(b)+1); used != used2 || got != got2 || (err == nil) != (err2 == nil) {
			t.Errorf("%q in pieces of %d: %d %v %v, at once %d %v %v", b, n, used, got, err, used2, got2, err2)
		}
		if used == 0 {
			return
		}
		want, err := mtakit.ParseResponse(string(b[:used]))
		if err != nil || want != got {
			t.Errorf("%q: got %+v, want %+v, %v", b[:used], got, want, err)
		}
	})
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{"a@x.test", "a@x.test"},
		{"a.b+c@x.test", "a.b+c@x.test"},
		{"a..b.@x.test", "a..b.@x.test"}, // peers exist that have such users
		{"Postmaster", "Postmaster"},
		{`"a b"@x.test`, `"a b"@x.test`},
		{`"a\"b"@x.test`, `"a\"b"@x.test`},
		{`a b@x.test`, `"a b"@x.test`},
		{`a"b@x.test`, `"a\"b"@x.test`},
		{`a\b@x.test`, `"a\\b"@x.test`},
		{`"a"b"@x.test`, `"\"a\"b\""@x.test`},
		{`"a\"@x.test`, `"\"a\\\""@x.test`},
		{"a@b@x.test", `"a@b"@x.test`},
		{"a>b@x.test", `"a>b"@x.test`},
		{"@x.test", `""@x.test`},
		{"a@[192.0.2.1]", "a@[192.0.2.1]"},
		{"a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"},
		{"a@bücher.test", "a@xn--bcher-kva.test"},
		{"a@xn--bcher-kva.test", "a@xn--bcher-kva.test"},
		{"a@_x.test", "a@_x.test"},
		{"é@x.test", "é@x.test"},
		{"a", ""}, {"", ""}, {"a@", ""}, {"a\r\n@x.test", ""}, {"a\x00@x.test", ""}, {"a@x.test>", ""}, {"a@x test", ""}, {"\xff@x.test", ""}, {"a@x.test\r\nDATA", ""},
		{"a@1.2.3.4:25", ""},
	} {
		got, err := smtpclient.AppendPath(nil, tt.in)
		if (err == nil) != (tt.want != "") || err == nil && string(got) != tt.want {
			t.Errorf("%q: got %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

// FuzzAddress: whatever goes between the angle brackets stays there, and a second pass changes nothing.
func FuzzAddress(f *testing.F) {
	f.Add(`a b@x.test`)
	f.Add(`"a\"b"@x.test`)
	f.Add("é@bücher.test")
	f.Fuzz(func(t *testing.T, addr string) {
		b, err := smtpclient.AppendPath(nil, addr)
		if err != nil {
			return
		}
		quoted := false
		for i := 0; i < len(b); i++ {
			switch c := b[i]; {
			case c < ' ' || c == 0x7f:
				t.Fatalf("%q gives a control character: %q", addr, b)
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case !quoted && strings.IndexByte("<> ,;()", c) >= 0:
				t.Fatalf("%q gives %q outside quotes: %q", addr, c, b)
			}
		}
		if quoted {
			t.Fatalf("%q gives an open quote: %q", addr, b)
		}
		if again, err := smtpclient.AppendPath(nil, string(b)); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q gives %q, and that gives %q, %v", addr, b, again, err)
		}
	})
}

// TestSendDoesNotAllocate: on a kept connection that could be watched, and isn't, a message costs no garbage.
func TestSendDoesNotAllocate(t *testing.T) {
	d := [2]*mtakit.Delivery{delivery("a@x.test", "Subject: x\r\n\r\nhello\r\n", "b@y.test"), delivery("a@x.test", "x\r\n", "b@y.test")}
	var traces mtakit.Traces
	e := egress(nil)
	e.Trace = smtpclient.TraceTo(&traces)
	s := connect(t, e, sinkPath(t, listen(t)))
	i := 0
	next := func() *mtakit.Delivery { return d[(i+1)%2] }
	ctx := t.Context()
	n := testing.AllocsPerRun(200, func() {
		d[i%2].Results = d[i%2].Results[:0]
		if err := s.Send(ctx, d[i%2], next); err != nil {
			t.Fatal(err)
		}
		i++
	})
	if n >= 1 && !raceEnabled {
		t.Errorf("%v allocations a message", n)
	}
}
