package pressure_test

import (
	"os"
	"strconv"
	"testing"
	"testing/fstest"

	"github.com/mtakit/mtakit/internal/pressure"
)

var page = int64(os.Getpagesize())

const (
	mib     = 1 << 20
	meminfo = "MemTotal:        8388608 kB\nMemFree:  1 kB\n" // 8 GiB
	limits  = "Limit                     Soft Limit           Hard Limit           Units\n"
	stat2   = "anon 104857600\nfile 5\ninactive_file 52428800\n"
	stat1   = "rss 1\ntotal_rss 314572800\ntotal_inactive_file 52428800\n"
)

func system(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, data := range files {
		root[name] = &fstest.MapFile{Data: []byte(data)}
	}
	return root
}

func TestLimits(t *testing.T) {
	t.Parallel()
	base := map[string]string{"proc/meminfo": meminfo, "proc/self/statm": "100 50 1\n"}
	rss := 50 * page
	for _, c := range []struct {
		name        string
		files       map[string]string
		env         map[string]string
		cfg         pressure.Config
		hard, usage int64
		soft        int64 // 0 is three quarters
	}{
		{"machine", nil, nil, pressure.Config{}, 8192 * mib, rss, 0},
		{"resident set limit", map[string]string{"proc/self/limits": limits + "Max resident set  1073741824  unlimited  bytes\n"}, nil, pressure.Config{}, 1024 * mib, rss, 0},
		{"no resident set limit", map[string]string{"proc/self/limits": limits + "Max resident set  unlimited  unlimited  bytes\n"}, nil, pressure.Config{}, 8192 * mib, rss, 0},
		{"version 2", map[string]string{
			"proc/self/cgroup":                 "0::/app\n",
			"sys/fs/cgroup/app/memory.max":     "1073741824\n",
			"sys/fs/cgroup/app/memory.current": "209715200\n",
			"sys/fs/cgroup/app/memory.stat":    stat2,
		}, nil, pressure.Config{}, 1024 * mib, 150 * mib, 0},
		{"version 2, parent is tighter", map[string]string{
			"proc/self/cgroup":                 "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max":     "max\n",
			"sys/fs/cgroup/a/memory.max":       "536870912\n",
			"sys/fs/cgroup/a/memory.current":   "104857600\n",
			"sys/fs/cgroup/a/memory.stat":      stat2,
			"sys/fs/cgroup/a/b/memory.current": "1\n",
		}, nil, pressure.Config{}, 512 * mib, 100 * mib, 0},
		{"version 1, path of the host", map[string]string{
			"proc/self/cgroup":                           "5:cpu:/x\n4:memory:/docker/123\n0::/x\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "209715200\n",
			"sys/fs/cgroup/memory/memory.stat":           stat1,
		}, nil, pressure.Config{}, 2048 * mib, 300 * mib, 0},
		{"version 1, unlimited", map[string]string{
			"proc/self/cgroup":                           "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, nil, pressure.Config{}, 8192 * mib, rss, 0},
		{"environment", nil, map[string]string{"KUMOD_MEMORY_HARD_LIMIT": "1048576", "KUMOD_MEMORY_SOFT_LIMIT": "1000"}, pressure.Config{}, mib, rss, 1000},
		{"configuration", nil, map[string]string{"KUMOD_MEMORY_HARD_LIMIT": "1"}, pressure.Config{Hard: 4 * mib}, 4 * mib, rss, 0},
	} {
		files := map[string]string{}
		for _, m := range []map[string]string{base, c.files} {
			for k, v := range m {
				files[k] = v
			}
		}
		c.cfg.Root = system(files)
		c.cfg.Getenv = func(name string) string { return c.env[name] }
		m, err := pressure.New(c.cfg)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		soft := c.soft
		if soft == 0 {
			soft = c.hard / 4 * 3
		}
		if got, want := m.Limits(), (pressure.Limits{Hard: c.hard, Soft: soft, Low: soft / 5 * 4}); got != want {
			t.Errorf("%s: limits %+v, want %+v", c.name, got, want)
		}
		if m.Usage() != c.usage {
			t.Errorf("%s: usage %d, want %d", c.name, m.Usage(), c.usage)
		}
	}
	if _, err := pressure.New(pressure.Config{Root: system(base), Getenv: func(string) string { return "1 GiB" }}); err == nil {
		t.Error("a limit that is no number was accepted")
	}
}

func TestSample(t *testing.T) {
	t.Parallel()
	root := system(map[string]string{"proc/self/statm": "0 0"})
	m, err := pressure.New(pressure.Config{Soft: 100 * page, Hard: 1000 * page, Root: root, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pages     int
		want      pressure.Status
		low, over int64
	}{
		{80, pressure.OK, 0, 0},
		{81, pressure.Low, 1, 0},
		{99, pressure.Low, 1, 0},
		{100, pressure.None, 1, 1},
		{150, pressure.None, 1, 1},
		{90, pressure.Low, 1, 1},
		{100, pressure.None, 1, 2},
		{0, pressure.OK, 1, 2},
		{100, pressure.None, 2, 3},
	} {
		root["proc/self/statm"] = &fstest.MapFile{Data: []byte("999 " + strconv.Itoa(c.pages))}
		if got := m.Sample(); got != c.want || m.Status() != c.want {
			t.Errorf("%d pages: %s, want %s", c.pages, got, c.want)
		}
		if want := int64(max(0, 100-c.pages)) * page; m.Headroom() != want {
			t.Errorf("%d pages: headroom %d, want %d", c.pages, m.Headroom(), want)
		}
		if m.LowCount.Value() != c.low || m.OverCount.Value() != c.over {
			t.Errorf("%d pages: counts %d and %d, want %d and %d", c.pages, m.LowCount.Value(), m.OverCount.Value(), c.low, c.over)
		}
	}
}

// On the system that runs the test.
func TestHere(t *testing.T) {
	t.Parallel()
	m, err := pressure.New(pressure.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v, usage %d, %s", m.Limits(), m.Usage(), m.Status())
}
