package pressure

import (
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// group is the control group whose limit is the tightest on the way from ours to the root.
type group struct {
	dir   string
	limit int64
	files *groupFiles
}

// groupFiles are the names of a version of control groups.
type groupFiles struct {
	mount, limit, current, inactive, anon string
}

var (
	version2 = groupFiles{"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file", "anon"}
	version1 = groupFiles{"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_rss"}
)

// findGroup returns nil if no group limits us to less than the machine has.
func findGroup(root fs.FS, ram int64) *group {
	self, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	var path2, path1 string
	for line := range strings.Lines(string(self)) { // id:controllers:path
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		switch {
		case f[0] == "0" && f[1] == "":
			path2 = f[2]
		case strings.Contains(","+f[1]+",", ",memory,"):
			path1 = f[2]
		}
	}
	if g := version2.find(root, path2, ram); g != nil {
		return g
	}
	return version1.find(root, path1, ram)
}

// find walks up from our group. In a container the path may be one that only the host has; then the root of the mount is our
// group.
func (v *groupFiles) find(root fs.FS, p string, ram int64) (tightest *group) {
	if p == "" {
		return nil
	}
	for p = path.Join("/", p); ; p = path.Dir(p) {
		dir := path.Join(v.mount, p)
		limit, ok := readNumber(root, path.Join(dir, v.limit))
		if ok && limit > 0 && (ram == 0 || limit < ram) && (tightest == nil || limit < tightest.limit) {
			tightest = &group{dir: dir, limit: limit, files: v}
		}
		if p == "/" {
			return tightest
		}
	}
}

// usage is the working set.
func (g *group) usage(root fs.FS) (int64, bool) {
	current, ok := readNumber(root, path.Join(g.dir, g.files.current))
	if !ok {
		return 0, false
	}
	stat, err := fs.ReadFile(root, path.Join(g.dir, "memory.stat"))
	if err != nil {
		return current, true
	}
	return max(current-field(string(stat), g.files.inactive), field(string(stat), g.files.anon)), true
}

// resident is the resident set of the process.
func resident(root fs.FS) int64 {
	b, err := fs.ReadFile(root, "proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// residentLimit is RLIMIT_RSS, 0 if there is none.
func residentLimit(root fs.FS) int64 {
	b, err := fs.ReadFile(root, "proc/self/limits")
	if err != nil {
		return 0
	}
	return field(string(b), "Max resident set")
}

// memTotal is the memory of the machine.
func memTotal(root fs.FS) int64 {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	return field(string(b), "MemTotal:") << 10
}

// field is the number after a name at the beginning of a line, 0 if there is none.
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if f := strings.Fields(rest); ok && len(f) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
			n, err := strconv.ParseInt(f[0], 10, 64)
			if err != nil { // unlimited
				return 0
			}
			return n
		}
	}
	return 0
}

// readNumber reads a file of one number. The word max, and what does not fit, are no number.
func readNumber(root fs.FS, name string) (int64, bool) {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}
