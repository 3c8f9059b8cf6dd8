package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

type inspectReadyQCmd struct {
	Connections bool   `help:"Show its connections."`
	Config      bool   `help:"Show the settings of its egress path."`
	SchedQ      bool   `name:"sched-q" help:"Show the scheduled queues that feed it."`
	JSON        bool   `name:"json" help:"Print what the daemon answers."`
	Queue       string `arg:"" help:"Its name: SOURCE->SITE@PROTOCOL."`
}

func (i *inspectReadyQCmd) Validate() error {
	if i.JSON && (i.Connections || i.Config || i.SchedQ) {
		return &usageError{"--json has everything and excludes --connections, --config and --sched-q"}
	}
	return nil
}

func (i *inspectReadyQCmd) Run(ctx context.Context, c *console) error {
	const path = "/api/admin/inspect-ready-q/v1"
	q := url.Values{"queue_name": {i.Queue}}
	if i.SchedQ || i.JSON {
		q.Set("include_scheduled_queues", "true")
	}
	if i.JSON {
		return c.showJSON(ctx, "GET", path, q, nil)
	}
	var r readyQueue
	if err := c.api.get(ctx, path, q, &r); err != nil {
		return err
	}
	b := bufio.NewWriter(c.out)
	if err := i.print(b, &r); err != nil {
		return err
	}
	return b.Flush()
}

// readyQueue is the answer of inspect-ready-q.
type readyQueue struct {
	Name     string       `json:"queue_name"`
	MX       *mx          `json:"mx"`
	Pool     string       `json:"egress_pool"`
	Source   string       `json:"egress_source"`
	Protocol string       `json:"protocol"`
	State    readyState   `json:"state"`
	Config   jsonText     `json:"path_config"`
	Limits   constraints  `json:"constraints"`
	SchedQ   []string     `json:"scheduled_queue_names"`
	Sessions []dispatcher `json:"dispatchers"`
}

type jsonText = json.RawMessage

type readyState struct {
	Ready         int64            `json:"ready_count"`
	Connections   int64            `json:"connection_count"`
	RateThrottled *condition       `json:"connection_rate_throttled"`
	Limited       *condition       `json:"connection_limited"`
	Suspended     *readySuspension `json:"suspended"`
	Watchdog      mtakit.Duration  `json:"watchdog_threshold"`
}

// condition is why a ready queue can't do as it would.
type condition struct {
	Context string `json:"context"`
	Since   string `json:"since"`
}

// mx are the hosts of a site.
type mx struct {
	Site        string              `json:"site_name"`
	Hosts       map[string][]string `json:"by_preference"`
	IsMX        bool                `json:"is_mx"`
	IsDomainLit bool                `json:"is_domain_literal"`
	IsSecure    bool                `json:"is_secure"`
}

func (m *mx) print(w io.Writer) {
	flags := ""
	if !m.IsMX {
		flags += ", synthesised"
	}
	if m.IsDomainLit {
		flags += ", domain literal"
	}
	if m.IsSecure {
		flags += ", dnssec verified"
	}
	fmt.Fprintf(w, "mx (site: %s%s):\n", cell(m.Site), flags)
	var preferences []string
	for p := range m.Hosts {
		preferences = append(preferences, p)
	}
	slices.SortFunc(preferences, compareNatural)
	for _, p := range preferences {
		for _, host := range m.Hosts[p] {
			fmt.Fprintf(w, "  %4s  %s\n", cell(p), cell(host))
		}
	}
}

func (i *inspectReadyQCmd) print(w io.Writer, r *readyQueue) error {
	s := &r.State
	fmt.Fprintf(w, "queue: %s\n\n", cell(r.Name))
	fmt.Fprintf(w, "egress pool:        %s\n", cell(r.Pool))
	fmt.Fprintf(w, "egress source:      %s\n", cell(r.Source))
	fmt.Fprintf(w, "protocol:           %s\n", cell(r.Protocol))
	fmt.Fprintf(w, "watchdog threshold: %s\n\n", s.Watchdog)
	if r.MX != nil {
		r.MX.print(w)
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "ready: %s\n\n", thousands(s.Ready))
	s.print(w)
	fmt.Fprintln(w, "ceilings:")
	r.Limits.print(w, "  ")
	fmt.Fprintln(w)
	if i.SchedQ {
		fmt.Fprintf(w, "scheduled queues: %s\n", thousands(int64(len(r.SchedQ))))
		for _, name := range r.SchedQ {
			fmt.Fprintf(w, "  %s\n", cell(name))
		}
	}
	fmt.Fprintf(w, "connections: %s\n", thousands(s.Connections))
	if i.Connections {
		printSessions(w, r.Sessions, s.Watchdog.Std())
	}
	if i.Config {
		fmt.Fprintln(w, "config:")
		return printTOML(w, "  ", r.Config)
	}
	return nil
}

// print tells what holds the queue up.
func (s *readyState) print(w io.Writer) {
	for _, c := range []struct {
		label string
		*condition
	}{{"connection rate throttled", s.RateThrottled}, {"connection limited", s.Limited}} {
		if c.condition != nil {
			fmt.Fprintf(w, "%s: %s\n  since: %s\n\n", c.label, cell(c.Context), cell(c.Since))
		}
	}
	if s.Suspended != nil {
		fmt.Fprintf(w, "suspended: %s\n  expires in: %s\n\n", cell(s.Suspended.Reason), brief(s.Suspended.Duration))
	}
}

// dispatcher is a connection.
type dispatcher struct {
	Session   string          `json:"session_id"`
	Started   time.Time       `json:"started_at"`
	Age       mtakit.Duration `json:"age"`
	Phase     phase           `json:"phase"`
	Detail    *string         `json:"detail"`
	InPhase   mtakit.Duration `json:"time_in_current_phase"`
	Delivered int64           `json:"messages_delivered"`
	Transient int64           `json:"messages_transfailed"`
	Failed    int64           `json:"messages_failed"`
	Rate      float64         `json:"overall_rate_per_sec"`
}

// phase is what a connection does.
type phase string

// UnmarshalJSON reads a name, or an object of one name and what goes with it.
func (p *phase) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, (*string)(p)) == nil {
		return nil
	}
	var tagged map[string]struct {
		Label string `json:"label"`
		Have  int64  `json:"have"`
		Want  int64  `json:"want"`
	}
	if err := json.Unmarshal(b, &tagged); err != nil {
		return err
	}
	for name, v := range tagged {
		switch name {
		case "AcquiringLease":
			name += " " + v.Label
		case "AccumulatingBatch":
			name += fmt.Sprintf(" %d of %d", v.Have, v.Want)
		}
		*p = phase(name)
	}
	return nil
}

// marker warns of a connection that makes no progress.
func (d *dispatcher) marker(watchdog time.Duration) string {
	switch {
	case watchdog <= 0:
		return ""
	case d.InPhase.Std() >= watchdog:
		return "⚠ STUCK"
	case d.InPhase.Std() >= watchdog/4*3:
		return "⚠ STALL?"
	}
	return ""
}

// printSessions prints a table with lines of text between its rows.
func printSessions(w io.Writer, sessions []dispatcher, watchdog time.Duration) {
	slices.SortFunc(sessions, func(a, b dispatcher) int { return a.Started.Compare(b.Started) })
	t := table{indent: "  ", head: []column{left("SESSION"), right("DELIV"), right("TRANS"), right("FAIL"), right("AGE"), right("RATE"), left("")}}
	for _, d := range sessions {
		t.add(d.Session, thousands(d.Delivered), thousands(d.Transient), thousands(d.Failed), brief(d.Age), fmt.Sprintf("%.1f/s", d.Rate), d.marker(watchdog))
	}
	var rows strings.Builder
	t.print(&rows)
	n := -1
	for line := range strings.Lines(rows.String()) {
		io.WriteString(w, line)
		if n++; n == 0 {
			continue // the head
		}
		d := &sessions[n-1]
		fmt.Fprintf(w, "    %s for %s\n", cell(string(d.Phase)), brief(d.InPhase))
		if d.Detail != nil {
			fmt.Fprintf(w, "    %s\n", cell(*d.Detail))
		}
		fmt.Fprintln(w)
	}
}
