package mtakit_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

func parseSchedule(t *testing.T, s string) *mtakit.Schedule {
	t.Helper()
	sched := new(mtakit.Schedule)
	if err := json.Unmarshal([]byte(s), sched); err != nil {
		t.Fatal(err)
	}
	return sched
}

func TestScheduleAdjust(t *testing.T) {
	t.Parallel()
	const (
		office = `{"dow":"Mon,Tue,Wed,Thu,Fri","tz":"America/Phoenix","start":"09:00:00","end":"17:00:00"}`
		berlin = `{"dow":"Sat,Sun,Mon","tz":"Europe/Berlin","start":"02:30:00","end":"04:00:00"}` // 2026-03-29 has no 02:30
		cairo  = `{"dow":"Thu,Fri,Sat","tz":"Africa/Cairo","start":"00:00:00","end":"10:00:00"}`  // 2026-04-24 begins at 01:00
	)
	for _, test := range []struct{ name, sched, at, want string }{
		{"nothing set", `{}`, "2026-05-04T03:00:00Z", "2026-05-04T03:00:00Z"},
		{"before the first attempt", `{"first_attempt":"2026-05-05T00:00:00+02:00"}`, "2026-05-04T03:00:00Z", "2026-05-04T22:00:00Z"},
		{"after the first attempt", `{"first_attempt":"2026-05-04T00:00:00Z"}`, "2026-05-04T03:00:00Z", "2026-05-04T03:00:00Z"},
		{"within the window", office, "2026-05-04T09:30:00-07:00", "2026-05-04T09:30:00-07:00"},
		{"start belongs to the window", office, "2026-05-04T09:00:00-07:00", "2026-05-04T09:00:00-07:00"},
		{"end does not", office, "2026-05-04T17:00:00-07:00", "2026-05-05T09:00:00-07:00"},
		{"a nanosecond before the end", office, "2026-05-04T16:59:59.999999999-07:00", "2026-05-04T16:59:59.999999999-07:00"},
		{"too early", office, "2026-05-04T01:00:00-07:00", "2026-05-04T09:00:00-07:00"},
		{"over the weekend", office, "2026-05-08T18:00:00-07:00", "2026-05-11T09:00:00-07:00"},
		{"the day is that of the zone", office, "2026-05-11T01:00:00Z", "2026-05-11T09:00:00-07:00"},
		{"first attempt within a window of later", `{"first_attempt":"2026-05-09T00:00:00Z","dow":"Mon","tz":"UTC","start":"08:00:00","end":"09:00:00"}`,
			"2026-05-04T08:30:00Z", "2026-05-11T08:00:00Z"},
		{"the same day next week", `{"dow":"Mon","tz":"UTC","start":"08:00:00","end":"09:00:00"}`, "2026-05-04T10:00:00Z", "2026-05-11T08:00:00Z"},
		{"the clock skips the start", berlin, "2026-03-28T05:00:00+01:00", "2026-03-30T02:30:00+02:00"},
		{"the clock skips midnight", cairo, "2026-04-23T11:00:00+02:00", "2026-04-25T00:00:00+03:00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			at, err1 := time.Parse(time.RFC3339, test.at)
			want, err2 := time.Parse(time.RFC3339, test.want)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			s := parseSchedule(t, test.sched)
			got := s.Adjust(at)
			if !got.Equal(want) {
				t.Errorf("Adjust(%s) = %s, want %s", test.at, got.Format(time.RFC3339Nano), test.want)
			}
			if again := s.Adjust(got); !again.Equal(got) {
				t.Errorf("Adjust moves its own answer %v to %v", got, again)
			}
		})
	}
	var none *mtakit.Schedule
	if now := time.Now(); !none.Adjust(now).Equal(now) {
		t.Error("nil is not always")
	}
}

// Over two years of hours the answer is never early, always allowed, and the next allowed second.
func TestScheduleAdjustZones(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"UTC", "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe", "America/New_York", "Asia/Kathmandu"} {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			s := parseSchedule(t, `{"dow":"tuesday,Wed,SUNDAY","tz":"`+zone+`","start":"04:00:00","end":"23:30:00"}`)
			w := s.Window
			for at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2028; at = at.Add(7*time.Hour + 13*time.Minute) {
				got := s.Adjust(at)
				u := got.In(w.Zone)
				clock := time.Duration(u.Hour())*time.Hour + time.Duration(u.Minute())*time.Minute
				switch {
				case got.Before(at):
					t.Fatalf("Adjust(%v) = %v goes back", at, got)
				case !w.Days[u.Weekday()] || clock < w.Start || clock >= w.End:
					t.Fatalf("Adjust(%v) = %v is outside of the window", at, u)
				case !got.Equal(at) && clock != w.Start:
					t.Fatalf("Adjust(%v) = %v is neither the time itself nor a start", at, u)
				case got.Sub(at) > 4*24*time.Hour:
					t.Fatalf("Adjust(%v) = %v is too late", at, u)
				}
			}
		})
	}
}

func TestScheduleJSON(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		`{}`,
		`{"dow":"Mon,Sun","tz":"Europe/Berlin","start":"09:00:00","end":"17:30:59"}`,
		`{"first_attempt":"2026-05-05T00:00:00+02:00","expires":"2026-06-05T00:00:00Z"}`,
	} {
		if b, err := json.Marshal(parseSchedule(t, s)); err != nil || string(b) != s {
			t.Errorf("%s is written as %s, %v", s, b, err)
		}
	}
	for _, s := range []string{
		`{"dow":"Mon"}`, `{"dow":"Mon","tz":"UTC","start":"09:00:00"}`, `{"dow":"Foo","tz":"UTC","start":"09:00:00","end":"10:00:00"}`,
		`{"dow":"Mon","tz":"Mars/Olympus","start":"09:00:00","end":"10:00:00"}`, `{"dow":"Mon","tz":"UTC","start":"10:00:00","end":"09:00:00"}`,
		`{"dow":"Mon","tz":"UTC","start":"9h","end":"10:00:00"}`, `{"dow":"Mon","tz":"UTC","start":"09:00:00","end":"25:00:00"}`,
		`{"dow":"Mon, Tue","tz":"UTC","start":"09:00:00","end":"10:00:00"}`, `{"unknown":1}`, `{"expires":"tomorrow"}`, `[]`,
	} {
		if err := json.Unmarshal([]byte(s), new(mtakit.Schedule)); !errors.Is(err, mtakit.ErrBadSchedule) {
			t.Errorf("%s: %v, want ErrBadSchedule", s, err)
		}
	}
}
