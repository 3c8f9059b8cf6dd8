package mtakit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

func TestParseID(t *testing.T) {
	t.Parallel()
	const v1 = "1d98076abbbc11ed940250ebf67f93bd"
	for _, test := range []struct {
		name, in, want string // want "" is an error
	}{
		{"as it is printed", v1, v1},
		{"upper case", strings.ToUpper(v1), v1},
		{"hyphens", "1d98076a-bbbc-11ed-9402-50ebf67f93bd", v1},
		{"zero", strings.Repeat("0", 32), strings.Repeat("0", 32)},
		{"empty", "", ""},
		{"too short", v1[1:], ""},
		{"too long", v1 + "0", ""},
		{"not hex", v1[:31] + "g", ""},
		{"hyphens elsewhere", "1d98076ab-bbc-11ed-9402-50ebf67f93bd", ""},
		{"braces", "{1d98076abbbc11ed940250ebf67f93bd}", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			id, err := mtakit.ParseID(test.in)
			if test.want == "" {
				if !errors.Is(err, mtakit.ErrBadID) || !id.IsZero() {
					t.Errorf("ParseID = %v, %v, want ErrBadID", id, err)
				}
				return
			}
			if err != nil || id.String() != test.want {
				t.Errorf("ParseID = %v, %v, want %s", id, err, test.want)
			}
		})
	}
}

func TestIDTime(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, id, want string }{
		{"version 1", "1d98076a-bbbc-11ed-9402-50ebf67f93bd", "2023-03-06T01:13:34.3101802Z"},
		{"version 1, RFC 9562 A.1", "C232AB00-9414-11EC-B3C8-9F6BDECED846", "2022-02-22T19:22:22Z"},
		{"version 7, RFC 9562 A.6", "017F22E2-79B0-7CC3-98C4-DC0C0C07398F", "2022-02-22T19:22:22.000797608Z"},
		{"version 4", "919108f7-52d1-4320-9bac-f847db4148a8", "0001-01-01T00:00:00Z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			id, err := mtakit.ParseID(test.id)
			if err != nil {
				t.Fatal(err)
			}
			if got := id.Time().Format(time.RFC3339Nano); got != test.want {
				t.Errorf("Time is %s, want %s", got, test.want)
			}
		})
	}
}

func TestIDSource(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	s := mtakit.IDSource{Rand: rand.New(rand.NewSource(1))}
	var last mtakit.ID
	var latest time.Time
	for i, step := range []time.Duration{0, 0, 0, time.Nanosecond, time.Millisecond, -time.Hour, -time.Hour, time.Minute, 24 * time.Hour} {
		start = start.Add(step)
		id := s.New(start)
		if id.Compare(last) <= 0 || last.Compare(id) >= 0 || id.Compare(id) != 0 {
			t.Fatalf("id %d is %v, not above %v", i, id, last)
		}
		if id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Errorf("%v is no UUID of version 7", id)
		}
		if d := id.Time().Sub(start); start.Sub(latest) >= time.Millisecond && (d < -250*time.Nanosecond || d > 250*time.Nanosecond) {
			t.Errorf("%v carries a time %v away from that of its creation", id, d)
		}
		last = id
		if start.After(latest) {
			latest = start
		}
	}
	for _, d := range []time.Duration{-time.Second, 0, time.Second} {
		if first := mtakit.FirstID(start.Add(d)); first.Compare(last) > 0 != (d > 0) {
			t.Errorf("FirstID %v later is %v, the last id %v", d, first, last)
		}
	}
	again := mtakit.IDSource{Rand: rand.New(rand.NewSource(1))}
	if a, b := again.New(start), (&mtakit.IDSource{Rand: rand.New(rand.NewSource(1))}).New(start); a != b {
		t.Errorf("one seed gives %v and %v", a, b)
	}
}

func TestIDSourceConcurrent(t *testing.T) {
	t.Parallel()
	var (
		s    mtakit.IDSource
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[mtakit.ID]bool{}
		now  = time.Now()
	)
	for range 8 {
		wg.Go(func() {
			var last mtakit.ID
			for range 500 {
				id := s.New(now)
				mu.Lock()
				if seen[id] || id.Compare(last) <= 0 {
					t.Errorf("%v was given before, or is not above %v", id, last)
				}
				seen[id] = true
				mu.Unlock()
				last = id
			}
		})
	}
	wg.Wait()
}

func TestIDText(t *testing.T) {
	t.Parallel()
	in := struct{ A, B mtakit.ID }{A: new(mtakit.IDSource).New(time.Now())}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out := in
	out.A, out.B = mtakit.ID{}, in.A
	if err := json.Unmarshal(b, &out); err != nil || out != in {
		t.Errorf("%s became %v, %v", b, out, err)
	}
}

// FuzzParseID compares with the plain reading: take the hyphens out, and 32 hex digits must remain.
func FuzzParseID(f *testing.F) {
	f.Add("1d98076abbbc11ed940250ebf67f93bd")
	f.Add("1d98076a-bbbc-11ed-9402-50ebf67f93bd")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := mtakit.ParseID(s)
		plain := strings.ToLower(s)
		if len(s) == 36 {
			plain = strings.ReplaceAll(plain, "-", "")
		}
		naive := len(plain) == 32 && strings.Trim(plain, "0123456789abcdef") == "" &&
			(len(s) == 32 || strings.IndexByte(s, '-') == 8 && bytes.Equal([]byte{s[13], s[18], s[23]}, []byte("---")))
		if naive != (err == nil) {
			t.Fatalf("ParseID(%q) = %v, %v", s, id, err)
		}
		if err == nil && id.String() != plain {
			t.Fatalf("ParseID(%q) prints as %s", s, id)
		}
	})
}

func BenchmarkIDSource(b *testing.B) {
	b.ReportAllocs()
	var s mtakit.IDSource
	now := time.Now()
	for b.Loop() {
		s.New(now)
	}
}
