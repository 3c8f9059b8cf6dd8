package eventlog_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/internal/vfs"
)

func TestFreeSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &vfs.Mem{}
		disk.SetCapacity(1 << 20)
		l := open(t, eventlog.Config{MinFreeSpace: "50%"}, disk)
		defer l.Close()
		if err := l.Err(); err != nil {
			t.Errorf("Err on an empty disk: %v", err)
		}
		f, err := disk.OpenFile("/ballast", os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(make([]byte, 600<<10)); err != nil {
			t.Fatal(err)
		}
		advance(6 * time.Second)
		if err := l.Err(); !errors.Is(err, eventlog.ErrDiskFull) {
			t.Errorf("Err is %v, want ErrDiskFull", err)
		}
		var pct float64
		l.Collect("disk_free_percent", func(s mtakit.Sample) bool {
			if s.Labels[0] == "log dir /logs" {
				pct = s.Value
			}
			return true
		})
		if pct != 41 {
			t.Errorf("disk_free_percent is %v, want 41", pct)
		}
		if err := disk.Remove("/ballast"); err != nil {
			t.Fatal(err)
		}
		advance(6 * time.Second)
		if err := l.Err(); err != nil {
			t.Errorf("Err when there is room again: %v", err)
		}
	})
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, cfg := range []eventlog.Config{
		{},
		{Dir: "/logs", MaxFileSize: -1},
		{Dir: "/logs", CompressionLevel: 22},
		{Dir: "/logs", BackPressure: -1},
		{Dir: "/logs", FlushInterval: -1},
		{Dir: "/logs", MinFreeSpace: "lots"},
		{Dir: "/logs", MinFreeInodes: "101%"},
		{Dir: "/logs", Headers: []string{""}},
	} {
		if l, err := eventlog.OpenOn(cfg, &vfs.Mem{}, ""); err == nil {
			l.Close()
			t.Errorf("%+v was accepted", cfg)
		} else if !strings.HasPrefix(err.Error(), "eventlog: ") {
			t.Errorf("%+v: %v does not say whose error it is", cfg, err)
		}
	}
}
