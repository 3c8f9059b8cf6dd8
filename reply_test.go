package mtakit_test

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
)

func TestParseResponse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, in, printed string
		want              mtakit.Response
	}{
		{"plain", "250 OK\r\n", "250 OK", mtakit.Response{Code: 250, Text: "OK"}},
		{"code alone", "250\r\n", "250 ", mtakit.Response{Code: 250}},
		{"without a line end", "220 hi", "220 hi", mtakit.Response{Code: 220, Text: "hi"}},
		{"LF", "220 hi\n", "220 hi", mtakit.Response{Code: 220, Text: "hi"}},
		{"enhanced code", "550 5.1.1 no such user\r\n", "550 5.1.1 no such user",
			mtakit.Response{Code: 550, Enhanced: [3]uint16{5, 1, 1}, Text: "no such user"}},
		{"enhanced code alone", "250 2.0.0\r\n", "250 2.0.0 ", mtakit.Response{Code: 250, Enhanced: [3]uint16{2}}},
		{"enhanced code on every line", "550-5.7.26 a\r\n550-5.7.26 b\r\n550 5.7.26\r\n", "550 5.7.26 a b ",
			mtakit.Response{Code: 550, Enhanced: [3]uint16{5, 7, 26}, Text: "a\nb\n"}},
		{"another enhanced code on the second line", "550-5.7.1 a\n550 5.7.2 b\n", "550 5.7.1 a 5.7.2 b",
			mtakit.Response{Code: 550, Enhanced: [3]uint16{5, 7, 1}, Text: "a\n5.7.2 b"}},
		{"enhanced code not on the first line", "550-a\n550 5.7.2 b\n", "550 a 5.7.2 b", mtakit.Response{Code: 550, Text: "a\n5.7.2 b"}},
		{"enhanced code of another class", "450 5.1.1 x\r\n", "450 5.1.1 x", mtakit.Response{Code: 450, Text: "5.1.1 x"}},
		{"too many digits", "550 5.1.1000 x", "550 5.1.1000 x", mtakit.Response{Code: 550, Text: "5.1.1000 x"}},
		{"an address", "550 5.1.1.1 x", "550 5.1.1.1 x", mtakit.Response{Code: 550, Text: "5.1.1.1 x"}},
		{"empty lines", "354-\r\n354-\r\n354 go\r\n", "354   go", mtakit.Response{Code: 354, Text: "\n\ngo"}},
		{"CR within", "250 a\rb\r\n", "250 a b", mtakit.Response{Code: 250, Text: "a\rb"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := mtakit.ParseResponse(test.in)
			if err != nil || got != test.want {
				t.Errorf("ParseResponse = %+v, %v, want %+v", got, err, test.want)
			}
			if s := got.String(); s != test.printed {
				t.Errorf("it prints as %q, want %q", s, test.printed)
			}
		})
	}
	for _, in := range []string{
		"", "\r\n", "2", "25", "250-", "250-a\r\n", "250 a\r\n250 b\r\n", "250-a\r\n251 b\r\n", "150 x", "650 x", "25x x", "250x", "250_x",
		" 250 x", "250 a\r\n\r\n", "250-a\r\n\r\n250 b",
	} {
		if got, err := mtakit.ParseResponse(in); !errors.Is(err, mtakit.ErrBadReply) {
			t.Errorf("ParseResponse(%q) = %+v, %v, want an error", in, got, err)
		}
	}
}

func TestResponseClass(t *testing.T) {
	t.Parallel()
	for code, want := range map[int][3]bool{0: {}, 220: {true}, 299: {true}, 354: {}, 421: {1: true}, 550: {2: true}} {
		r := mtakit.Response{Code: code}
		if got := [3]bool{r.OK(), r.Temporary(), r.Permanent()}; got != want {
			t.Errorf("%d is OK, temporary, permanent: %v, want %v", code, got, want)
		}
	}
	if !(mtakit.Response{Text: "KumoMTA internal: x"}).IsInternal() || (mtakit.Response{Text: "x KumoMTA internal: "}).IsInternal() {
		t.Error("IsInternal is wrong")
	}
}

func TestResponseJSON(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		r    mtakit.Response
		want string
	}{
		{mtakit.Response{}, `{"code":0,"enhanced_code":null,"content":"","command":null}`},
		{mtakit.Response{Code: 250, Enhanced: [3]uint16{2, 0, 0}, Text: "OK", Command: "."},
			`{"code":250,"enhanced_code":{"class":2,"subject":0,"detail":0},"content":"OK","command":".\r\n"}`},
		{mtakit.Response{Code: 550, Text: "a\r\nb\nc\rd", Command: `RCPT TO:<"a b"@c>`},
			`{"code":550,"enhanced_code":null,"content":"a b c d","command":"RCPT TO:<\"a b\"@c>\r\n"}`},
	} {
		b, err := json.Marshal(test.r)
		if want := strings.NewReplacer("<", `\u003c`, ">", `\u003e`).Replace(test.want); err != nil || string(b) != want {
			t.Errorf("Marshal = %s, %v, want %s", b, err, want)
		}
		var got mtakit.Response
		want := test.r
		want.Text = strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ").Replace(want.Text)
		if err := json.Unmarshal([]byte(test.want), &got); err != nil || got != want {
			t.Errorf("%s is read as %+v, %v", test.want, got, err)
		}
	}
	if err := new(mtakit.Response).UnmarshalJSON([]byte(`{"code":"x"}`)); err == nil {
		t.Error("a code that is no number is read")
	}
}

// naiveLine and naiveEnhanced are RFC 5321, 4.2, and RFC 3463, 2, as expressions.
var (
	naiveLine     = regexp.MustCompile(`(?s)^([2-5][0-9][0-9])(?:([ -])(.*))?$`)
	naiveEnhanced = regexp.MustCompile(`(?s)^([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: |$)(.*)$`)
)

// naiveParse says what a reply is by regular expressions: its code, the enhanced code as text, and the lines.
func naiveParse(s string) (code, enhanced string, lines []string, ok bool) {
	in := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	for i, line := range in {
		m := naiveLine.FindStringSubmatch(strings.TrimSuffix(line, "\r"))
		if m == nil || code != "" && m[1] != code || (m[2] == "-") != (i < len(in)-1) {
			return "", "", nil, false
		}
		code = m[1]
		text := m[3]
		if e := naiveEnhanced.FindStringSubmatch(text); e != nil && e[1] == code[:1] {
			full := strings.TrimSuffix(text[:len(text)-len(e[4])], " ")
			if i == 0 {
				enhanced = full
			}
			if full == enhanced {
				text = e[4]
			}
		}
		lines = append(lines, text)
	}
	return code, enhanced, lines, true
}

// FuzzParseResponse compares with naiveParse, and reads what is printed as it was.
func FuzzParseResponse(f *testing.F) {
	for _, s := range []string{"250 OK\r\n", "550-5.7.1 a\r\n550 5.7.1 b\r\n", "421 4.3.2 \r\n", "250", "550 5.1.1", "354-\n354 \n", "220-a\rb\n220\n"} {
		f.Add(s)
	}
	leadingZero := regexp.MustCompile(`(^|[^0-9])0[0-9]`)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := mtakit.ParseResponse(s)
		code, enhanced, lines, ok := naiveParse(s)
		if ok != (err == nil) {
			t.Fatalf("ParseResponse(%q) = %+v, %v", s, r, err)
		}
		if !ok || leadingZero.MatchString(s) {
			return // 5.01.1 is 5.1.1 for us and another text for the expressions
		}
		got := ""
		if r.Enhanced[0] != 0 {
			got = string(mtakit.AppendEnhanced(nil, r.Enhanced))
		}
		if r.String()[:3] != code || got != enhanced || r.Text != strings.Join(lines, "\n") {
			t.Fatalf("ParseResponse(%q) = %+v, want %s %s %q", s, r, code, enhanced, lines)
		}
		if strings.Contains(r.Text, "\r") {
			return // becomes a space, which may end an enhanced code
		}
		again, err := mtakit.ParseResponse(r.String())
		if err != nil || again.String() != r.String() || again.Enhanced != r.Enhanced {
			t.Fatalf("%q is read as %+v, printed as %q, read as %+v, %v", s, r, r.String(), again, err)
		}
	})
}

func BenchmarkParseResponse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := mtakit.ParseResponse("250 2.0.0 Ok: queued as 4XyzAbc\r\n"); err != nil {
			b.Fatal(err)
		}
	}
}
