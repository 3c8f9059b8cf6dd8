package mtakit

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that is written as people write it: "1day 2h", "5m", "1h 30m". In JSON it is that text, or on input
// also a number of seconds.
type Duration time.Duration

const (
	day   = 24 * time.Hour
	month = 2630016 * time.Second  // 30.44 days
	year  = 31557600 * time.Second // 365.25 days
)

// Std is d as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String prints the components from years to nanoseconds that are not zero, separated by spaces; "0s" for zero. A
// negative duration gets a sign in front, which [ParseDuration] does not read.
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	var b []byte
	rest := uint64(d)
	if d < 0 {
		b, rest = append(b, '-'), -rest
	}
	start := len(b)
	for _, u := range [...]struct {
		unit   time.Duration
		name   string
		plural bool
	}{
		{year, "year", true}, {month, "month", true}, {day, "day", true}, {time.Hour, "h", false}, {time.Minute, "m", false},
		{time.Second, "s", false}, {time.Millisecond, "ms", false}, {time.Microsecond, "us", false}, {1, "ns", false},
	} {
		n := rest / uint64(u.unit)
		if n == 0 {
			continue
		}
		rest -= n * uint64(u.unit)
		if len(b) > start {
			b = append(b, ' ')
		}
		b = append(strconv.AppendUint(b, n, 10), u.name...)
		if u.plural && n > 1 {
			b = append(b, 's')
		}
	}
	return string(b)
}

// ErrBadDuration is wrapped by the errors of [ParseDuration].
var ErrBadDuration = errors.New("expected a duration")

// ParseDuration reads one or more groups of a number and a unit, which add up: "90m", "1 hour 30min", "1.5s". Spaces are
// allowed around and between both; a lone 0 needs no unit. Units, in singular and plural alike: nanos nsec ns, usec us µs,
// millis msec ms, seconds second secs sec s, minutes minute min mins m, hours hour hr hrs h, days day d, weeks week wk wks w,
// months month M (30.44 days), years year yr yrs y (365.25 days).
func ParseDuration(s string) (Duration, error) {
	bad := func(why string) (Duration, error) {
		return 0, fmt.Errorf("invalid value: string %q, %w: %s", s, ErrBadDuration, why)
	}
	rest := strings.TrimLeft(s, " \t\n\r")
	if strings.TrimSpace(rest) == "0" {
		return 0, nil
	}
	var sum time.Duration
	for groups := 0; ; groups++ {
		rest = strings.TrimLeft(rest, " \t\n\r")
		if rest == "" {
			if groups == 0 {
				return bad("it is empty")
			}
			return Duration(sum), nil
		}
		n := 0
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		if n == 0 {
			return bad("a number is missing at " + strconv.Quote(rest))
		}
		whole, err := strconv.ParseUint(rest[:n], 10, 63)
		if err != nil {
			return bad("the number is too large")
		}
		rest = rest[n:]
		frac := ""
		if strings.HasPrefix(rest, ".") {
			n = 1
			for n < len(rest) && isDigit(rest[n]) {
				n++
			}
			if frac = rest[1:n]; frac == "" {
				return bad("digits are missing after the point")
			}
			rest = rest[n:]
		}
		rest = strings.TrimLeft(rest, " \t\n\r")
		n = 0
		for n < len(rest) && !isDigit(rest[n]) && !strings.ContainsRune(" \t\n\r.", rune(rest[n])) {
			n++
		}
		unit := durationUnit(rest[:n])
		if unit == 0 {
			return bad("the unit " + strconv.Quote(rest[:n]) + " is not known")
		}
		if unit == 1 && frac != "" {
			return bad("there are no parts of a nanosecond")
		}
		rest = rest[n:]
		if whole > uint64(math.MaxInt64/unit) {
			return bad("it is too long")
		}
		d := time.Duration(whole) * unit
		for scale := unit / 10; frac != "" && scale > 0; frac, scale = frac[1:], scale/10 {
			d += time.Duration(frac[0]-'0') * scale
		}
		if sum+d < sum || d < 0 {
			return bad("it is too long")
		}
		sum += d
	}
}

func durationUnit(s string) time.Duration {
	switch s {
	case "nanos", "nsec", "ns":
		return 1
	case "usec", "us", "µs":
		return time.Microsecond
	case "millis", "msec", "ms":
		return time.Millisecond
	case "seconds", "second", "secs", "sec", "s":
		return time.Second
	case "minutes", "minute", "min", "mins", "m":
		return time.Minute
	case "hours", "hour", "hr", "hrs", "h":
		return time.Hour
	case "days", "day", "d":
		return day
	case "weeks", "week", "wk", "wks", "w":
		return 7 * day
	case "months", "month", "M":
		return month
	case "years", "year", "yr", "yrs", "y":
		return year
	}
	return 0
}

// SecondsDuration is a number of seconds as a Duration. Negative, infinite and too large numbers are errors that wrap
// ErrBadDuration.
func SecondsDuration(s float64) (Duration, error) {
	if !(s >= 0) || s >= float64(math.MaxInt64)/1e9 {
		return 0, fmt.Errorf("invalid value: %v, %w of seconds from 0", s, ErrBadDuration)
	}
	return Duration(math.Round(s * 1e9)), nil
}

// MarshalText returns String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is [ParseDuration].
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

// UnmarshalJSON reads the text form or a number of seconds.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	var err error
	switch v := v.(type) {
	case string:
		*d, err = ParseDuration(v)
	case float64:
		*d, err = SecondsDuration(v)
	default:
		err = fmt.Errorf("invalid value: %s, %w", b, ErrBadDuration)
	}
	return err
}
