//go:build !race

package eventlog_test

import "testing"

// Recording allocates nothing once its buffers are made. (The race detector has sync.Pool forget some.)
func TestRecordAllocates(t *testing.T) {
	l := openReal(t, t.TempDir())
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
