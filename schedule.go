package mtakit

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Schedule says when a message may be sent. In JSON it has the fields dow, tz, start, end (all or none), first_attempt and
// expires (RFC 3339).
type Schedule struct {
	Window  *Window
	First   time.Time // no attempt before; zero is none
	Expires time.Time // replaces the max_age of the queue; zero is none
}

// Window restricts attempts to some hours of some days of the week, in a time zone.
type Window struct {
	Days       [7]bool // by time.Weekday
	Zone       *time.Location
	Start, End time.Duration // of the local day, to the second; End is exclusive
}

// ErrBadSchedule is wrapped by the errors of [Schedule.UnmarshalJSON].
var ErrBadSchedule = errors.New("bad schedule")

// Adjust is the first moment from t on at which an attempt is allowed. Local days on which the clock skips the start or the
// end are passed over; if no day within the next eight fits, t stays.
func (s *Schedule) Adjust(t time.Time) time.Time {
	if s == nil {
		return t
	}
	if t.Before(s.First) {
		t = s.First
	}
	w := s.Window
	if w == nil {
		return t
	}
	y, m, d := t.In(w.Zone).Date()
	for i := range 8 {
		start, ok1 := w.at(y, m, d+i, w.Start)
		end, ok2 := w.at(y, m, d+i, w.End)
		switch {
		case !ok1 || !ok2 || !w.Days[start.Weekday()]:
		case t.Before(start):
			return start
		case t.Before(end):
			return t
		}
	}
	return t
}

// at is the moment with clock time c on a local day; not ok if that moment does not exist.
func (w *Window) at(y int, m time.Month, d int, c time.Duration) (time.Time, bool) {
	h, mi, s := int(c/time.Hour), int(c/time.Minute)%60, int(c/time.Second)%60
	t := time.Date(y, m, d, h, mi, s, 0, w.Zone)
	return t, t.Hour() == h%24 && t.Minute() == mi && t.Second() == s
}

type scheduleJSON struct {
	Dow          string     `json:"dow,omitempty"`
	TZ           string     `json:"tz,omitempty"`
	Start        string     `json:"start,omitempty"`
	End          string     `json:"end,omitempty"`
	FirstAttempt *time.Time `json:"first_attempt,omitempty"`
	Expires      *time.Time `json:"expires,omitempty"`
}

// MarshalJSON writes the fields that are set, days as a list of three-letter names from Mon to Sun.
func (s *Schedule) MarshalJSON() ([]byte, error) {
	var j scheduleJSON
	if w := s.Window; w != nil {
		var days []string
		for i := 1; i <= 7; i++ {
			if w.Days[i%7] {
				days = append(days, time.Weekday(i % 7).String()[:3])
			}
		}
		clock := func(c time.Duration) string {
			return fmt.Sprintf("%02d:%02d:%02d", c/time.Hour, c/time.Minute%60, c/time.Second%60)
		}
		j.Dow, j.TZ, j.Start, j.End = strings.Join(days, ","), w.Zone.String(), clock(w.Start), clock(w.End)
	}
	if !s.First.IsZero() {
		j.FirstAttempt = &s.First
	}
	if !s.Expires.IsZero() {
		j.Expires = &s.Expires
	}
	return json.Marshal(j)
}

// UnmarshalJSON refuses unknown fields, a window of which a part is missing, and one that ends before it starts.
func (s *Schedule) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	var j scheduleJSON
	if err := dec.Decode(&j); err != nil {
		return fmt.Errorf("%w: %w", ErrBadSchedule, err)
	}
	*s = Schedule{}
	if j.FirstAttempt != nil {
		s.First = *j.FirstAttempt
	}
	if j.Expires != nil {
		s.Expires = *j.Expires
	}
	var missing []string
	for _, f := range [...]struct{ name, v string }{{"dow", j.Dow}, {"tz", j.TZ}, {"start", j.Start}, {"end", j.End}} {
		if f.v == "" {
			missing = append(missing, f.name)
		}
	}
	if len(missing) == 4 {
		return nil
	}
	if missing != nil {
		return fmt.Errorf("%w: dow, tz, start and end go together; missing: %s", ErrBadSchedule, strings.Join(missing, ", "))
	}
	w := &Window{}
	for d := range strings.SplitSeq(j.Dow, ",") {
		i, ok := weekday(d)
		if !ok {
			return fmt.Errorf("%w: %q is not a day of the week", ErrBadSchedule, d)
		}
		w.Days[i] = true
	}
	var err error
	if w.Zone, err = time.LoadLocation(j.TZ); err != nil {
		return fmt.Errorf("%w: %w", ErrBadSchedule, err)
	}
	if w.Start, err = clockTime(j.Start); err != nil {
		return err
	}
	if w.End, err = clockTime(j.End); err != nil {
		return err
	}
	if w.Start > w.End {
		return fmt.Errorf("%w: start %s is after end %s", ErrBadSchedule, j.Start, j.End)
	}
	s.Window = w
	return nil
}

func weekday(s string) (int, bool) {
	for i := range 7 {
		if n := time.Weekday(i).String(); strings.EqualFold(s, n) || strings.EqualFold(s, n[:3]) {
			return i, true
		}
	}
	return 0, false
}

func clockTime(s string) (time.Duration, error) {
	t, err := time.Parse(time.TimeOnly, s)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is not HH:MM:SS", ErrBadSchedule, s)
	}
	return t.Sub(t.Truncate(24 * time.Hour)), nil
}
