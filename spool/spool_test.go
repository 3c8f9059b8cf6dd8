package spool_test

import (
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool"
	"github.com/mtakit/mtakit/spool/spooltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	t.Parallel()
	t.Run("on disk", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		var n atomic.Int32
		spooltest.TestSpool(t, func() mtakit.Spool {
			return open(t, filepath.Join(dir, strconv.Itoa(int(n.Add(1)))), spool.Options{})
		})
	})
	t.Run("in memory with small segments", func(t *testing.T) {
		t.Parallel()
		spooltest.TestSpool(t, func() mtakit.Spool {
			return open(t, "/spool", spool.Options{FS: new(spooltest.Disk), SegmentSize: 1 << 20})
		})
	})
}
