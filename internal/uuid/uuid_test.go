package uuid_test

import (
	"regexp"
	"testing"

	"github.com/mtakit/mtakit/internal/uuid"
)

func TestString(t *testing.T) {
	t.Parallel()
	b := [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10}
	if got, want := uuid.String(b), "01234567-89ab-cdef-fedc-ba9876543210"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]bool)
	for range 100 {
		u := uuid.New()
		if !form.MatchString(u) || seen[u] {
			t.Errorf("%s is not a new UUID of version 4", u)
		}
		seen[u] = true
	}
}
