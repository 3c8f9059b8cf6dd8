package mtakit_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
)

func TestQueueName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		want       mtakit.QueueName
	}{
		{"domain", "example.com", mtakit.QueueName{Domain: "example.com"}},
		{"tenant", "t@example.com", mtakit.QueueName{Tenant: "t", Domain: "example.com"}},
		{"campaign", "c:@example.com", mtakit.QueueName{Campaign: "c", Domain: "example.com"}},
		{"both", "c:t@example.com", mtakit.QueueName{Campaign: "c", Tenant: "t", Domain: "example.com"}},
		{"all", "c:t@example.com!mx.example", mtakit.QueueName{Campaign: "c", Tenant: "t", Domain: "example.com", Routing: "mx.example"}},
		{"routing alone", "example.com!mx.example", mtakit.QueueName{Domain: "example.com", Routing: "mx.example"}},
		{"a port is part of the domain", "host:2025", mtakit.QueueName{Domain: "host:2025"}},
		{"first @", "a@b@c", mtakit.QueueName{Tenant: "a", Domain: "b@c"}},
		{"first colon", "a:b:c@d", mtakit.QueueName{Campaign: "a", Tenant: "b:c", Domain: "d"}},
		{"first !", "a!b!c", mtakit.QueueName{Domain: "a", Routing: "b!c"}},
		{"empty", "", mtakit.QueueName{}},
		{"nothing but separators", ":@!", mtakit.QueueName{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := mtakit.ParseQueueName(test.text)
			if got != test.want {
				t.Errorf("ParseQueueName = %+v, want %+v", got, test.want)
			}
			want := test.text
			if want == ":@!" {
				want = ""
			}
			if s := got.String(); s != want || string(got.Append([]byte("x"))) != "x"+want {
				t.Errorf("String = %q, want %q", s, want)
			}
		})
	}
}

func TestRoutingDomain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"t@a!b": "b", "t@a": "a", "": ""} {
		if got := mtakit.ParseQueueName(text).RoutingDomain(); got != want {
			t.Errorf("%q goes to %q, want %q", text, got, want)
		}
	}
}

func TestDeriveQueue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		to   []string
		meta map[string]any
		want string
		bad  string
	}{
		{"domain of the first recipient, in lower case", []string{"a@EXAMPLE.com", "b@other.example"}, nil, "example.com", ""},
		{"last @", []string{`"a@b"@Example.com`}, nil, "example.com", ""},
		{"no domain", []string{"postmaster"}, nil, "", ""},
		{"no recipient", nil, map[string]any{"tenant": "t"}, "t@", ""},
		{"all parts", []string{"a@b"}, map[string]any{"tenant": "t", "campaign": "c", "routing_domain": "R"}, "c:t@b!R", ""},
		{"nil is unset", []string{"a@b"}, map[string]any{"tenant": nil, "queue": nil}, "b", ""},
		{"whole name", []string{"a@b"}, map[string]any{"tenant": 1, "queue": "X:y@Z"}, "X:y@Z", ""},
		{"wrong type", []string{"a@b"}, map[string]any{"campaign": 7.0}, "", "campaign"},
		{"wrong type of the whole name", []string{"a@b"}, map[string]any{"queue": []any{}}, "", "queue"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := mtakit.Message{To: test.to, Meta: test.meta}
			got, err := m.DeriveQueue()
			if bad, _ := err.(*mtakit.BadMetaError); test.bad != "" {
				if bad == nil || bad.Key != test.bad || !strings.Contains(err.Error(), test.bad) {
					t.Errorf("DeriveQueue = %q, %v, want an error about %s", got, err, test.bad)
				}
			} else if err != nil || got.String() != test.want {
				t.Errorf("DeriveQueue = %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// FuzzQueueName: what is printed is read as it was, from the first reading on.
func FuzzQueueName(f *testing.F) {
	for _, s := range []string{"c:t@d!r", "c:@d", "@", ":@", "!", "a@b:c!d@e", "x:y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := mtakit.ParseQueueName(s)
		// The first separators, by the book.
		prefix, rest, ok := strings.Cut(s, "@")
		if !ok {
			prefix, rest = "", s
		}
		if i := strings.Index(prefix, ":"); i >= 0 && (q.Campaign != prefix[:i] || q.Tenant != prefix[i+1:]) || i < 0 && q.Tenant != prefix {
			t.Fatalf("%q has the campaign %q and the tenant %q", s, q.Campaign, q.Tenant)
		}
		if q.Domain+"!"+q.Routing != rest && q.Domain != rest {
			t.Fatalf("%q has the domain %q and the routing domain %q", s, q.Domain, q.Routing)
		}
		printed := q.String()
		again := mtakit.ParseQueueName(printed)
		if q.Campaign == "" && (strings.Contains(q.Tenant, ":") || q.Tenant == "" && strings.Contains(rest, "@")) {
			return // an empty part before the separator is not printed
		}
		if again != q || again.String() != printed {
			t.Fatalf("%q is read as %+v, printed as %q, and read as %+v", s, q, printed, again)
		}
	})
}

func TestQueueNameJSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(mtakit.QueueName{Tenant: "t", Domain: "d"})
	if err != nil || string(b) != `"t@d"` {
		t.Errorf("Marshal = %s, %v", b, err)
	}
	var q mtakit.QueueName
	if err := json.Unmarshal([]byte(`"c:t@d!r"`), &q); err != nil || q.String() != "c:t@d!r" {
		t.Errorf("Unmarshal = %+v, %v", q, err)
	}
}

func BenchmarkQueueNameAppend(b *testing.B) {
	q := mtakit.ParseQueueName("campaign:tenant@example.com")
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = q.Append(buf[:0])
	}
}
