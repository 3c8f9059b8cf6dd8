package datafile_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

func parse(f datafile.Format, text string) (*datafile.Value, *datafile.Report) {
	r := &datafile.Report{}
	return datafile.Parse("f", []byte(text), f, r), r
}

// dump prints a tree with the place of every key and value.
func dump(b *strings.Builder, v *datafile.Value) {
	at := func(p mtakit.Place) string { return fmt.Sprintf("%d:%d", p.Line, p.Column) }
	switch v.Kind {
	case datafile.Table:
		b.WriteString("{")
		for i, e := range v.Entries {
			if i > 0 {
				b.WriteString(" ")
			}
			fmt.Fprintf(b, "%s@%s=", e.Key, at(e.Place))
			dump(b, e.Value)
		}
		b.WriteString("}")
	case datafile.Array:
		b.WriteString("[")
		for i, e := range v.Items {
			if i > 0 {
				b.WriteString(" ")
			}
			dump(b, e)
		}
		b.WriteString("]")
	default:
		fmt.Fprintf(b, "%v", v.Any())
	}
	if v.Place.Line != 0 {
		b.WriteString("@" + at(v.Place))
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		format datafile.Format
		text   string
		want   string
	}{
		{"toml scalars", datafile.TOML, "a = 1\nb = \"x\"\n  c.d = true\ne = 1_0.5\nf=1979-05-27", `{a@1:1=1@1:5 b@2:1=x@2:5 c@3:3={d@3:5=true@3:9}@3:3 e@4:1=10.5@4:5 f@5:1=1979-05-27@5:3}@1:1`},
		{"toml tables keep their order", datafile.TOML, "[z]\nk=1\n[\"a.b\".x]\nk=2\n[\"a.b\"]\nl=3\n", `{z@1:2={k@2:1=1@2:3}@1:2 a.b@3:2={x@3:8={k@4:1=2@4:3}@3:8 l@6:1=3@6:3}@5:2}@1:1`},
		{"toml array of tables after other tables", datafile.TOML, "[d]\n[e]\n[[d.rule]] # c\n# c\nr=[\n 'x', # c\n '''y''',\n]\n[[d.rule]]\n", `{d@1:2={rule@3:5=[{r@5:1=[x@6:2 y@7:2]@5:3}@3:5 {}@9:5]@3:5}@1:2 e@2:2={}@2:2}@1:1`},
		{"toml inline", datafile.TOML, "a = [{S=\"x\"}, [2, [3]]]\nb = {x = 1, y.z = 2, y.w = 3,\n}\n", `{a@1:1=[{S@1:7=x@1:9}@1:6 [2@1:16 [3@1:20]@1:5]@1:5]@1:5 b@2:1={x@2:6=1@2:10 y@2:13={z@2:15=2@2:19 w@2:24=3@2:28}@2:13}@2:5}@1:1`},
		{"json", datafile.JSON, "{\"b\": [1, 2.5, {\"c\": true}],\n \"a\": \"x\"}", `{b@1:2=[1@1:8 2.5@1:11 {c@1:17=true@1:22}@1:16]@1:7 a@2:2=x@2:7}@1:1`},
		{"json with comments", datafile.CommentedJSON, "# one\n{ // two { \"\n \"a#//\": /* three */ 1 # four\n}", `{a#//@3:2=1@3:22}@2:1`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, r := parse(tt.format, tt.text)
			if err := r.Err(); err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			dump(&b, v)
			if b.String() != tt.want {
				t.Errorf("got  %s\nwant %s", &b, tt.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		format datafile.Format
		text   string
		want   string
	}{
		{"toml syntax", datafile.TOML, "a = 1\nb = = 2\n", "f:2:5: unexpected character U+003D '=' at start of value"},
		{"toml end", datafile.TOML, "a = [1,", "f:1:7: array is incomplete"},
		{"toml key twice, and more", datafile.TOML, "a = 1\na = 2\nb = 1\n\n[c]\n[d]\n[c]\nx = 1\n", "f:2:1: a is already defined at f:1:5\nf:7:2: c is already defined at f:5:2"},
		{"toml key twice in an inline table", datafile.TOML, "a = {b = 1, b = 2}", "f:1:13: b is already defined at f:1:10"},
		{"toml value as a table", datafile.TOML, "a = {b = 1}\n[a.c]\n", "f:2:2: a is already defined as a value at f:1:5"},
		{"toml dotted table again", datafile.TOML, "a.b = 1\n[a]\n", "f:2:2: a is already defined at f:1:1"},
		{"toml table as an array", datafile.TOML, "[a]\n[[a]]\n", "f:2:3: a is already defined, not as an array of tables, at f:1:2"},
		{"toml large", datafile.TOML, "a = 99999999999999999999", "f:1:5: the number 99999999999999999999 is out of range"},
		{"toml deep", datafile.TOML, "a = " + strings.Repeat("[", 70) + strings.Repeat("]", 70), "f:1:5: values are nested too deep"},
		{"toml deep header", datafile.TOML, "[a" + strings.Repeat(".a", 70) + "]", "f:1:130: a is nested too deep"},
		{"json syntax", datafile.JSON, "{\n \"a\": 1,\n}", "f:3:1: invalid character '}'"},
		{"json end", datafile.JSON, "{\"a\": [1", "f:1:9: the file ends too early"},
		{"json empty", datafile.JSON, "", "f:1:1: the file ends too early"},
		{"json comment", datafile.JSON, "{ // x\n}", "f:1:3: invalid character '/'"},
		{"json comment without end", datafile.CommentedJSON, "{ /* x\n}", "f:1:3: invalid character '/'"},
		{"json null and a key twice", datafile.JSON, "{\"a\": null,\n \"a\": 1}", "f:1:7: null is not a value"},
		{"json trailing", datafile.JSON, "{} {}", "f:1:4: text after the end of the value"},
		{"json deep", datafile.JSON, strings.Repeat("[", 70) + strings.Repeat("]", 70), "f:1:65: values are nested too deep"},
		{"json encoding", datafile.JSON, "{\"a\": \"\xff\"}", "f:1:8: invalid UTF-8"},
		{"size", datafile.JSON, strings.Repeat(" ", datafile.MaxSize+1), "f: the file has more than 16777216 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, r := parse(tt.format, tt.text)
			err := r.Err()
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.Split(err.Error(), "\n")
			for i, want := range strings.Split(tt.want, "\n") {
				if i >= len(got) || !strings.HasPrefix(got[i], want) {
					t.Errorf("got  %q\nwant %q", got, want)
					break
				}
			}
		})
	}
}

// FuzzTOML: whatever go-toml takes, and nothing else, is read, with the same values.
func FuzzTOML(f *testing.F) {
	for _, s := range []string{
		"a = 1\n[b]\nc = [{d = 1.5}, 'x']\n[[e]]\n[[e.f]]\n[e.g]\n", "a.b.c = 1\n[a.d]\n", "[a.b]\n[a]\nb.c = 1", "x = {y.z = 1, y.w = {}}\n[x.y]",
		"[[a]]\n[a]", "[a]\nb = {}\n[a.b.c]", "\"\" = '''\n'''\n'a.b' = \"\\u00e9\"", "t = 1979-05-27T07:32:00Z",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, r := parse(datafile.TOML, text)
		var want map[string]any
		err := toml.Unmarshal([]byte(text), &want)
		var got any
		if v != nil {
			got = v.Any()
		}
		if hasTime(v) || strings.Contains(fmt.Sprint(r.Err()), "too deep") {
			return
		}
		if (err == nil) != (r.Err() == nil) {
			t.Fatalf("we say %v, go-toml says %v", r.Err(), err)
		}
		if err == nil && fmt.Sprint(got) != fmt.Sprint(want) { // printed, since NaN is no NaN
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func hasTime(v *datafile.Value) bool {
	if v == nil {
		return false
	}
	for _, e := range v.Entries {
		if hasTime(e.Value) {
			return true
		}
	}
	for _, e := range v.Items {
		if hasTime(e) {
			return true
		}
	}
	return v.Kind == datafile.Time
}

// FuzzJSON: what encoding/json takes is read with the same values, except for what we refuse and it does not; comments
// change nothing, and not even places.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a": [1, 2.5, true, "x\n"], "b": {}}`, `[{"a":1},]`, `{"a":1,"a":2}`, `{"a" 1}`, `[1 2]`, `{"a":null}`, "/**/{}", "1e999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, r := parse(datafile.JSON, text)
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber()
		var want any
		valid := json.Valid([]byte(text))
		if err := r.Err(); err != nil {
			for _, ours := range []string{"is already defined", "null is not", "out of range", "too deep", "invalid UTF-8"} {
				if strings.Contains(err.Error(), ours) {
					return
				}
			}
			if valid {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		if !valid {
			t.Fatal("accepted")
		}
		if err := dec.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if got := v.Any(); !sameJSON(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		c, cr := parse(datafile.CommentedJSON, text)
		if cr.Err() != nil || !reflect.DeepEqual(c, v) {
			t.Fatalf("as JSON with comments it is %v, %v", c, cr.Err())
		}
	})
}

func sameJSON(got, want any) bool {
	switch want := want.(type) {
	case json.Number:
		f, err := want.Float64()
		switch got := got.(type) {
		case int64:
			return want.String() == fmt.Sprint(got) || got == 0
		case float64:
			return err == nil && (got == f || math.IsNaN(f))
		}
		return false
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(want) {
			return false
		}
		for i := range want {
			if !sameJSON(g[i], want[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(want) {
			return false
		}
		for k := range want {
			if !sameJSON(g[k], want[k]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(got, want)
}

func TestMerge(t *testing.T) {
	t.Parallel()
	a, _ := parse(datafile.TOML, "x = [1, 2]\n[t]\na = 1\nb = 2\n[t.u]\nc = 3")
	b, _ := parse(datafile.JSON, `{"new": 1, "x": [3], "t": {"b": 4, "u": {"d": 5}}}`)
	before := fmt.Sprint(a.Any())
	var got strings.Builder
	dump(&got, datafile.Merge(a, b))
	want := `{x@1:12=[3@1:18]@1:17 t@1:22={a@3:1=1@3:5 b@1:28=4@1:33 u@1:36={c@6:1=3@6:5 d@1:42=5@1:47}@5:4}@2:2 new@1:2=1@1:9}@1:1`
	if got.String() != want {
		t.Errorf("got  %s\nwant %s", &got, want)
	}
	if after := fmt.Sprint(a.Any()); after != before {
		t.Errorf("the first was changed from %s to %s", before, after)
	}
}

func BenchmarkParseTOML(b *testing.B) {
	var doc bytes.Buffer
	for i := range 100 {
		fmt.Fprintf(&doc, "[\"d%d.example\"]\nmx_rollup = false\nconnection_limit = 10\nmax_message_rate = \"100/s\"\n\n", i)
	}
	b.SetBytes(int64(doc.Len()))
	b.ReportAllocs()
	for b.Loop() {
		datafile.Parse("f", doc.Bytes(), datafile.TOML, &datafile.Report{})
	}
}
