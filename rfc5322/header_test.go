package rfc5322_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/rfc5322"
)

func Example() {
	msg := []byte("From: <a@example.com>\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n au lait\r\nBcc: x@example.com\r\n\r\nhello\r\n")
	h, body := rfc5322.Split(msg)
	subject, _ := h.Text("subject")
	fmt.Println(subject)

	field, err := rfc5322.NewField("X-Campaign", "spring")
	if err != nil {
		panic(err)
	}
	h = h.Remove(rfc5322.Named("Bcc")).Prepend(field)
	fmt.Printf("%q\n%q\n", h, body)
	// Output:
	// café au lait
	// "X-Campaign: spring\r\nFrom: <a@example.com>\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n au lait\r\n"
	// "hello\r\n"
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, msg, header, body string }{
		{"plain", "A: b\r\n\r\nbody", "A: b\r\n", "body"},
		{"bare LF", "A: b\n\nbody", "A: b\n", "body"},
		{"mixed", "A: b\n\r\nbody", "A: b\n", "body"},
		{"no header", "\r\nbody", "", "body"},
		{"no header, LF", "\nbody", "", "body"},
		{"no body", "A: b\r\n", "A: b\r\n", ""},
		{"no line end", "A: b", "A: b", ""},
		{"empty", "", "", ""},
		{"first empty line counts", "A: b\r\n\r\nx\r\n\r\ny", "A: b\r\n", "x\r\n\r\ny"},
		{"bare CR is no line end", "A: b\r\rc\r\n\r\nbody", "A: b\r\rc\r\n", "body"},
	} {
		h, body := rfc5322.Split([]byte(c.msg))
		if string(h) != c.header || string(body) != c.body {
			t.Errorf("%s: Split = %q, %q, want %q, %q", c.name, h, body, c.header, c.body)
		}
		// The same in pieces: an empty line may be cut anywhere.
		for step := 1; step <= 3; step++ {
			h, off, err := rfc5322.ReadHeader(&slowReader{data: c.msg, step: step}, nil, 1000)
			if err != nil || string(h) != c.header || c.msg[off:] != c.body {
				t.Errorf("%s: ReadHeader by %d bytes = %q, %d, %v", c.name, step, h, off, err)
			}
		}
	}
}

// slowReader gives few bytes at a time and counts them.
type slowReader struct {
	data string
	step int
	read int64
	err  error // in place of io.EOF
}

func (r *slowReader) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p[:min(len(p), r.step)], r.data[off:])
	r.read = max(r.read, off+int64(n))
	if int(off)+n == len(r.data) {
		if r.err != nil {
			return n, r.err
		}
		return n, io.EOF
	}
	return n, nil
}

func TestReadHeaderReadsNoMore(t *testing.T) {
	t.Parallel()
	msg := "A: b\r\n\r\n" + strings.Repeat("x", 1<<20)
	r := &slowReader{data: msg, step: 1 << 20}
	if _, _, err := rfc5322.ReadHeader(r, nil, rfc5322.DefaultLimit); err != nil {
		t.Fatal(err)
	}
	if r.read > 4096 {
		t.Errorf("read %d bytes for a header of 6", r.read)
	}
}

func TestReadHeaderLimit(t *testing.T) {
	t.Parallel()
	long := "A: " + strings.Repeat("x", 5000) + "\r\n"
	for _, c := range []struct {
		name  string
		msg   string
		limit int
		want  error
	}{
		{"just fits", long + "\r\nbody", len(long), nil},
		{"one too long", long + "\r\nbody", len(long) - 1, rfc5322.ErrTooLong},
		{"endless", strings.Repeat(long, 100), 10000, rfc5322.ErrTooLong},
		{"all header", long, len(long), nil},
	} {
		for _, r := range []io.ReaderAt{mtakit.Bytes(c.msg), strings.NewReader(c.msg), &slowReader{data: c.msg, step: 1000}} {
			h, off, err := rfc5322.ReadHeader(r, nil, c.limit)
			if !errors.Is(err, c.want) {
				t.Errorf("%s: ReadHeader(%T) = %v, want %v", c.name, r, err, c.want)
			}
			if err == nil && (string(h) != long || off < int64(len(long))) {
				t.Errorf("%s: ReadHeader(%T) gave %d bytes and offset %d, want %d bytes", c.name, r, len(h), off, len(long))
			}
		}
	}
	broken := errors.New("disk on fire")
	if _, _, err := rfc5322.ReadHeader(&slowReader{data: "A: b\r\n", step: 2, err: broken}, nil, 100); err != broken {
		t.Errorf("error of the reader: %v, want %v", err, broken)
	}
}

func TestReadHeaderInPlace(t *testing.T) {
	data := mtakit.Bytes(typical + "\r\nhello")
	var body io.ReaderAt = data
	if n := testing.AllocsPerRun(100, func() {
		if h, _, err := rfc5322.ReadHeader(body, nil, 1<<20); err != nil || &h[0] != &data[0] {
			t.Error("the header is not a part of the body", err)
		}
	}); n > 1 { // the slice of chunks
		t.Errorf("%v allocations", n)
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ field, name, value, text string }{
		{"Subject: hello\r\n", "Subject", "hello", "hello"},
		{"Subject:hello\n", "Subject", "hello", "hello"},
		{"Subject : hello", "Subject", "hello", "hello"},
		{"Subject:   a\r\n\tb\r\n c \r\n", "Subject", "a\r\n\tb\r\n c ", "a b c"},
		{"Subject:\tx\r\n", "Subject", "\tx", "x"},
		{"Subject:\r\n", "Subject", "", ""},
		{"Subject\r\n", "Subject", "", ""},
		{"a:b:c\r\n", "a", "b:c", "b:c"},
		{"From me today\r\n", "", "", ""},
		{" leading: x\r\n", "", "", ""},
		{":x\r\n", "", "", ""},
		{"n\xc3\xa4me: x\r\n", "", "", ""},
	} {
		f := rfc5322.Field(c.field)
		if string(f.Name()) != c.name || string(f.Value()) != c.value || f.Text() != c.text {
			t.Errorf("%q: name %q value %q text %q, want %q %q %q", c.field, f.Name(), f.Value(), f.Text(), c.name, c.value, c.text)
		}
	}
}

const typical = "Received: from mx.example.org (mx.example.org [192.0.2.1])\r\n\tby in.example.com with ESMTPS id 1d98076abbbc11ed\r\n" +
	"\tfor <user@example.com>; Fri, 12 Sep 2025 11:08:01 +0000\r\n" +
	"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s1;\r\n\th=From:To:Subject:Date:Message-ID;\r\n" +
	"\tbh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\tb=dGhpcyBpcyBub3QgYSByZWFsIHNpZ25hdHVyZQ==\r\n" +
	"From: Sender <sender@example.org>\r\nTo: user@example.com\r\nSubject: An offer you cannot refuse\r\n" +
	"Date: Fri, 12 Sep 2025 11:08:00 +0000\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/alternative; boundary=\"b\"\r\nList-Unsubscribe: <https://example.org/u>\r\nX-Campaign: spring\r\n"

func TestLookup(t *testing.T) {
	h := rfc5322.Header(typical + "received: second\r\n")
	if s, ok := h.Text("subject"); !ok || s != "An offer you cannot refuse" {
		t.Errorf("Text(subject) = %q, %v", s, ok)
	}
	if s, ok := h.Text("Subj"); ok {
		t.Errorf("Text(Subj) = %q", s)
	}
	if n := len(slices.Collect(h.All("RECEIVED"))); n != 2 {
		t.Errorf("%d Received fields, want 2", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		for f := range h.Fields() {
			_ = f.Is("X-Tenant")
		}
		_ = h.Get("X-Campaign")
		for range h.All("Received") {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEdit(t *testing.T) {
	t.Parallel()
	field := func(name, value string) rfc5322.Field {
		f, err := rfc5322.RawField(name, value)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	h := rfc5322.Header("A: 1\r\nB: 2\n a: x\r\nC: 3")
	for _, c := range []struct {
		name string
		got  rfc5322.Header
		want string
	}{
		{"prepend", h.Prepend(field("X", "y"), field("Z", "")), "X: y\r\nZ: \r\nA: 1\r\nB: 2\n a: x\r\nC: 3"},
		{"append ends the last line", h.Append(field("X", "y")), "A: 1\r\nB: 2\n a: x\r\nC: 3\r\nX: y\r\n"},
		{"append to nothing", rfc5322.Header(nil).Append(field("X", "y")), "X: y\r\n"},
		{"remove", h.Remove(rfc5322.Named("a", "c")), "B: 2\n a: x\r\n"},
		{"remove all", h.Remove(func(rfc5322.Field) bool { return true }), ""},
		{"remove none", h.Remove(rfc5322.Named("Q")), string(h)},
		{"replace", h.Replace(field("b", "new")), "A: 1\r\nb: new\r\nC: 3"},
		{"replace what is missing", h.Replace(field("D", "new")), string(h) + "\r\nD: new\r\n"},
	} {
		if string(c.got) != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
	if string(h) != "A: 1\r\nB: 2\n a: x\r\nC: 3" {
		t.Errorf("an edit changed the header: %q", h)
	}
}

func TestRawFieldRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, value string }{
		{"", "x"}, {"A B", "x"}, {"A:", "x"}, {"A\r\nB", "x"}, {"Ä", "x"},
		{"A", "x\r\nBcc: y"}, {"A", "x\r\n\r\nbody"}, {"A", "x\nB: y"}, {"A", "x\rB: y"}, {"A", "x\x00"}, {"A", "x\r\n \r\n y"}, {"A", "x\r\n\r\n"},
	} {
		if f, err := rfc5322.RawField(c.name, c.value); !errors.Is(err, rfc5322.ErrBadField) {
			t.Errorf("RawField(%q, %q) = %q, %v, want ErrBadField", c.name, c.value, f, err)
		}
	}
	for _, value := range []string{"", "x", "x\r\n", "x\r\n\ty", "x\r\n y\r\n"} {
		if _, err := rfc5322.RawField("A", value); err != nil {
			t.Errorf("RawField(A, %q): %v", value, err)
		}
	}
}

func naiveFields(h string) (fields []string) {
	for _, line := range strings.SplitAfter(h, "\n") {
		if n := len(fields); n > 0 && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")) {
			fields[n-1] += line
		} else if line != "" {
			fields = append(fields, line)
		}
	}
	return fields
}

func FuzzScan(f *testing.F) {
	f.Add([]byte(typical + "\r\nbody"))
	f.Add([]byte("A: b\n c\r\n: x\r\n  \r\n\r\nbody"))
	f.Add([]byte(" first\r\nno colon\r\n\n"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		h, body := rfc5322.Split(msg)
		if !bytes.HasPrefix(msg, h) || !bytes.HasSuffix(msg, body) || len(msg)-len(h)-len(body) > 2 {
			t.Fatalf("Split(%q) = %q, %q", msg, h, body)
		}
		if h2, off, err := rfc5322.ReadHeader(bytes.NewReader(msg), nil, len(msg)); err != nil || !bytes.Equal(h2, h) || !bytes.Equal(msg[off:], body) {
			t.Fatalf("ReadHeader(%q) = %q, %d, %v; Split has %q", msg, h2, off, err, h)
		}
		var got []string
		for f := range h.Fields() {
			got = append(got, string(f))
			if name := f.Name(); name != nil && !f.Is(strings.ToUpper(string(name))) {
				t.Fatalf("%q is not named %q", f, name)
			}
		}
		if want := naiveFields(string(h)); !slices.Equal(got, want) {
			t.Fatalf("Fields(%q) = %q, want %q", h, got, want)
		}
		// Edits leave other fields' bytes as they are.
		x, _ := rfc5322.RawField("X-New", "1")
		if p := h.Prepend(x); string(p) != string(x)+string(h) {
			t.Fatalf("Prepend: %q", p)
		}
		if a := h.Append(x); !bytes.HasPrefix(a, h) || !bytes.HasSuffix(a, x) || len(a)-len(h)-len(x) > 2 {
			t.Fatalf("Append: %q", a)
		}
		odd := func(f rfc5322.Field) bool { return len(f)%2 == 1 }
		want := slices.DeleteFunc(got, func(f string) bool { return len(f)%2 == 1 })
		if r := h.Remove(odd); string(r) != strings.Join(want, "") {
			t.Fatalf("Remove: %q, want %q", r, want)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	h := rfc5322.Header(typical)
	b.ReportAllocs()
	for b.Loop() {
		h.Get("X-Campaign")
	}
}
