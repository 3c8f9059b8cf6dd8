package rfc5322_test

import (
	"mime"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mtakit/mtakit/rfc5322"
)

func TestDecodeText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"plain", "plain"},
		{"two  spaces stay", "two  spaces stay"},
		{" folded\r\n  line ", "folded line"},
		{"=?utf-8?q?caf=C3=A9?=", "café"},
		{"=?UTF-8?B?Y2Fmw6k=?=", "café"},
		{"=?UTF-8?B?Y2Fmw6k?=", "café"},
		{"=?utf-8*fr?Q?caf=c3=a9_noir?=", "café noir"},
		{"=?utf-8?q?a?= \r\n\t=?utf-8?q?b?=", "ab"},
		{"=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"},
		{"=?utf-8?q?caf=C3?= =?utf-8?q?=A9?=", "café"},
		{"=?iso-8859-1?q?caf=E9?= =?utf-8?q?=C3=A9?=", "caféé"},
		{"=?windows-1252?q?=80?=", "€"},
		{"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"},
		{"=?koi8-r?B?8NLJ18XU?=", "Привет"},
		{"(=?utf-8?q?a?=)", "(a)"},
		{"=?utf-8?q?a?=x", "ax"},
		{"=?nosuch?q?a?= b", "=?nosuch?q?a?= b"},
		{"=?nosuch?q?a?=  =?nosuch?q?b?=", "=?nosuch?q?a?=  =?nosuch?q?b?="},
		{"=?utf-8?x?a?=", "=?utf-8?x?a?="},
		{"=?utf-8?q?=G0?=", "=?utf-8?q?=G0?="},
		{"=?utf-8?b?!?=", "=?utf-8?b?!?="},
		{"=?=?utf-8?q?a?=", "=?a"},
		{"=?utf-8?q?a?==?utf-8?b?Yg==?=x", "abx"},
		{"=?utf-8?q?a=?utf-8?q?b?=", "=?utf-8?q?ab"},
		{"raw \xe9", "raw \xe9"},
		{"=?utf-8?q?=ff?=", "\ufffd"},
	} {
		if got := rfc5322.DecodeText([]byte(c.in)); got != c.want {
			t.Errorf("DecodeText(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// Text that begins a thousand words and ends none takes as long as other text. It took a minute and more.
func TestDecodeTextOfBeginnings(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	text := []byte(strings.Repeat("=?a?b?x", size/7))
	start := time.Now()
	if got := rfc5322.DecodeText(text); got != string(text) {
		t.Error("the text has changed")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("%d bytes took %v", size, took)
	}
}

func TestNewField(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"hello", "X: hello\r\n"},
		{"", "X: \r\n"},
		{"a\r\nBcc: b", "X: a Bcc: b\r\n"},
		{"caf\u00e9 noir", "X: =?UTF-8?q?caf=C3=A9_noir?=\r\n"},
		{"=?utf-8?q?x?=", "X: =?UTF-8?q?=3D=3Futf-8=3Fq=3Fx=3F=3D?=\r\n"},
		{strings.Repeat("word ", 16), "X: " + strings.Repeat("word ", 14) + "word\r\n\tword\r\n"},
		{strings.Repeat("é", 11), "X: =?UTF-8?q?" + strings.Repeat("=C3=A9", 10) + "?=\r\n\t=?UTF-8?q?=C3=A9?=\r\n"},
	} {
		if f, err := rfc5322.NewField("X", c.text); err != nil || string(f) != c.want {
			t.Errorf("NewField(%q) = %q, %v, want %q", c.text, f, err, c.want)
		}
	}
	if _, err := rfc5322.NewField("X\r\nY", ""); err == nil {
		t.Error("a line end in the name was taken")
	}
}

// FuzzText: what we write we read back, no line is long, and nothing can bring in a field.
func FuzzText(f *testing.F) {
	f.Add("hello world")
	f.Add("grüße =?utf-8?q?x?= \x00\r\n\r\nx")
	f.Add(strings.Repeat("日本語 ", 50) + strings.Repeat("x", 2000))
	f.Fuzz(func(t *testing.T, text string) {
		field, err := rfc5322.NewField("Subject", text)
		if err != nil {
			t.Fatal(err)
		}
		if h := rfc5322.Header(field); len(h.Get("Subject")) != len(h) {
			t.Fatalf("%q is more than a field", field)
		}
		want := strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\ufffd"), func(r rune) bool { return r < 128 && unicode.IsSpace(r) }), " ")
		longWord := false
		for w := range strings.FieldsSeq(want) {
			longWord = longWord || len(w) > 900
		}
		if got := field.Text(); got != want && !longWord { // a cut word comes back with a space in it
			t.Fatalf("%q is read back as %q, want %q", field, got, want)
		}
		for line := range strings.SplitSeq(string(field), "\r\n") {
			if len(line) > 998 {
				t.Fatalf("a line of %d bytes", len(line))
			}
		}
	})
}

// FuzzDecodeText compares single words with the standard library's decoder.
func FuzzDecodeText(f *testing.F) {
	f.Add("q", "caf=C3=A9_")
	f.Add("B", "Y2Fmw6k=")
	f.Fuzz(func(t *testing.T, enc, payload string) {
		word := "=?utf-8?" + enc + "?" + payload + "?="
		got := rfc5322.DecodeText([]byte(word))
		want, err := new(mime.WordDecoder).Decode(word)
		if err != nil || strings.ContainsAny(payload, "?= \t\r\n") && enc != "q" || !utf8.ValidString(want) || strings.Contains(payload, "?=") {
			return // stricter or laxer than we are; that we survive is all
		}
		if strings.ContainsAny(payload, " \t\r\n") {
			return // white space ends our tokens
		}
		if got != want {
			t.Fatalf("DecodeText(%q) = %q, want %q", word, got, want)
		}
	})
}

func BenchmarkDecodeText(b *testing.B) {
	v := []byte("=?utf-8?q?Gr=C3=BC=C3=9Fe_aus_?= =?utf-8?q?M=C3=BCnchen?=")
	b.ReportAllocs()
	for b.Loop() {
		rfc5322.DecodeText(v)
	}
}
