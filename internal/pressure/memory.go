// Package pressure tells how much memory the process may use, how much it uses, and when that gets tight.
//
// The hard limit is that of the control group (version 2 before version 1), else the limit on the resident set, else the
// machine's memory. The soft limit, three quarters of it, is what the process aims to stay under; the low mark, 80 % of that,
// is where it begins to let go of what it can read again.
//
// The package starts no goroutine: whoever has a budget calls [Memory.Sample], every three seconds or so.
package pressure

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/mtakit/mtakit"
)

// Limits are in bytes; 0 is not known, and no limit.
type Limits struct{ Hard, Soft, Low int64 }

// Status is how tight memory is.
type Status uint8

const (
	OK   Status = iota
	Low         // usage is over the low mark
	None        // usage is at the soft limit
)

func (s Status) String() string { return [...]string{"ok", "low", "none"}[s] }

// Config says where limits come from. The zero value of each field is its default.
type Config struct {
	// Hard and Soft are limits in bytes. By default the environment decides, KUMOD_MEMORY_HARD_LIMIT and
	// KUMOD_MEMORY_SOFT_LIMIT in bytes, else the system.
	Hard, Soft int64

	Root   fs.FS               // of /proc and /sys; nil is the system's
	Getenv func(string) string // nil is os.Getenv
}

// Memory measures. Its methods may be called concurrently.
type Memory struct {
	// LowCount and OverCount count how often Sample found usage over the low mark, and over the soft limit, when it had not been.
	LowCount, OverCount mtakit.Counter

	root   fs.FS
	limits Limits
	group  *group // nil if no control group limits us

	mu     sync.Mutex
	usage  atomic.Int64
	status atomic.Uint32 // changed with mu held
}

// New reads the limits. The error is about the configuration or the environment; what the system does not tell is not known,
// and no limit.
func New(cfg Config) (*Memory, error) {
	if cfg.Root == nil {
		cfg.Root = os.DirFS("/")
	}
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	m := &Memory{root: cfg.Root}
	ram := memTotal(cfg.Root)
	m.group = findGroup(cfg.Root, ram)
	var err error
	if m.limits.Hard, err = configured(cfg.Hard, cfg.Getenv, "KUMOD_MEMORY_HARD_LIMIT"); err != nil {
		return nil, err
	}
	if m.limits.Soft, err = configured(cfg.Soft, cfg.Getenv, "KUMOD_MEMORY_SOFT_LIMIT"); err != nil {
		return nil, err
	}
	if m.limits.Hard == 0 {
		switch rss := residentLimit(cfg.Root); {
		case m.group != nil:
			m.limits.Hard = m.group.limit
		case rss > 0:
			m.limits.Hard = rss
		default:
			m.limits.Hard = ram
		}
	}
	if m.limits.Soft == 0 {
		m.limits.Soft = m.limits.Hard / 4 * 3
	}
	m.limits.Low = m.limits.Soft / 5 * 4
	m.Sample()
	return m, nil
}

func configured(v int64, getenv func(string) string, name string) (int64, error) {
	s := getenv(name)
	if v != 0 || s == "" {
		return v, nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v <= 0 {
		return 0, fmt.Errorf("pressure: %s is %q, want a number of bytes", name, s)
	}
	return v, nil
}

// Limits are those in force.
func (m *Memory) Limits() Limits { return m.limits }

// Sample measures anew and says how tight memory is.
func (m *Memory) Sample() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.read()
	m.usage.Store(u)
	s := OK
	switch {
	case m.limits.Soft > 0 && u >= m.limits.Soft:
		s = None
	case m.limits.Low > 0 && u > m.limits.Low:
		s = Low
	}
	was := Status(m.status.Swap(uint32(s)))
	if s != OK && was == OK {
		m.LowCount.Inc()
	}
	if s == None && was != None {
		m.OverCount.Inc()
	}
	return s
}

func (m *Memory) read() int64 {
	if m.group != nil {
		if u, ok := m.group.usage(m.root); ok {
			return u
		}
	}
	return resident(m.root)
}

// Usage is what the last sample found, in bytes: the working set of the control group that limits us (what it uses without
// file cache that can be given up, but not less than anonymous memory), else the resident set.
func (m *Memory) Usage() int64 { return m.usage.Load() }

// Status is what the last sample said.
func (m *Memory) Status() Status { return Status(m.status.Load()) }

// Headroom is what may be used before the soft limit is met, as of the last sample; 0 or more. Without a limit it is the
// largest number.
func (m *Memory) Headroom() int64 {
	if m.limits.Soft == 0 {
		return 1<<63 - 1
	}
	return max(0, m.limits.Soft-m.Usage())
}
