package xfer

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/mtakit/mtakit"
)

func numbered(n int) (id mtakit.ID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// The last ones are remembered, over a restart as well, and older ones forgotten in the end.
func TestArrivals(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "arrivals")
	const most = 10
	open := func() *Arrivals {
		a, err := OpenArrivals(path)
		if err != nil {
			t.Fatal(err)
		}
		a.most = most
		return a
	}
	a := open()
	for n := range 35 {
		if a.Has(numbered(n)) {
			t.Errorf("%d is known before it has come", n)
		}
		if err := a.Add(numbered(n)); err != nil {
			t.Fatal(err)
		}
		for m := max(0, n-most+1); m <= n; m++ {
			if !a.Has(numbered(m)) {
				t.Errorf("after %d, %d is forgotten", n, m)
			}
		}
		if n%7 == 0 {
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			a = open()
		}
	}
	if a.Has(numbered(0)) || len(a.now)+len(a.last) > 2*most {
		t.Errorf("%d are remembered", len(a.now)+len(a.last))
	}
	// What is cut off costs one id, not those that follow.
	a.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	a = open()
	if a.Has(numbered(34)) || !a.Has(numbered(33)) {
		t.Error("a part of an id is an id")
	}
	a.Add(numbered(100))
	a.Close()
	if a = open(); !a.Has(numbered(100)) || !a.Has(numbered(33)) {
		t.Error("what comes after a part of an id is lost")
	}
	a.Close()
	if err := a.Add(numbered(101)); err != nil || !a.Has(numbered(101)) {
		t.Errorf("after Close: %v", err)
	}
}

// A disk that takes nothing is told, and memory serves.
func TestArrivalsFail(t *testing.T) {
	t.Parallel()
	if _, err := OpenArrivals(filepath.Join(t.TempDir(), "none", "arrivals")); err == nil {
		t.Error("a folder that is not there is no error")
	}
	dir := t.TempDir()
	a, err := OpenArrivals(filepath.Join(dir, "arrivals"))
	if err != nil {
		t.Fatal(err)
	}
	a.most = 1
	a.Add(numbered(1))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := a.Add(numbered(2)); err == nil {
		t.Error("a file that can't be renamed is no error")
	}
	if !a.Has(numbered(1)) || !a.Has(numbered(2)) {
		t.Error("memory does not serve")
	}
}
