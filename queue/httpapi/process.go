package httpapi

import (
	"fmt"
	"net/http"
	"runtime/metrics"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/mtakit/mtakit/internal/machine"
)

// routesProcess adds what is about the process rather than about mail.
func (a *API) routesProcess() {
	a.Handle("GET", "/api/machine-info", http.HandlerFunc(a.machineInfo))
	a.Handle("GET", "/api/admin/memory/stats", http.HandlerFunc(a.memoryStats))
	a.Handle("GET", "/api/admin/task-dump", http.HandlerFunc(a.taskDump))
	if a.cfg.SetLogFilter != nil {
		a.Handle("POST", "/api/admin/set_diagnostic_log_filter/v1", http.HandlerFunc(a.setLogFilter))
	}
	if a.cfg.Compact != nil {
		a.Handle("POST", "/api/admin/spool-compact/v1", http.HandlerFunc(a.compact))
	}
	if a.cfg.Queue != nil {
		a.Handle("POST", "/api/admin/bump-config-epoch", http.HandlerFunc(a.bumpEpoch))
	}
}

type machineInfo struct {
	NodeID       string    `json:"node_id"`
	Hostname     string    `json:"hostname"`
	MAC          string    `json:"mac_address"`
	Cores        int       `json:"num_cores"`
	Kernel       *string   `json:"kernel_version"`
	Platform     string    `json:"platform"`
	Distribution string    `json:"distribution"`
	OSVersion    string    `json:"os_version"`
	Memory       int64     `json:"total_memory_bytes"`
	Container    *string   `json:"container_runtime"`
	CPU          string    `json:"cpu_brand"`
	Fingerprint  string    `json:"fingerprint"`
	OnlineSince  timestamp `json:"online_since"`
	ProcessKind  string    `json:"process_kind"`
	Version      string    `json:"version"`
}

// machineInfo is GET /api/machine-info. The machine is looked at each time: it is some small files.
func (a *API) machineInfo(w http.ResponseWriter, _ *http.Request) {
	m := machine.Read(machine.System())
	answer(w, machineInfo{
		NodeID: a.cfg.NodeID, Hostname: a.cfg.Hostname, MAC: m.MAC, Cores: m.Cores, Kernel: unlessZero(m.Kernel), Platform: m.Platform,
		Distribution: m.Distribution, OSVersion: m.OSVersion, Memory: m.Memory, Container: unlessZero(m.Container), CPU: m.CPU,
		Fingerprint: m.Fingerprint(a.cfg.NodeID), OnlineSince: timestamp(a.started), ProcessKind: a.cfg.ProcessKind, Version: a.cfg.Version,
	})
}

// setLogFilter is POST /api/admin/set_diagnostic_log_filter/v1.
func (a *API) setLogFilter(w http.ResponseWriter, r *http.Request) {
	var filter string
	if !a.read(w, r, func(r *reader) {
		r.lenient("struct SetDiagnosticFilterRequest", 1, field{"filter", func() { filter = r.str() }})
	}) {
		return
	}
	if err := a.cfg.SetLogFilter(filter); err != nil {
		problem(w, http.StatusInternalServerError, "parsing log filter '%s': %v", oneLine(filter), err)
		return
	}
	empty(w, http.StatusOK)
}

// bumpEpoch is POST /api/admin/bump-config-epoch.
func (a *API) bumpEpoch(w http.ResponseWriter, r *http.Request) {
	if a.cfg.Reload != nil {
		a.cfg.Reload(r.Context())
	}
	a.cfg.Queue.BumpEpoch()
	empty(w, http.StatusOK)
}

// compact is POST /api/admin/spool-compact/v1.
func (a *API) compact(w http.ResponseWriter, r *http.Request) {
	var name string
	if !a.read(w, r, func(r *reader) {
		r.lenient("struct SpoolCompactV1Request", 1, field{"name", func() { name = r.str() }})
	}) {
		return
	}
	if err := a.cfg.Compact(r.Context(), name); err != nil {
		a.cfg.Log.Error("spool not compacted", "spool", name, "err", err)
		problem(w, http.StatusInternalServerError, "compacting spool %s: %s", oneLine(name), oneLine(err.Error()))
		return
	}
	empty(w, http.StatusOK)
}

// memoryClasses are what /api/admin/memory/stats tells, with what each is.
var memoryClasses = [...]struct{ metric, what string }{
	{"/memory/classes/total:bytes", "mapped by the Go runtime"},
	{"/memory/classes/heap/objects:bytes", "heap: objects, live or not yet swept"},
	{"/memory/classes/heap/unused:bytes", "heap: reserved for objects"},
	{"/memory/classes/heap/free:bytes", "heap: free, not given back"},
	{"/memory/classes/heap/released:bytes", "heap: given back to the system"},
	{"/memory/classes/heap/stacks:bytes", "stacks"},
	{"/memory/classes/metadata/other:bytes", "bookkeeping of the runtime"},
	{"/memory/classes/profiling/buckets:bytes", "profiles"},
	{"/gc/heap/live:bytes", "heap that was live at the last collection"},
	{"/gc/heap/goal:bytes", "heap at which the next collection ends"},
	{"/gc/gomemlimit:bytes", "limit of the Go runtime"},
	{"/gc/heap/objects:objects", "objects"},
	{"/gc/cycles/total:gc-cycles", "collections"},
	{"/sched/goroutines:goroutines", "goroutines"},
}

// memoryStats is GET /api/admin/memory/stats. Nothing is stopped for it.
func (a *API) memoryStats(w http.ResponseWriter, _ *http.Request) {
	samples := make([]metrics.Sample, len(memoryClasses))
	for i := range samples {
		samples[i].Name = memoryClasses[i].metric
	}
	metrics.Read(samples)
	var b strings.Builder
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			fmt.Fprintf(&b, "%20d  %s\n", s.Value.Uint64(), memoryClasses[i].what)
		}
	}
	text(w, http.StatusOK, b.String())
}

// How long a client of task-dump may take to read, in seconds, unless it says otherwise, and at most.
const (
	dumpTimeout    = 5
	dumpTimeoutMax = 600
)

// taskDump is GET /api/admin/task-dump: what each goroutine is doing, those that do the same together.
func (a *API) taskDump(w http.ResponseWriter, r *http.Request) {
	q, seconds := queryOf(r), dumpTimeout
	if n := q.count("timeout"); n >= 0 {
		seconds = n
	}
	if q.bad(w) {
		return
	}
	rc := http.NewResponseController(w)
	if rc.SetWriteDeadline(time.Now().Add(time.Duration(min(seconds, dumpTimeoutMax))*time.Second)) == nil {
		defer rc.SetWriteDeadline(time.Time{})
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	pprof.Lookup("goroutine").WriteTo(w, 1)
}
