package metrics

import (
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/pressure"
)

// Process is a Collector of what the process and the machine use: memory against its limits, and CPU. What the system does
// not tell is left out.
type Process struct {
	memory *pressure.Memory // nil if the limits in the environment are wrong
	root   fs.FS

	mu      sync.Mutex
	last    cpuTimes
	process float64 // percent, summed over CPUs
	system  float64
	known   bool
}

// cpuTimes are the clock and what was used up to then.
type cpuTimes struct {
	at              time.Time
	process, system time.Duration
}

// minCPUInterval is how far apart two readings must be to compute a percentage: several clients may ask at the same time.
const minCPUInterval = time.Second

// NewProcess begins to measure. CPU percentages are averages over the time since the last scrape that was a second or more ago.
func NewProcess() *Process { return newProcess(os.DirFS("/"), os.Getenv) }

func newProcess(root fs.FS, getenv func(string) string) *Process {
	p := &Process{root: root}
	if m, err := pressure.New(pressure.Config{Root: root, Getenv: getenv}); err == nil {
		p.memory = m
	}
	p.last, _ = readCPU(root)
	return p
}

// Families implements [mtakit.Collector].
func (p *Process) Families() []mtakit.MetricFamily {
	fam := func(name, help string) mtakit.MetricFamily {
		return mtakit.MetricFamily{Name: name, Help: help, Type: mtakit.GaugeType}
	}
	return []mtakit.MetricFamily{
		fam("memory_limit", "soft limit, bytes"),
		fam("memory_low_thresh", "low-memory threshold, bytes"),
		fam("memory_usage", "bytes used"),
		fam("process_cpu_usage_normalized", "process CPU percent divided by CPU count"),
		fam("process_cpu_usage_sum", "process CPU percent summed over CPUs"),
		fam("system_cpu_usage_normalized", "host CPU percent divided by CPU count"),
		fam("system_cpu_usage_sum", "host CPU percent summed"),
	}
}

// Collect implements [mtakit.Collector].
func (p *Process) Collect(family string, yield func(mtakit.Sample) bool) {
	if v, ok := p.value(family); ok {
		yield(mtakit.Sample{Value: v})
	}
}

func (p *Process) value(family string) (float64, bool) {
	if strings.HasPrefix(family, "memory_") {
		if p.memory == nil {
			return 0, false
		}
		switch limits := p.memory.Limits(); family {
		case "memory_limit":
			return float64(limits.Soft), limits.Soft > 0
		case "memory_low_thresh":
			return float64(limits.Low), limits.Low > 0
		}
		p.memory.Sample()
		return float64(p.memory.Usage()), p.memory.Usage() > 0
	}
	process, system, ok := p.cpu()
	switch n := float64(runtime.NumCPU()); family {
	case "process_cpu_usage_normalized":
		return process / n, ok
	case "process_cpu_usage_sum":
		return process, ok
	case "system_cpu_usage_normalized":
		return system / n, ok
	}
	return system, ok
}

func (p *Process) cpu() (process, system float64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, ok := readCPU(p.root)
	if passed := now.at.Sub(p.last.at); ok && passed >= minCPUInterval {
		p.process = max(0, 100*float64(now.process-p.last.process)/float64(passed))
		p.system = max(0, 100*float64(now.system-p.last.system)/float64(passed))
		p.last, p.known = now, true
	}
	return p.process, p.system, p.known
}

// readCPU reads what Linux counts, in ticks of 10 ms; ok is false elsewhere.
func readCPU(root fs.FS) (t cpuTimes, ok bool) {
	const tick = 10 * time.Millisecond
	t.at = time.Now()
	self, err := fs.ReadFile(root, "proc/self/stat")
	if err != nil {
		return t, false
	}
	// The second field, the name in parentheses, may hold anything; user and system time are the 14th and 15th.
	f := strings.Fields(string(self[strings.LastIndexByte(string(self), ')')+1:]))
	if len(f) < 13 {
		return t, false
	}
	for _, s := range f[11:13] {
		n, _ := strconv.ParseInt(s, 10, 64)
		t.process += time.Duration(n) * tick
	}
	stat, err := fs.ReadFile(root, "proc/stat")
	if err != nil {
		return t, false
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	// cpu user nice system idle iowait irq softirq steal; guests are in user.
	for i, s := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, _ := strconv.ParseInt(s, 10, 64)
		t.system += time.Duration(n) * tick
	}
	return t, true
}
