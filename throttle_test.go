package mtakit_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

func TestParseRate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in, printed string // printed "" is in
		want        mtakit.Rate
	}{
		{"100/h", "", mtakit.Rate{N: 100, Per: time.Hour}},
		{"10000/hr", "10000/h", mtakit.Rate{N: 10000, Per: time.Hour}},
		{"1_000/hour", "1000/h", mtakit.Rate{N: 1000, Per: time.Hour}},
		{"10,000/day", "10000/d", mtakit.Rate{N: 10000, Per: day}},
		{"100/5min", "100/300s", mtakit.Rate{N: 100, Per: 5 * time.Minute}},
		{"1/minute", "1/m", mtakit.Rate{N: 1, Per: time.Minute}},
		{"10/90s", "", mtakit.Rate{N: 10, Per: 90 * time.Second}},
		{"5/60sec", "5/m", mtakit.Rate{N: 5, Per: time.Minute}},
		{"local:1/d,max_burst=1", "", mtakit.Rate{N: 1, Burst: 1, Per: day, Local: true}},
		{"1,000/s,max_burst=2,0_0", "1000/s,max_burst=200", mtakit.Rate{N: 1000, Burst: 200, Per: time.Second}},
		{"1/2d", "1/172800s", mtakit.Rate{N: 1, Per: 2 * day}},
	} {
		got, err := mtakit.ParseRate(test.in)
		if err != nil || got != test.want {
			t.Errorf("ParseRate(%q) = %+v, %v, want %+v", test.in, got, err, test.want)
		}
		if want := test.printed; want == "" && got.String() != test.in || want != "" && got.String() != want {
			t.Errorf("%q prints as %q", test.in, got)
		}
	}
	for _, in := range []string{
		"", "100", "0/s", "-1/s", "+1/s", "/s", "1/", "1/x", "1/hours", "1/ s", " 1/s", "1/0s", "1/s,max_burst=0", "1/s,max_burst=", "1/s,burst=1",
		"LOCAL:1/s", "1/99999999999999d", "9999999999999999/s", "1/-5s", "_/s",
	} {
		if got, err := mtakit.ParseRate(in); !errors.Is(err, mtakit.ErrBadRate) || !got.IsZero() {
			t.Errorf("ParseRate(%q) = %+v, %v, want an error", in, got, err)
		}
	}
	if r := (mtakit.Rate{N: 90, Per: time.Minute}); r.PerSecond() != 1.5 {
		t.Errorf("PerSecond = %v", r.PerSecond())
	}
}

func TestLimitJSON(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]mtakit.Limit{
		`32`: {N: 32}, `"32"`: {N: 32}, `"local:1,000"`: {N: 1000, Local: true}, `{"limit": 5, "force_local": true}`: {N: 5, Local: true}, `{"limit":1}`: {N: 1},
	} {
		var got mtakit.Limit
		if err := json.Unmarshal([]byte(in), &got); err != nil || got != want {
			t.Errorf("%s is read as %+v, %v, want %+v", in, got, err, want)
		}
		b, err := json.Marshal(got)
		var again mtakit.Limit
		if err2 := json.Unmarshal(b, &again); err != nil || err2 != nil || again != got {
			t.Errorf("%+v is written as %s and read as %+v, %v, %v", got, b, again, err, err2)
		}
		if again, err := mtakit.ParseLimit(got.String()); err != nil || again != got {
			t.Errorf("%+v prints as %q", got, got)
		}
	}
	for _, in := range []string{`0`, `-1`, `"0"`, `""`, `{}`, `{"limit":0}`} {
		var got mtakit.Limit
		if err := json.Unmarshal([]byte(in), &got); !errors.Is(err, mtakit.ErrBadLimit) {
			t.Errorf("%s is read as %+v, %v, want an error", in, got, err)
		}
	}
	for _, in := range []string{`1.5`, `[]`, `true`, `{"limit":"x"}`} {
		if err := json.Unmarshal([]byte(in), new(mtakit.Limit)); err == nil {
			t.Errorf("%s is read", in)
		}
	}
}

// FuzzParseRate: what is printed is read as it was, and stays as it is printed.
func FuzzParseRate(f *testing.F) {
	f.Add("local:1_0,0/5min,max_burst=3")
	f.Add("local:32")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := mtakit.ParseRate(s); err == nil {
			if again, err := mtakit.ParseRate(r.String()); err != nil || again != r || r.N <= 0 || r.Per <= 0 || r.Burst < 0 {
				t.Fatalf("%q is %+v, printed as %q, read as %+v, %v", s, r, r, again, err)
			}
		}
		if l, err := mtakit.ParseLimit(s); err == nil {
			if again, err := mtakit.ParseLimit(l.String()); err != nil || again != l || l.N <= 0 {
				t.Fatalf("%q is %+v, printed as %q, read as %+v, %v", s, l, l, again, err)
			}
		}
	})
}
