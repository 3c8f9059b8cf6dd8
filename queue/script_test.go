package queue_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
	"github.com/mtakit/mtakit/spool/spooltest"
)

var update = flag.Bool("update", false, "rewrite the expected output of testdata/*.txt")

// TestScripts runs testdata/*.txt. A script is blocks separated by empty lines: commands, a line with ----, and what has been recorded since the last
// block, which -update rewrites. A record is its time since the start, its message, kind and response, and what else is of interest. The
// first block is only for comments, which begin with #, as elsewhere.
//
//	settings [QUEUE] JSON        settings of a queue, or of all; what is not said is as by default
//	path [SOURCE] JSON           the path from a source, or from any; a single connection unless said otherwise
//	pool NAME SOURCE=WEIGHT …
//	peer DOMAIN reply STEP REPLY | hangup STEP | refuse | wait STEP TIME [hangup] | prohibit REPLY  [times N] [for RCPT]
//	peer DOMAIN hosts N | forget
//	same DOMAIN …                the domains share their site
//	unresolvable DOMAIN, resolvable DOMAIN
//	inject FROM TO[,TO …]        [x N] [volatile] [due TIME] [schedule JSON] [meta KEY=VALUE]
//	run TIME, drain TIME, restart, stop, down TIME (stop and start)
//	bounce JSON REASON, suspend JSON REASON, suspend-ready NAME REASON, cancel N (the Nth order), rebind JSON KEY=VALUE …
//	retry delay TIME | reject REPLY | queue NAME | nothing     what Policy.Retry says
//	summary on | off             counts in place of records
//	received DOMAIN, connections DOMAIN, census, spool         print that
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = runScript(t, string(want)) })
			if got == string(want) || t.Failed() {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s differs; run with -update and look at the difference:\n%s", file, firstDifference(string(want), got))
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// script is a script that runs.
type script struct {
	t       *testing.T
	mta     *queuetest.MTA
	spool   *spooltest.Memory
	start   time.Time
	seen    map[*mtakit.Record]bool // those that have been printed
	ids     map[mtakit.ID]int
	set     map[string]*mtakit.QueueSettings
	paths   map[string]*mtakit.PathConfig
	pools   map[string]*mtakit.Pool
	retry   func(*mtakit.Message) error
	summary bool
	cancel  []func() error
	extra   strings.Builder // what commands print
}

func runScript(t *testing.T, text string) string {
	s := &script{
		t: t, spool: new(spooltest.Memory), start: time.Now(), seen: make(map[*mtakit.Record]bool), ids: make(map[mtakit.ID]int), set: make(map[string]*mtakit.QueueSettings),
		paths: make(map[string]*mtakit.PathConfig), pools: make(map[string]*mtakit.Pool),
	}
	s.path("*", `{}`)
	s.mta = queuetest.New(t, queuetest.Options{Spool: s.spool, Policy: s.policy()})
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n\n") {
		commands, _, _ := strings.Cut(block, "\n----")
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		out.WriteString(commands + "\n")
		printed := false
		for line := range strings.SplitSeq(commands, "\n") {
			if line != "" && line[0] != '#' {
				s.command(line)
				printed = true
			}
		}
		if printed {
			out.WriteString("----\n" + s.extra.String() + s.records())
			s.extra.Reset()
		}
	}
	return out.String()
}

func (s *script) policy() queue.Policy {
	return queue.Policy{
		Settings: func(_ context.Context, q mtakit.QueueName) (*mtakit.QueueSettings, error) {
			if set := s.set[q.String()]; set != nil {
				return set, nil
			}
			return s.set["*"], nil
		},
		Pool: func(_ context.Context, name string) (*mtakit.Pool, error) { return s.pools[name], nil },
		Path: func(_ context.Context, _, source string, _ *mtakit.Site) (*mtakit.PathConfig, error) {
			if p := s.paths[source]; p != nil {
				return p, nil
			}
			return s.paths["*"], nil
		},
		Retry: func(_ context.Context, m *mtakit.Message, _ queue.Failure) error {
			if s.retry == nil {
				return nil
			}
			return s.retry(m)
		},
	}
}

func (s *script) path(source, text string) {
	p := mtakit.DefaultPathConfig()
	p.ConnectionLimit.N = 1 // so that turns are certain
	s.json(text, &p)
	s.paths[source] = &p
}

func (s *script) json(text string, v any) {
	if err := json.Unmarshal([]byte(text), v); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
}

func (s *script) duration(text string) time.Duration {
	d, err := mtakit.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d.Std()
}

func (s *script) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// words splits at spaces; quoted words and JSON objects may have them inside.
func (s *script) words(line string) (words []string) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		switch line[0] {
		case '"':
			q, err := strconv.QuotedPrefix(line)
			if err != nil {
				s.t.Fatalf("%s: %v", line, err)
			}
			w, _ := strconv.Unquote(q)
			words, line = append(words, w), line[len(q):]
		case '{':
			var raw json.RawMessage
			if err := json.NewDecoder(strings.NewReader(line)).Decode(&raw); err != nil {
				s.t.Fatalf("%s: %v", line, err)
			}
			words, line = append(words, string(raw)), line[len(raw):]
		default:
			w, rest, _ := strings.Cut(line, " ")
			words, line = append(words, w), rest
		}
	}
	return words
}

func (s *script) command(line string) {
	w := s.words(line)
	arg := func(i int) string {
		if i >= len(w) {
			s.t.Fatalf("%s: %d words are too few", line, len(w))
		}
		return w[i]
	}
	// named is the optional name before a JSON text.
	named := func() (string, string) {
		if len(w) > 2 {
			return w[1], w[2]
		}
		return "*", arg(1)
	}
	q := s.mta.Queue
	switch w[0] {
	case "settings":
		name, text := named()
		set := mtakit.DefaultQueueSettings()
		s.json(text, &set)
		s.set[name] = &set
		q.BumpEpoch()
	case "path":
		s.path(named())
		q.BumpEpoch()
	case "pool":
		p := &mtakit.Pool{Name: arg(1)}
		for _, e := range w[2:] {
			name, weight, _ := strings.Cut(e, "=")
			p.Entries = append(p.Entries, mtakit.PoolEntry{Name: name, Weight: s.number(weight)})
		}
		s.pools[p.Name] = p
		q.BumpEpoch()
	case "peer":
		s.peer(s.mta.Peer(arg(1)), w[2:])
	case "same":
		s.mta.SameSite(w[1:]...)
	case "unresolvable":
		s.mta.Unresolvable(arg(1), true)
	case "resolvable":
		s.mta.Unresolvable(arg(1), false)
	case "inject":
		s.inject(w[1:])
	case "run":
		s.mta.Run(s.duration(arg(1)))
	case "drain":
		s.mta.Drain(s.duration(arg(1)))
	case "restart":
		s.mta.Restart()
	case "stop":
		s.mta.Stop()
	case "down":
		s.mta.Stop()
		time.Sleep(s.duration(arg(1)))
		s.mta.Restart()
	case "bounce":
		r := q.AdminBounce(s.match(arg(1)), arg(2), time.Time{}, false)
		s.cancel = append(s.cancel, func() error { return q.CancelBounce(r.ID) })
		s.mta.Settle()
	case "suspend":
		r := q.Suspend(s.match(arg(1)), arg(2), time.Time{})
		s.cancel = append(s.cancel, func() error { return q.CancelSuspension(r.ID) })
	case "suspend-ready":
		r := q.SuspendReady(arg(1), arg(2), time.Time{})
		s.cancel = append(s.cancel, func() error { return q.CancelReadySuspension(r.ID) })
		s.mta.Settle()
	case "cancel":
		if err := s.cancel[s.number(arg(1))-1](); err != nil {
			s.t.Fatal(err)
		}
	case "rebind":
		r := queue.Rebind{Match: s.match(arg(1)), Reason: "script", Data: make(map[string]string)}
		for _, e := range w[2:] {
			if e == "flush" {
				r.Flush = true
				continue
			}
			k, v, _ := strings.Cut(e, "=")
			r.Data[k] = v
		}
		q.Rebind(r)
		s.mta.Settle()
	case "retry":
		s.retry = s.retryPolicy(w[1:])
	case "summary":
		s.summary = arg(1) == "on"
	case "received":
		for _, r := range s.mta.Peer(arg(1)).Received() {
			fmt.Fprintf(&s.extra, "%v m%d by %s for %s\n", r.Time.Sub(s.start).Round(time.Millisecond), s.ids[r.ID], r.Source, strings.Join(r.To, ","))
		}
	case "connections":
		open, most, all := s.mta.Peer(arg(1)).Connections()
		fmt.Fprintf(&s.extra, "%d open, %d at most, %d in all\n", open, most, all)
	case "census":
		c := q.Census()
		fmt.Fprintf(&s.extra, "accepted %d, recovered %d, done %d, left %d, waiting %d, ready %d, in hand %d, queues %d, sessions %d\n",
			c.Accepted, c.Recovered, c.Done, c.Left, c.Waiting, c.Ready, c.InHand, c.Queues, c.Sessions)
	case "spool":
		fmt.Fprintf(&s.extra, "%d in the spool\n", s.spool.Len())
	default:
		s.t.Fatalf("unknown command: %s", line)
	}
}

func (s *script) match(text string) (m queue.Match) {
	s.json(text, &m)
	return m
}

func (s *script) retryPolicy(w []string) func(*mtakit.Message) error {
	switch w[0] {
	case "delay":
		d := s.duration(w[1])
		return func(*mtakit.Message) error { return &mtakit.Delay{For: d} }
	case "reject":
		r, err := mtakit.ParseResponse(w[1])
		if err != nil {
			s.t.Fatal(err)
		}
		return func(*mtakit.Message) error { return &mtakit.Reject{Response: r} }
	case "queue":
		return func(m *mtakit.Message) error {
			m.Queue = mtakit.ParseQueueName(w[1])
			return nil
		}
	}
	return nil
}

func (s *script) peer(p *queuetest.Peer, w []string) {
	var r *queuetest.Rule
	var rest []string
	switch w[0] {
	case "reply":
		r, rest = p.Reply(w[1], w[2]), w[3:]
	case "hangup":
		r, rest = p.HangUp(w[1]), w[2:]
	case "refuse":
		r, rest = p.Refuse(), w[1:]
	case "wait":
		r, rest = p.Wait(w[1], s.duration(w[2])), w[3:]
	case "prohibit":
		resp, err := mtakit.ParseResponse(w[1])
		if err != nil {
			s.t.Fatal(err)
		}
		r, rest = p.Settle(&mtakit.PathError{Response: resp, Reason: "MxWasProhibited"}), w[2:]
	case "hosts":
		p.Hosts(s.number(w[1]))
		return
	case "forget":
		p.Forget()
		return
	default:
		s.t.Fatalf("unknown: peer %v", w)
	}
	for ; len(rest) > 0; rest = rest[1:] {
		switch rest[0] {
		case "hangup":
			r.HangUp()
			continue
		case "times":
			r.Times(s.number(rest[1]))
		case "for":
			r.For(rest[1])
		default:
			s.t.Fatalf("unknown: %v", rest)
		}
		rest = rest[1:]
	}
}

func (s *script) inject(w []string) {
	times, durability := 1, mtakit.Durable
	m := mtakit.Message{Sender: w[0], To: strings.Split(w[1], ","), Meta: map[string]any{}}
	for w = w[2:]; len(w) > 0; w = w[1:] {
		switch w[0] {
		case "x":
			times, w = s.number(w[1]), w[1:]
		case "volatile":
			durability = mtakit.Volatile
		case "due":
			m.Due, w = time.Now().Add(s.duration(w[1])), w[1:]
		case "schedule":
			m.Schedule = new(mtakit.Schedule)
			s.json(w[1], m.Schedule)
			w = w[1:]
		case "meta":
			k, v, _ := strings.Cut(w[1], "=")
			m.Meta[k], w = v, w[1:]
		default:
			s.t.Fatalf("unknown: %v", w)
		}
	}
	for range times {
		c := m
		c.To = slices.Clone(m.To)
		id, err := s.mta.TrySubmit(&c, "Subject: script\r\n\r\nscript\r\n", durability)
		if err != nil {
			fmt.Fprintf(&s.extra, "error: %v\n", err)
			continue
		}
		s.ids[id] = len(s.ids) + 1
		s.mta.Settle()
	}
}

// records prints what has been recorded since the last call.
func (s *script) records() string {
	var b strings.Builder
	var news []*mtakit.Record
	for _, r := range s.mta.Records() {
		if !s.seen[r] {
			s.seen[r] = true
			news = append(news, r)
		}
	}
	if s.summary {
		counts := make(map[string]int)
		for _, r := range news {
			key := string(r.Kind)
			if r.Source != "" {
				key += " by " + r.Source
			}
			if r.Kind != mtakit.Reception {
				key += ": " + r.Response.String()
			}
			counts[key]++
		}
		var lines []string
		for k, n := range counts {
			lines = append(lines, fmt.Sprintf("%d %s\n", n, k))
		}
		slices.SortFunc(lines, func(a, b string) int {
			_, a, _ = strings.Cut(a, " ")
			_, b, _ = strings.Cut(b, " ")
			return strings.Compare(a, b)
		})
		return strings.Join(lines, "")
	}
	for _, r := range news {
		fmt.Fprintf(&b, "%v m%d %s %s", r.Time.Sub(s.start).Round(time.Millisecond), s.ids[r.ID], r.Kind, r.Response)
		if r.Kind == mtakit.Reception {
			fmt.Fprintf(&b, " queue=%s", r.Queue)
		}
		fmt.Fprintf(&b, " to=%s tries=%d", strings.Join(r.To, ","), r.Tries)
		if r.Site != "" {
			fmt.Fprintf(&b, " site=%s", r.Site)
		}
		if r.PeerName != "" {
			fmt.Fprintf(&b, " peer=%s", r.PeerName)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
