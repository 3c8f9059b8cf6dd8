package ledger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/mtakit/mtakit/examples/internal/ledger"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	const writers, each = 8, 20
	for round := range 2 { // the second opens what the first left
		l, err := ledger.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					id := fmt.Sprint(round, "-", w, "-", i)
					if err := l.Append(id); err != nil {
						t.Error(err)
					}
					if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), id+"\n") {
						t.Errorf("%s is not in the file, %v", id, err)
					}
				}
			})
		}
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	b, err := os.ReadFile(path)
	if n := strings.Count(string(b), "\n"); err != nil || n != 2*writers*each {
		t.Errorf("the file has %d lines, %v", n, err)
	}
}

func TestAppendFails(t *testing.T) {
	t.Parallel()
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for range 2 {
		if err := l.Append("x"); err == nil {
			t.Error("a closed file takes an id")
		}
	}
}

func TestOpenCutsTornLine(t *testing.T) {
	t.Parallel()
	for before, want := range map[string]string{"": "x\n", "a\n": "a\nx\n", "a\nb": "a\nx\n", "torn": "x\n"} {
		path := filepath.Join(t.TempDir(), "ledger")
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := ledger.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Append("x"); err != nil {
			t.Error(err)
		}
		l.Close()
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%q became %q, %v, want %q", before, b, err, want)
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, sent, received string
		want                 ledger.Comparison
	}{
		{"nothing", "", "", ledger.Comparison{}},
		{"all arrived", "a\nb\n", "b\na\n", ledger.Comparison{Sent: 2, Received: 2}},
		{"one lost, one repeated, one whose reply was lost", "a\nb\nc\n", "a\nc\na\na\nx\n",
			ledger.Comparison{Sent: 3, Received: 3, Lost: []string{"b"}, Repeated: 2, Unknown: 1}},
		{"torn lines", "a\nb", "a\nc", ledger.Comparison{Sent: 1, Received: 1}},
		{"twice in the first", "a\na\n\n", "a\n", ledger.Comparison{Sent: 1, Received: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := ledger.Compare(strings.NewReader(test.sent), strings.NewReader(test.received))
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("Compare = %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}
