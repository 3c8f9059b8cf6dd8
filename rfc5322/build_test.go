package rfc5322_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mtakit/mtakit/rfc5322"
)

func text(t testing.TB, contentType, s string) *rfc5322.Part {
	t.Helper()
	p, err := rfc5322.NewText(contentType, s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func binary(t testing.TB, contentType, data string, d *rfc5322.Disposition) *rfc5322.Part {
	t.Helper()
	p, err := rfc5322.NewBinary(contentType, []byte(data), d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func header(t testing.TB, fields ...string) rfc5322.Header {
	t.Helper()
	var h rfc5322.Header
	for i := 0; i < len(fields); i += 2 {
		f, err := rfc5322.NewField(fields[i], fields[i+1])
		if err != nil {
			t.Fatal(err)
		}
		h = h.Append(f)
	}
	return h
}

func build(t testing.TB, b *rfc5322.Builder) string {
	t.Helper()
	chunks, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.Join(chunks, nil))
}

var july = time.Date(2003, 7, 1, 10, 52, 37, 0, time.FixedZone("", 2*3600))

// seeded gives the same bytes in every run.
func seeded() io.Reader { return rand.NewChaCha8([32]byte{1}) }

func TestBuild(t *testing.T) {
	t.Parallel()
	plain, html, amp := text(t, "text/plain", "Hello é"), text(t, "text/html", "<b>Hello</b>"), text(t, "text/x-amp-html", "<html amp4email>")
	logo := binary(t, "image/png", "\x89PNG", &rfc5322.Disposition{Inline: true, ContentID: "logo@x", FileName: "logo.png"})
	report := binary(t, "application/pdf", "%PDF", &rfc5322.Disposition{FileName: "Übersicht.pdf"})
	for _, c := range []struct {
		name string
		b    rfc5322.Builder
	}{
		{"text", rfc5322.Builder{Text: plain}},
		{"html", rfc5322.Builder{HTML: html, Header: header(t, "Subject", "Zażółć", "Content-Type", "x/y", "Date", "now", "mime-version", "1.0")}},
		{"all", rfc5322.Builder{
			Text: plain, AMP: amp, HTML: html, Header: header(t, "From", "a@example.com", "Subject", "hi"),
			Inline: []*rfc5322.Part{logo}, Attached: []*rfc5322.Part{report},
		}},
		{"attached", rfc5322.Builder{Text: plain, Attached: []*rfc5322.Part{report, binary(t, "text/csv; charset=utf-8; header=present", "", nil)}}},
	} {
		c.b.Date, c.b.Random = july, seeded()
		got := build(t, &c.b)
		file := "testdata/build/" + c.name + ".eml"
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || got != string(want) {
			t.Errorf("%s: got\n%s\nwant (%v)\n%s", c.name, got, err, want)
		}
		c.b.Random = seeded()
		if again := build(t, &c.b); again != got {
			t.Errorf("%s: built again it is\n%s", c.name, again)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	amp := text(t, "text/x-amp-html", "<html amp4email>")
	if _, err := new(rfc5322.Builder).Build(nil); !errors.Is(err, rfc5322.ErrNoText) {
		t.Errorf("an empty message: %v", err)
	}
	if _, err := (&rfc5322.Builder{AMP: amp}).Build(nil); !errors.Is(err, rfc5322.ErrOnlyAMP) {
		t.Errorf("AMP alone: %v", err)
	}
	for _, contentType := range []string{"", "text", "text/plain\r\nX: y", "a b/c", "/", "text/", "text/é"} {
		if _, err := rfc5322.NewText(contentType, ""); !errors.Is(err, rfc5322.ErrBadField) {
			t.Errorf("NewText(%q): %v", contentType, err)
		}
		if _, err := rfc5322.NewBinary(contentType, nil, nil); !errors.Is(err, rfc5322.ErrBadField) {
			t.Errorf("NewBinary(%q): %v", contentType, err)
		}
	}
	for _, id := range []string{"<>", "a\r\nX: y", "a b", "a>b", "é"} {
		if _, err := rfc5322.NewBinary("a/b", nil, &rfc5322.Disposition{ContentID: id}); !errors.Is(err, rfc5322.ErrBadField) {
			t.Errorf("content id %q: %v", id, err)
		}
	}
	for _, boundary := range []string{"", strings.Repeat("x", 71), "a\"b", "a\r\nb", "a ", "é"} {
		if _, err := rfc5322.NewMultipart("multipart/mixed", boundary, amp); !errors.Is(err, rfc5322.ErrBadField) {
			t.Errorf("boundary %q: %v", boundary, err)
		}
	}
	if _, err := rfc5322.NewMultipart("multipart/mixed", "b"); err == nil {
		t.Error("a multipart without parts was made")
	}
	if _, err := (&rfc5322.Builder{Text: amp, HTML: amp, Random: strings.NewReader("short")}).Build(nil); err == nil {
		t.Error("the failure of Random is lost")
	}
}

// The standard library reads what we build.
func TestBuildRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	letters := []rune("ab \t=.\r\n<é日\U0001f600-")
	random := func() string {
		var b strings.Builder
		for range r.IntN(400) {
			b.WriteRune(letters[r.IntN(len(letters))])
		}
		return b.String()
	}
	for range 200 {
		plain, html, data, name := random(), random(), random(), strings.Map(func(r rune) rune {
			if r < ' ' || strings.ContainsRune("/", r) {
				return 'x'
			}
			return r
		}, random())
		b := rfc5322.Builder{
			Text: text(t, "text/plain", plain), HTML: text(t, "text/html", html), Header: header(t, "Subject", "x"+random()),
			Inline:   []*rfc5322.Part{binary(t, "a/b", data, &rfc5322.Disposition{Inline: true, ContentID: "x"})},
			Attached: []*rfc5322.Part{binary(t, "a/b", data, &rfc5322.Disposition{FileName: "n" + name})},
		}
		msg := build(t, &b)
		m, err := mail.ReadMessage(strings.NewReader(msg))
		if err != nil {
			t.Fatalf("%v\n%s", err, msg)
		}
		leaves := readParts(t, m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body, "")
		want := []string{canonical(plain), canonical(html), data, data + "\x00n" + name}
		if len(leaves) != 4 || leaves[0] != want[0] || leaves[1] != want[1] || leaves[2] != want[2] || leaves[3] != want[3] {
			t.Fatalf("got  %q\nwant %q\n%s", leaves, want, msg)
		}
	}
}

func canonical(s string) string {
	if s = string(rfc5322.AppendLines(nil, s)); !strings.HasSuffix(s, "\r\n") {
		s += "\r\n"
	}
	return s
}

// readParts lists the decoded leaves, with their file names.
func readParts(t *testing.T, contentType, encoding string, body io.Reader, name string) (leaves []string) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(kind, "multipart/") {
		mr := multipart.NewReader(body, params["boundary"])
		for {
			p, err := mr.NextRawPart()
			if err == io.EOF {
				return leaves
			}
			if err != nil {
				t.Fatal(err)
			}
			var name string
			if d := p.Header.Get("Content-Disposition"); d != "" {
				_, params, err := mime.ParseMediaType(d)
				if err != nil {
					t.Fatalf("%q: %v", d, err)
				}
				name = params["filename"]
			}
			leaves = append(leaves, readParts(t, p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p, name)...)
		}
	}
	switch encoding {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "":
	default:
		t.Fatalf("encoding %q", encoding)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	if encoding == "" && strings.HasPrefix(kind, "text/") && !strings.HasSuffix(s, "\r\n") {
		s += "\r\n" // belongs to the boundary, as the reader sees it
	}
	if name != "" {
		s += "\x00" + name
	}
	if encoding == "quoted-printable" && !strings.HasSuffix(s, "\r\n") {
		s += "\r\n"
	}
	if encoding == "base64" && strings.HasPrefix(kind, "text/") && !strings.HasSuffix(s, "\r\n") {
		t.Fatalf("base64 text without an end: %q", s)
	}
	return []string{s}
}

func TestQuotedPrintable(t *testing.T) {
	t.Parallel()
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct{ in, want string }{
		{"one two \r\nthree\t", "one two=20\r\nthree=09"},
		{"tab\there = sum\n", "tab\there =3D sum=0A"},
		{x(76), x(76)},
		{x(77), x(75) + "=\r\nxx"},
		{x(75) + " ", x(75) + "=\r\n=20"},
		{x(76) + "\r\n" + x(77), x(76) + "\r\n" + x(75) + "=\r\nxx"},
		{"a\rb", "a=0Db"},
		{"\x00é", "=00=C3=A9"},
		{"", ""},
	} {
		if got := string(rfc5322.AppendQuotedPrintable(nil, []byte(c.in))); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestAppendLines(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "a": "a", "\n": "\r\n", "\r": "\r\n", "\r\n": "\r\n", "\r\r\n": "\r\n\r\n", "\n\r": "\r\n\r\n", "a\nb\rc\r\nd": "a\r\nb\r\nc\r\nd", "a\r\r": "a\r\n\r\n",
	} {
		if got := string(rfc5322.AppendLines(nil, in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestMailbox(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, address, want string }{
		{"foo@bar.com", "foo@bar.com", `"foo@bar.com" <foo@bar.com>`},
		{"John Smith", "j@s", `"John Smith" <j@s>`},
		{"John", "j@s", `John <j@s>`},
		{"", "j@s", `<j@s>`},
		{`a "b" \c`, "j@s", `"a \"b\" \\c" <j@s>`},
		{"x\r\nBcc: y", "j@s", `"x Bcc: y" <j@s>`},
		{"Zoë (x)", "j@s", `=?UTF-8?q?Zo=C3=AB_=28x=29?= <j@s>`},
		{"a =?utf-8?q?b?=", "j@s", `=?UTF-8?q?a_=3D=3Futf-8=3Fq=3Fb=3F=3D?= <j@s>`},
		{"nul\x00", "j@s", `=?UTF-8?q?nul=00?= <j@s>`},
	} {
		if got := string(rfc5322.AppendMailbox(nil, c.name, c.address)); got != c.want {
			t.Errorf("%q: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"a@b.c", "a@b.c"},
		{`"John, Jr." <a@b.c>, d@e.f`, `"John, Jr." <a@b.c>, d@e.f`},
		{`Zoë Šmíd <a@b.c>, "Ünï, x" <d@e.f>; John <g@h.i>`, `=?UTF-8?q?Zo=C3=AB_=C5=A0m=C3=ADd?= <a@b.c>, =?UTF-8?q?=C3=9Cn=C3=AF=2C_x?=` + "\r\n\t" + `<d@e.f>; John <g@h.i>`},
		{"żółw@example.com, Ż <a@b>", "żółw@example.com, =?UTF-8?q?=C5=BB?= <a@b>"},
		{`"ż x"@example.com`, `"ż x"@example.com`},
		{"Grüße: a@b, c@d;", "=?UTF-8?q?Gr=C3=BC=C3=9Fe?=: a@b, c@d;"},
		{"a@b (Zoë)", "a@b (=?UTF-8?q?Zo=C3=AB?=)"},
		{"Zoë\r\nBcc: x", "=?UTF-8?q?Zo=C3=AB_Bcc?=: x"},
		{"a@b\r\nBcc: x\x00", "a@b Bcc: x"},
		{"Zoë <unclosed", "=?UTF-8?q?Zo=C3=AB?= <unclosed"},
	} {
		if got := string(rfc5322.AppendAddresses(nil, c.in)); got != c.want {
			t.Errorf("%q:\ngot  %s\nwant %s", c.in, got, c.want)
		}
	}
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a@b": "a@b", "<a@b.example>": "a@b.example", `"a b"@c`: `"a b"@c`, `"\""@c`: `"\""@c`, "a@[192.0.2.1]": "a@[192.0.2.1]",
		"a@[IPv6:2001:db8::1]": "a@[IPv6:2001:db8::1]", "ü@Bücher.example": "ü@xn--bcher-kva.example", "a+b=c@_x.example": "a+b=c@_x.example",
	} {
		if got, err := rfc5322.ParseAddress(in); got != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "<>", "a", "@b", "a@", "a@b\r\nRCPT TO:<x>", "a b@c", "a@b c", ".a@b", "a..b@c", "a@-b", "a@b-", "a@b..c", `"a@b`, `"a"b@c`, "a@[1]", "a@[192.0.2.1",
		"a\x00@b", "\"a\x01\"@b", "a@b>", "<a@b", "a@\xff", "a@b,c@d", strings.Repeat("a", 256) + "@b", "a@" + strings.Repeat("b.", 130) + "c",
	} {
		if got, err := rfc5322.ParseAddress(in); !errors.Is(err, rfc5322.ErrBadAddress) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestParam(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ value, want string }{
		{"x", ";\r\n\tname=\"x\""},
		{"", ""},
		{`a"\`, ";\r\n\tname=\"a\\\"\\\\\""},
		{"é.txt", ";\r\n\tname*=UTF-8''%C3%A9.txt"},
		{"a\r\nb", ";\r\n\tname*=UTF-8''a%0D%0Ab"},
		{strings.Repeat("x", 65), ";\r\n\tname=\"" + strings.Repeat("x", 65) + `"`},
		{strings.Repeat("x", 66), ";\r\n\tname*0=\"" + strings.Repeat("x", 65) + "\";\r\n\tname*1=\"x\""},
		{strings.Repeat("é", 10), ";\r\n\tname*0*=UTF-8''" + strings.Repeat("%C3%A9", 9) + ";\r\n\tname*1*=%C3%A9"},
	} {
		if got := string(rfc5322.AppendParam(nil, "name", c.value)); got != c.want {
			t.Errorf("%q: got %q, want %q", c.value, got, c.want)
		}
	}
}

// FuzzBuild: whatever is put in, there are exactly the fields and parts we asked for, in lines that every server takes.
func FuzzBuild(f *testing.F) {
	f.Add("hello", "Jane", "a.txt", "text/plain", "id", "X-A")
	f.Add("a\r\n.\r\n--x\r\n\r\nb", "x\r\nBcc: y", "a\"\r\nX: y", "text/plain; a=b", "<i@d>", "Subject")
	f.Add(strings.Repeat("é", 500), "é\x00", strings.Repeat("日", 100), "a/b", "", "To")
	f.Fuzz(func(t *testing.T, body, name, file, contentType, id, field string) {
		p, err := rfc5322.NewText("text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		att, err := rfc5322.NewBinary(contentType, []byte(body), &rfc5322.Disposition{FileName: file, ContentID: id})
		if err != nil {
			return
		}
		to, err := rfc5322.RawField("To", string(rfc5322.AppendMailbox(nil, name, "a@b")))
		if err != nil {
			t.Fatalf("mailbox of %q: %v", name, err)
		}
		from, err := rfc5322.RawField("From", "x "+string(rfc5322.AppendAddresses(nil, name)))
		if err != nil {
			t.Fatalf("addresses of %q: %v", name, err)
		}
		x, err := rfc5322.NewField(field, name)
		if err != nil {
			return
		}
		b := rfc5322.Builder{Text: p, Attached: []*rfc5322.Part{att}, Header: rfc5322.Header(nil).Append(to, from, x)}
		chunks, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		msg := bytes.Join(chunks, nil)
		for line := range bytes.SplitSeq(msg, []byte("\r\n")) {
			if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("line %q", line)
			}
		}
		h, rest := rfc5322.Split(msg)
		n := 0
		for range h.Fields() {
			n++
		}
		want := 6
		for _, dropped := range []string{"Content-Type", "Content-Transfer-Encoding", "Mime-Version", "Date"} {
			if x.Is(dropped) {
				want = 5
			}
		}
		if n != want {
			t.Fatalf("%d fields, want %d:\n%s", n, want, h)
		}
		_, params, err := mime.ParseMediaType(string(h.Get("Content-Type").Value()))
		if err != nil {
			t.Fatal(err)
		}
		r := multipart.NewReader(bytes.NewReader(rest), params["boundary"])
		for range 2 {
			part, err := r.NextRawPart()
			if err != nil {
				t.Fatal(err)
			}
			if len(part.Header) > 4 {
				t.Fatalf("part has the fields %q", part.Header)
			}
			if _, err := io.Copy(io.Discard, part); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.NextRawPart(); err != io.EOF {
			t.Fatalf("after the last part: %v", err)
		}
	})
}

// FuzzQuotedPrintable: the standard library decodes what we encode, and lines have their length.
func FuzzQuotedPrintable(f *testing.F) {
	f.Add("one two \r\nthree\t= é\n")
	f.Fuzz(func(t *testing.T, s string) {
		q := rfc5322.AppendQuotedPrintable(nil, []byte(s))
		got, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(q)))
		if err != nil || string(got) != s {
			t.Fatalf("%q is read back from %q as %q, %v", s, q, got, err)
		}
		for line := range bytes.SplitSeq(q, []byte("\r\n")) {
			if len(line) > 76 {
				t.Fatalf("line %q", line)
			}
		}
	})
}

// FuzzAddress: what is taken stays taken, and cannot break out of a command or a field.
func FuzzAddress(f *testing.F) {
	f.Add("a@b")
	f.Add(`<"a\"b"@[IPv6:::1]>`)
	f.Add("ü@bücher.example")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := rfc5322.ParseAddress(s)
		if err != nil {
			return
		}
		if again, err := rfc5322.ParseAddress(a); again != a || err != nil {
			t.Fatalf("%q gives %q, and that %q, %v", s, a, again, err)
		}
		if !utf8.ValidString(a) || strings.ContainsFunc(a, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q gives %q", s, a)
		}
		if !strings.HasPrefix(a, `"`) && strings.ContainsAny(a, " <>,;()") {
			t.Fatalf("%q gives %q", s, a)
		}
	})
}

func ExampleBuilder() {
	plain, _ := rfc5322.NewText("text/plain", "Grüße aus Wien")
	var h rfc5322.Header
	subject, _ := rfc5322.NewField("Subject", "Grüße")
	to, _ := rfc5322.RawField("To", string(rfc5322.AppendMailbox(nil, "Jürgen", "j@example.com")))
	b := rfc5322.Builder{Text: plain, Header: h.Append(to, subject), Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	chunks, err := b.Build(nil)
	fmt.Println(strings.NewReplacer("\r", "", "\t", "  ").Replace(string(bytes.Join(chunks, nil))), err)
	// Output:
	// Content-Type: text/plain;
	//   charset="utf-8"
	// Content-Transfer-Encoding: quoted-printable
	// To: =?UTF-8?q?J=C3=BCrgen?= <j@example.com>
	// Subject: =?UTF-8?q?Gr=C3=BC=C3=9Fe?=
	// Mime-Version: 1.0
	// Date: Fri, 2 Jan 2026 03:04:05 +0000
	//
	// Gr=C3=BC=C3=9Fe aus Wien
	//  <nil>
}

func BenchmarkBuild(b *testing.B) {
	html := text(b, "text/html", strings.Repeat("<p>Hello world, this is a paragraph.</p>\r\n", 200))
	pdf := binary(b, "application/pdf", strings.Repeat("x", 1<<20), &rfc5322.Disposition{FileName: "a.pdf"})
	h := header(b, "From", "a@example.com", "Subject", "hello", "To", "b@example.com")
	b.Run("shared", func(b *testing.B) { // only the text is this recipient's
		b.ReportAllocs()
		for b.Loop() {
			m := rfc5322.Builder{Text: text(b, "text/plain", "Hello Jane"), HTML: html, Attached: []*rfc5322.Part{pdf}, Header: h, Date: july}
			if _, err := m.Build(nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("text", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := rfc5322.Builder{Text: text(b, "text/plain", "Hello Jane"), Header: h, Date: july}
			if _, err := m.Build(nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	s := strings.Repeat("Grüße aus Wien, this is a line of text.\r\n", 2000)
	b.Run("qp", func(b *testing.B) {
		b.SetBytes(int64(len(s)))
		b.ReportAllocs()
		buf, text := make([]byte, 0, 2*len(s)), []byte(s)
		for b.Loop() {
			rfc5322.AppendQuotedPrintable(buf, text)
		}
	})
	b.Run("base64", func(b *testing.B) {
		b.SetBytes(int64(len(s)))
		b.ReportAllocs()
		buf, data := make([]byte, 0, 2*len(s)), []byte(s)
		for b.Loop() {
			rfc5322.AppendBase64(buf, data)
		}
	})
}
