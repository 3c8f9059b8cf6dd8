package mtakit_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

const (
	day   = 24 * time.Hour
	month = 2630016 * time.Second
	year  = 31557600 * time.Second
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   string
		want time.Duration
	}{
		{"1h 30m", 90 * time.Minute},
		{"1hour 30min", 90 * time.Minute},
		{"2h37min", 157 * time.Minute},
		{"1day 2h", 26 * time.Hour},
		{"4m 50s 207ms 320us 231ns", 290*time.Second + 207320231},
		{"1 hours", time.Hour},
		{"2 hour", 2 * time.Hour},
		{" \t7 days\n", 7 * day},
		{"30m 1h", 90 * time.Minute},
		{"1s1s1s", 3 * time.Second},
		{"0", 0},
		{" 0 ", 0},
		{"0s", 0},
		{"000005s", 5 * time.Second},
		{"4.2s", 4200 * time.Millisecond},
		{"0.5 day", 12 * time.Hour},
		{"1.0000000009s", time.Second},
		{"1.5us", 1500},
		{"5µs", 5 * time.Microsecond},
		{"1M", month},
		{"1m", time.Minute},
		{"292years", 292 * year},
		{"9223372036854775807ns", math.MaxInt64},
	} {
		if got, err := mtakit.ParseDuration(test.in); err != nil || got.Std() != test.want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", test.in, got, err, test.want)
		}
	}
	units := map[time.Duration]string{
		1: "nanos nsec ns", time.Microsecond: "usec us µs", time.Millisecond: "millis msec ms",
		time.Second: "seconds second secs sec s", time.Minute: "minutes minute min mins m", time.Hour: "hours hour hr hrs h",
		day: "days day d", 7 * day: "weeks week wk wks w", month: "months month M", year: "years year yr yrs y",
	}
	for unit, names := range units {
		for name := range strings.FieldsSeq(names) {
			if got, err := mtakit.ParseDuration("3" + name); err != nil || got.Std() != 3*unit {
				t.Errorf("ParseDuration(3%s) = %v, %v, want %v", name, got, err, 3*unit)
			}
		}
	}
	for _, in := range []string{
		"", " ", "5", "0 0", "00", "h", "-1s", "+1s", "1H", "1S", "1 h 5", "1h,30m", "1.s", ".5s", "1.5ns", "1..5s", "5 parsecs", "1e3s",
		"293years", "9223372036854775808ns", "99999999999999999999s", "292years 4months", "١s", "1s\x00",
	} {
		got, err := mtakit.ParseDuration(in)
		if !errors.Is(err, mtakit.ErrBadDuration) || got != 0 {
			t.Errorf("ParseDuration(%q) = %v, %v, want an error", in, got, err)
		} else if !strings.Contains(err.Error(), ", expected a duration: ") {
			t.Errorf("the error does not begin as the reference's: %v", err)
		}
	}
}

func TestDurationString(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"}, {90 * time.Minute, "1h 30m"}, {26 * time.Hour, "1day 2h"}, {7 * day, "7days"}, {day, "1day"}, {87 * time.Minute, "1h 27m"},
		{290*time.Second + 207320231, "4m 50s 207ms 320us 231ns"}, {year + 2*month + 3*day, "1year 2months 3days"}, {-time.Minute, "-1m"},
		{math.MinInt64, "-292years 3months 7days 16h 6m 28s 854ms 775us 808ns"},
	} {
		if got := mtakit.Duration(test.d).String(); got != test.want {
			t.Errorf("%d ns prints as %q, want %q", test.d, got, test.want)
		}
	}
}

func TestDurationJSON(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		`"5m"`: 5 * time.Minute, `300`: 5 * time.Minute, `0.25`: 250 * time.Millisecond, `0`: 0, `1e3`: 1000 * time.Second,
	} {
		var d mtakit.Duration
		if err := json.Unmarshal([]byte(in), &d); err != nil || d.Std() != want {
			t.Errorf("%s is read as %v, %v, want %v", in, d, err, want)
		}
	}
	for _, in := range []string{`-1`, `"x"`, `1e10`, `true`, `{}`, `-0.001`} {
		var d mtakit.Duration
		if err := json.Unmarshal([]byte(in), &d); !errors.Is(err, mtakit.ErrBadDuration) {
			t.Errorf("%s is read as %v, %v, want an error", in, d, err)
		}
	}
	if b, err := json.Marshal(mtakit.Duration(time.Hour)); err != nil || string(b) != `"1h"` {
		t.Errorf("Marshal = %s, %v", b, err)
	}
	for _, s := range []float64{math.NaN(), math.Inf(1), -1, 1e10} {
		if d, err := mtakit.SecondsDuration(s); !errors.Is(err, mtakit.ErrBadDuration) {
			t.Errorf("SecondsDuration(%v) = %v, %v", s, d, err)
		}
	}
}

// FuzzParseDuration: what is printed is read as it was.
func FuzzParseDuration(f *testing.F) {
	f.Add("1day 2h", int64(0))
	f.Add("0.1years", int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, s string, n int64) {
		if d, err := mtakit.ParseDuration(s); err == nil {
			n = int64(d)
			if n < 0 {
				t.Fatalf("%q is %d ns", s, n)
			}
		}
		d := mtakit.Duration(max(n, 0))
		if again, err := mtakit.ParseDuration(d.String()); err != nil || again != d {
			t.Fatalf("%q is read as %v, %v", d.String(), again, err)
		}
	})
}
