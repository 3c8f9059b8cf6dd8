package metrics

import (
	"strconv"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
)

func TestProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		root := fstest.MapFS{}
		set := func(process, system int) { // in ticks of 10 ms
			root["proc/self/stat"] = &fstest.MapFile{Data: []byte("1 (a ) b) S 1 1 1 1 1 1 1 1 1 1 " + strconv.Itoa(process) + " 50 0 0 20")}
			root["proc/stat"] = &fstest.MapFile{Data: []byte("cpu " + strconv.Itoa(system) + " 10 20 999999 999 5 6 7 888 888\ncpu0 1\n")}
		}
		root["proc/meminfo"] = &fstest.MapFile{Data: []byte("MemTotal: 1000 kB\n")}
		root["proc/self/statm"] = &fstest.MapFile{Data: []byte("1 2 3\n")}
		set(100, 1000)
		p := newProcess(root, func(string) string { return "" })
		value := func(name string) float64 {
			t.Helper()
			v := -1.0
			p.Collect(name, func(s mtakit.Sample) bool { v = s.Value; return true })
			return v
		}
		if v := value("process_cpu_usage_sum"); v != -1 {
			t.Errorf("CPU usage right at the start is %v, want none", v)
		}
		<-time.After(10 * time.Second)
		set(600, 2500)
		for range 2 { // the second scrape comes too early for a new reading
			if v := value("process_cpu_usage_sum"); v != 50 {
				t.Errorf("process uses %v %%, want 50", v)
			}
			if v := value("system_cpu_usage_sum"); v != 150 {
				t.Errorf("machine uses %v %%, want 150", v)
			}
		}
		if v, sum := value("process_cpu_usage_normalized"), 50.0; v > sum || v <= 0 {
			t.Errorf("normalized is %v", v)
		}
		if v := value("memory_limit"); v != 768000 {
			t.Errorf("memory_limit is %v, want 768000", v)
		}
		if v := value("memory_usage"); v <= 0 {
			t.Errorf("memory_usage is %v", v)
		}
	})
}

// Where there is no /proc, nothing is shown rather than something wrong.
func TestProcessWithoutProc(t *testing.T) {
	t.Parallel()
	p := newProcess(fstest.MapFS{}, func(string) string { return "" })
	for _, f := range p.Families() {
		p.Collect(f.Name, func(s mtakit.Sample) bool {
			t.Errorf("%s is %v although nothing is known", f.Name, s.Value)
			return true
		})
	}
}
