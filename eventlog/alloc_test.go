//go:build !race

package eventlog_test

import (
	"testing"

	"github.com/mtakit/mtakit/eventlog"
)

// Recording allocates nothing once its buffers are made. (The race detector has sync.Pool forget some.)
func TestRecordAllocates(t *testing.T) {
	l, err := eventlog.Open(eventlog.Config{Dir: t.TempDir(), MinFreeSpace: "0", MinFreeInodes: "0"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := typical()
	for range 1000 { // blocks, buffers and a segment are made
		l.Record(r)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { l.Record(r) }); n != 0 {
		t.Errorf("Record allocates %v times", n)
	}
}
