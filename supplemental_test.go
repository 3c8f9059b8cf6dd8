package mtakit_test

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
)

func TestAppendSupplemental(t *testing.T) {
	t.Parallel()
	meta := map[string]any{"tenant": "a<b>&c", "n": 7, "list": []any{"x", nil}, "bad": math.NaN(), "recipient": "not this", "ü": "ä\r\n"}
	for _, c := range []struct {
		to      []string
		include []string
		want    string
	}{
		{[]string{"b@d.test"}, nil, `{"_@_":"\\_/","recipient":"b@d.test"}`},
		{[]string{`"q\"<é>"@d.test`, "c@d.test"}, nil, `{"_@_":"\\_/","recipient":["\"q\\\"<é>\"@d.test","c@d.test"]}`},
		{[]string{"b@d.test"}, []string{"tenant", "n", "list", "bad", "none", "recipient", "_@_", "n"},
			`{"_@_":"\\_/","bad":null,"list":["x",null],"n":7,"none":null,"recipient":"b@d.test","tenant":"a<b>&c"}`},
		{[]string{"b@d.test"}, []string{"ü"}, `{"_@_":"\\_/","recipient":"b@d.test","ü":"ä\r\n"}`},
		{[]string{strings.Repeat("b", 200) + "@d.test"}, nil, `{"_@_":"\\_/","recipient":"` + strings.Repeat("b", 200) + `@d.test"}`},
	} {
		m := &mtakit.Message{To: c.to, Meta: meta}
		field := string(m.AppendSupplemental([]byte("A: b\r\n"), mtakit.SupplementalField, c.include))
		value, ok := strings.CutPrefix(field, "A: b\r\nX-KumoRef: ")
		value, ended := strings.CutSuffix(value, "\r\n")
		lines := strings.Split(value, "\r\n\t")
		for i, l := range lines {
			if len(l) > 75 || len(l) < 75 && i < len(lines)-1 || strings.ContainsAny(l, "\r\n\t ") {
				t.Errorf("line %q", l)
			}
		}
		j, err := base64.StdEncoding.DecodeString(strings.Join(lines, ""))
		if !ok || !ended || err != nil || string(j) != c.want {
			t.Errorf("%q: %s %v, want %s", field, j, err, c.want)
		}
	}
}
