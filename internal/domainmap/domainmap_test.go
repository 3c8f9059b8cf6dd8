package domainmap_test

import (
	"testing"

	"github.com/mtakit/mtakit/internal/domainmap"
)

func TestGet(t *testing.T) {
	t.Parallel()
	var m domainmap.Map[string]
	for _, k := range []string{"*.example.com", "x.y.example.com", "somewhere.com", "*", "*.net", "a.net"} {
		m.Set(k, k)
	}
	tests := []struct{ domain, want string }{
		{"a.example.com", "*.example.com"},
		{"a.b.example.com", "*.example.com"},
		{"example.com", ""},
		{"x.y.example.com", "x.y.example.com"},
		{"y.example.com", ""},
		{"q.y.example.com", ""},
		{"somewhere.com", "somewhere.com"},
		{"other.com", ""},
		{"other.org", "*"},
		{"org", "*"},
		{"a.net", "a.net"},
		{"b.a.net", ""},
		{"net", ""},
		{"A.net", "*.net"},
		{"a.net.", "*"},
		{"", ""},
	}
	for _, tt := range tests {
		if got, ok := m.Get(tt.domain); got != tt.want || ok != (tt.want != "") {
			t.Errorf("Get(%q) = %q, %v, want %q", tt.domain, got, ok, tt.want)
		}
	}
	var empty domainmap.Map[int]
	if _, ok := empty.Get("a.b"); ok {
		t.Error("the empty map has something")
	}
}
