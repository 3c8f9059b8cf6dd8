package rfc5322_test

import (
	"bytes"
	"errors"
	"mime"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/mtakit/mtakit/rfc5322"
)

func TestRebuild(t *testing.T) {
	t.Parallel()
	lines := func(s ...string) string { return strings.Join(s, "\r\n") }
	for _, c := range []struct{ name, in, want string }{
		{"plain", "Subject: hi\n\nhello\n", lines("Content-Type: text/plain;", "\tcharset=\"us-ascii\"", "Subject: hi", "Mime-Version: 1.0", "", "hello", "")},
		{
			"8 bit", "From: Zoë <a@b.c>\nSubject: Grüße\nMIME-Version: 1.0\nContent-Type: text/html; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nä = b\n",
			lines("Content-Type: text/html;", "\tcharset=\"utf-8\"", "Content-Transfer-Encoding: quoted-printable", "From: =?UTF-8?q?Zo=C3=AB?= <a@b.c>", "Subject: =?UTF-8?q?Gr=C3=BC=C3=9Fe?=",
				"MIME-Version: 1.0", "", "=C3=A4 =3D b", ""),
		},
		{
			"charset", "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\nSubject: =?UTF-8?q?Gr=C3=BC=C3=9Fe_?=\n =?UTF-8?q?aus_Wien?=\n\n=E4",
			lines("Content-Type: text/plain;", "\tcharset=\"utf-8\"", "Content-Transfer-Encoding: quoted-printable", "Subject: =?UTF-8?q?Gr=C3=BC=C3=9Fe_aus_Wien?=", "Mime-Version: 1.0", "", "=C3=A4", ""),
		},
		{
			"multipart", "Content-Type: multipart/mixed; boundary=x; a=b\nX: 1\n\nintro\n--x\n\nä\n--x\nContent-Type: image/png; name=a.png\nContent-Transfer-Encoding: base64\n" +
				"Content-Disposition: attachment; filename=a.png\n\niVBORw==\n--x\nContent-Type: message/rfc822\n\nSubject: ü\n\nö\n--x--\noutro\n",
			lines("Content-Type: multipart/mixed;", "\ta=\"b\";", "\tboundary=\"x\"", "X: 1", "Mime-Version: 1.0", "",
				"--x", "Content-Type: text/plain;", "\tcharset=\"utf-8\"", "Content-Transfer-Encoding: quoted-printable", "", "=C3=A4",
				"--x", "Content-Type: image/png;", "\tname=\"a.png\"", "Content-Transfer-Encoding: base64", "Content-Disposition: attachment; filename=a.png", "", "iVBORw==",
				"--x", "Content-Type: message/rfc822", "", "Content-Type: text/plain;", "\tcharset=\"utf-8\"", "Content-Transfer-Encoding: quoted-printable", "Subject: =?UTF-8?q?=C3=BC?=", "",
				"=C3=B6", "--x--", ""),
		},
		{
			"binary", "Content-Type: application/x\n\nä",
			lines("Content-Type: application/x", "Content-Transfer-Encoding: base64", "Mime-Version: 1.0", "", "w6Q=", "", ""),
		},
		{
			"damaged", " first\nno colon here\nSub ject: x\nGood: y\n\nb",
			lines("Content-Type: text/plain;", "\tcharset=\"us-ascii\"", "Good: y", "Mime-Version: 1.0", "", "b", ""),
		},
		{"empty", "", lines("Content-Type: text/plain;", "\tcharset=\"us-ascii\"", "Mime-Version: 1.0", "", "", "")},
		{"no parts", "Content-Type: multipart/mixed; boundary=x\n\nhello", lines("Content-Type: text/plain;", "\tcharset=\"us-ascii\"", "Mime-Version: 1.0", "", "hello", "")},
		{"bad base64", "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!", lines("Content-Type: text/plain", "Content-Transfer-Encoding: base64", "Mime-Version: 1.0", "", "!!!", "")},
	} {
		got, err := rfc5322.Rebuild([]byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := string(bytes.Join(got, nil)); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, strings.ReplaceAll(got, "\r", "␍"), strings.ReplaceAll(c.want, "\r", "␍"))
		}
	}
}

func TestRebuildLimits(t *testing.T) {
	t.Parallel()
	deep := ""
	for i := range 30 {
		b := strings.Repeat("x", i+1)
		deep += "Content-Type: multipart/mixed; boundary=" + b + "\n\n--" + b + "\n"
	}
	wide := "Content-Type: multipart/mixed; boundary=x\n\n" + strings.Repeat("--x\n\n", 2000)
	for _, in := range []string{deep, wide} {
		if _, err := rfc5322.Rebuild([]byte(in)); !errors.Is(err, rfc5322.ErrTooComplex) {
			t.Errorf("%.40q…: %v", in, err)
		}
	}
}

// FuzzRebuild: whatever comes in, what goes out can be sent, and is rebuilt to itself.
func FuzzRebuild(f *testing.F) {
	f.Add("Subject: ü\r\nFrom: Ä <a@b>\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nä\r\n--x\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\nAA==\r\n--x--\r\n")
	f.Add("Content-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: quoted-printable\n\n=00=\n")
	f.Add("Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Transfer-Encoding: base64\n\nDQotLXgNCg==\n--x--")
	f.Add("Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\nä: ö")
	f.Fuzz(func(t *testing.T, in string) {
		out, err := rfc5322.Rebuild([]byte(in))
		if err != nil {
			return
		}
		msg := bytes.Join(out, nil)
		for line := range bytes.SplitSeq(msg, []byte("\r\n")) {
			if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("%q gives the line %q", in, line)
			}
		}
		h, body := rfc5322.Split(msg)
		for f := range h.Fields() {
			if f.Name() == nil || !isASCII(f) && !rfc5322.IsAddressField(string(f.Name())) {
				t.Fatalf("%q gives the line %q in the header", in, f)
			}
		}
		if !isASCII(body) && !strings.Contains(strings.ToLower(in), "rfc822") {
			t.Fatalf("%q gives the body %q", in, body)
		}
		if kind, params, err := mime.ParseMediaType(string(h.Get("Content-Type").Value())); err == nil && strings.HasPrefix(kind, "multipart/") {
			r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
			if _, err := r.NextRawPart(); err != nil && !strings.Contains(err.Error(), "malformed MIME header") { // names that RFC 5322 allows
				t.Fatalf("%q gives\n%s\nand that %v", in, msg, err)
			}
		}
	})
}

func isASCII(b []byte) bool {
	return !bytes.ContainsFunc(b, func(r rune) bool { return r > 127 })
}
