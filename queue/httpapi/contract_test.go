package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/queue/queuetest"
	"github.com/mtakit/mtakit/queue/xfer"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// TestContract plays testdata/contract/*.txt: what the endpoints are asked and what they answer, in the shapes of the reference, in virtual time. A file
// is blocks that begin with == and one of
//
//	METHOD PATH              a request: header fields, an empty line, the body; then => and the status of the answer, its header fields, an empty line, its body.
//	                         Without fields of its own, a request with a body has the Content-Type application/json. An answer has the type that its
//	                         body looks like, unless there is a field that says "none"
//	inject FROM TO [due TIME] [meta KEY=VALUE …]
//	reply DOMAIN STEP REPLY  what the peer of a domain says
//	wait DOMAIN STEP TIME    how long the peer of a domain takes
//	unresolvable DOMAIN      there is no site for a domain
//	run TIME, restart
//	trouble BITS             the httpapi.Trouble that there is from now on
//	called                   what the rest of the process was asked to do since the last such block
//	records                  the records since the last such block but for Reception and Delayed, one a line: kind, queue, site in brackets, response
//
// Bodies that are JSON are compared as values: every key counts, order does not. In what is expected, $(uuid), $(time), $(duration), $(int), $(id), $(text) and $(any)
// stand for something of that kind; $(NAME:uuid) remembers it, and $(NAME) is what was remembered, also in requests. Lines with # are comments.
func TestContract(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/contract/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { newContract(t).play(string(script)) })
		})
	}
}

// contract is a file that is being played.
type contract struct {
	t        *testing.T
	mta      *queuetest.MTA
	activity *queue.Activity
	spool    *spooltest.Memory
	node     *xfer.Node // to which no other node answers
	api      *httpapi.API
	known    map[string]string
	recorded map[*mtakit.Record]bool // what was compared
	trouble  httpapi.Trouble
	called   []string // what other parts of the process were asked to do
}

// memoryState keeps rules over a restart of the queue.
type memoryState struct{ b []byte }

func (s *memoryState) Load() ([]byte, error) { return s.b, nil }

func (s *memoryState) Save(b []byte) error {
	s.b = bytes.Clone(b)
	return nil
}

func newContract(t *testing.T) *contract {
	c := &contract{t: t, activity: &queue.Activity{}, known: make(map[string]string), recorded: make(map[*mtakit.Record]bool)}
	state, spool := &memoryState{}, &spooltest.Memory{}
	c.spool = spool
	c.mta = queuetest.New(t, queuetest.Options{
		Spool: spool,
		Change: func(cfg *queue.Config) {
			cfg.State, cfg.Record, cfg.Provenance.Settings = state, mtakit.Tee{cfg.Record, c.activity}, contractProvenance
			cfg.Egress = mtakit.EgressMap{"smtp_client": cfg.Egress, "xfer": mtakit.EgressFunc(func(ctx context.Context, p *mtakit.Path) (mtakit.Session, error) {
				return c.node.Connect(ctx, p)
			})}
		},
		Policy: queue.Policy{Path: contractPath, Settings: contractSettings, Rebind: func(_ context.Context, m *mtakit.Message, data map[string]string) error {
			m.Meta["tenant"] = "asked-" + data["tenant"]
			return nil
		}},
	})
	c.start()
	return c
}

// contractPath has limits for the domains of which the files speak, and defaults for others.
func contractPath(_ context.Context, domain, _ string, _ *mtakit.Site) (*mtakit.PathConfig, error) {
	c := mtakit.DefaultPathConfig()
	switch domain {
	case "paced.test", "busy.paced.test":
		c.ConnectionLimit.N, c.MaxDeliveriesPerConnection, c.MaxConnectionRate = 2, 10, mtakit.Rate{N: 10, Per: time.Minute, Burst: 1}
		c.MaxMessageRate, c.IdleTimeout = mtakit.Rate{N: 1000, Per: time.Second}, mtakit.Duration(time.Minute)
		c.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "shared", Limit: mtakit.Limit{N: 1}}}
		c.AdditionalSourceSelectionRates = mtakit.NamedRates{{Name: "warmup", Rate: mtakit.Rate{N: 500, Per: 24 * time.Hour}}}
	case "broken.test":
		return nil, errors.New("the policy is broken")
	}
	return &c, nil
}

func contractSettings(_ context.Context, name mtakit.QueueName) (*mtakit.QueueSettings, error) {
	s := mtakit.DefaultQueueSettings()
	switch name.Domain {
	case "slow.test":
		s.MaxMessageRate, s.EgressPool = mtakit.Rate{N: 5, Per: time.Minute}, ""
	case "list.test":
		s.Protocol.SMTP = &mtakit.SMTPProtocol{MXList: []mtakit.MXListEntry{{Name: "a.list.test"}, {Name: "b.list.test:26"}}}
	}
	return &s, nil
}

// contractProvenance knows where one of the settings is from.
func contractProvenance(context.Context, mtakit.QueueName) ([]mtakit.Setting, error) {
	return []mtakit.Setting{{Option: "retry_interval", By: "queue default", Place: mtakit.Place{File: "queues.toml", Line: 3, Column: 18}}}, nil
}

// start makes an API of the queue that there is now.
func (c *contract) start() {
	call := func(format string, args ...any) { c.called = append(c.called, fmt.Sprintf(format, args...)) }
	var err error
	c.node, err = xfer.New(xfer.Config{Queue: c.mta.Queue, Spool: c.spool, NodeID: "00000000-0000-4000-8000-000000000000",
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }})
	if err != nil {
		c.t.Fatal(err)
	}
	c.api, err = httpapi.New(httpapi.Config{
		Queue: c.mta.Queue, Xfer: c.node, Activity: c.activity, Hostname: "mta.example", NodeID: "00000000-0000-4000-8000-000000000000", Version: "1.2.3",
		SetLogFilter: func(filter string) error {
			call("log filter %s", filter)
			if strings.Contains(filter, "loud") {
				return errors.New("invalid filter directive")
			}
			return nil
		},
		Compact: func(_ context.Context, name string) error {
			call("compact %s", name)
			if name != "data" {
				return fmt.Errorf("there is no spool %q", name)
			}
			return nil
		},
		Reload:  func(context.Context) { call("reload") },
		Trouble: func() httpapi.Trouble { return c.trouble },
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *contract) play(script string) {
	line := 0
	for block := range strings.SplitSeq("\n"+script, "\n== ") {
		at := line // of the block's first line
		line += strings.Count(block, "\n") + 1
		if at == 0 {
			continue // what comes before the first block
		}
		var lines []string
		for l := range strings.SplitSeq(block, "\n") {
			if !strings.HasPrefix(l, "#") {
				lines = append(lines, l)
			}
		}
		if problem := c.block(strings.Fields(lines[0]), lines[1:]); problem != "" {
			c.t.Errorf("line %d: %s: %s", at, lines[0], problem)
		}
		if c.t.Failed() {
			return
		}
	}
}

// block does what a block says and returns what is wrong.
func (c *contract) block(words, rest []string) string {
	switch words[0] {
	case "inject":
		m := &mtakit.Message{Sender: words[1], To: []string{words[2]}, Meta: map[string]any{}}
		for w := words[3:]; len(w) > 1; w = w[2:] {
			switch k, v, _ := strings.Cut(w[1], "="); w[0] {
			case "due":
				m.Due = time.Now().Add(c.duration(w[1]))
			case "meta":
				m.Meta[k] = v
			}
		}
		c.mta.Submit(m, "Subject: x\r\n\r\nx\r\n")
		c.mta.Settle()
	case "reply":
		c.mta.Peer(words[1]).Reply(words[2], strings.Join(words[3:], " "))
	case "wait":
		c.mta.Peer(words[1]).Wait(words[2], c.duration(words[3]))
	case "unresolvable":
		c.mta.Unresolvable(words[1], true)
	case "trouble":
		bits, err := strconv.Atoi(words[1])
		if err != nil {
			c.t.Fatal(err)
		}
		c.trouble = httpapi.Trouble(bits)
	case "run":
		c.mta.Run(c.duration(words[1]))
	case "restart":
		c.mta.Restart()
		c.start()
	case "records":
		var got []string
		for _, r := range c.mta.Records() {
			if c.recorded[r] {
				continue
			}
			c.recorded[r] = true
			if r.Kind == mtakit.Reception || r.Kind == mtakit.Delayed {
				continue
			}
			got = append(got, fmt.Sprintf("%s %s [%s] %s", r.Kind, r.Queue, r.Site, r.Response))
		}
		want := strings.TrimSpace(strings.Join(rest, "\n"))
		return c.text("records", want, strings.Join(got, "\n"))
	case "called":
		want, got := strings.TrimSpace(strings.Join(rest, "\n")), strings.Join(c.called, "\n")
		c.called = nil
		return c.text("calls", want, got)
	default:
		return c.exchange(words, rest)
	}
	return ""
}

func (c *contract) duration(s string) time.Duration {
	d, err := mtakit.ParseDuration(s)
	if err != nil {
		c.t.Fatal(err)
	}
	return d.Std()
}

// exchange sends a request and compares the answer.
func (c *contract) exchange(words, rest []string) string {
	i := slices.IndexFunc(rest, func(s string) bool { return strings.HasPrefix(s, "=> ") })
	if i < 0 || len(words) != 2 {
		return "a request is METHOD PATH, with an answer that begins with =>"
	}
	header, body := c.split(rest[:i])
	if len(header) == 0 && body != "" {
		header = http.Header{"Content-Type": {"application/json"}}
	}
	sent, remote := body, header.Get("Remote")
	header.Del("Remote")
	resp := do(c.api, call{method: words[0], path: c.fill(words[1]), body: body, header: header, remote: remote})
	c.mta.Settle()
	got := bodyOf(c.t, resp)
	if want := strings.Fields(rest[i])[1]; strconv.Itoa(resp.StatusCode) != want {
		return fmt.Sprintf("status is %d, want %s; body is %s", resp.StatusCode, want, got)
	}
	header, want := c.split(rest[i+1:])
	none := header.Get("Content-Type") == "none"
	if none {
		header.Del("Content-Type")
	}
	for k := range header {
		if problem := c.text(k, header.Get(k), resp.Header.Get(k)); problem != "" {
			return problem
		}
	}
	kind := "text/plain; charset=utf-8"
	isJSON := strings.HasPrefix(want, "{") || strings.HasPrefix(want, "[")
	switch {
	case isJSON:
		kind = "application/json"
	case want == "" || none:
		kind = ""
	}
	if k := resp.Header.Get("Content-Type"); k != kind {
		return fmt.Sprintf("Content-Type is %q, want %q", k, kind)
	}
	if !isJSON {
		return c.text("body", want, strings.TrimSpace(got))
	}
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		return "expected body: " + err.Error()
	}
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		return fmt.Sprintf("%v in %s", err, got)
	}
	if problem := c.value("", w, g); problem != "" {
		return problem + "\nin " + got
	}
	if resp.StatusCode == http.StatusOK {
		path, query, _ := strings.Cut(words[1], "?")
		return described(words[0], path, query, sent, g)
	}
	return ""
}

// split parts header fields and body, and fills in what was remembered.
func (c *contract) split(lines []string) (http.Header, string) {
	h := http.Header{}
	for len(lines) > 0 && lines[0] != "" {
		name, value, ok := strings.Cut(lines[0], ": ")
		if !ok {
			c.t.Fatalf("not a header field: %s", lines[0])
		}
		h.Add(name, value)
		lines = lines[1:]
	}
	return h, c.fill(strings.TrimSpace(strings.Join(lines, "\n")))
}

var placeholder = regexp.MustCompile(`\$\((\w+:)?(\w+)\)`)

// kinds are what placeholders stand for.
var kinds = map[string]string{
	"uuid": `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "time": `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6}|\.\d{9})?Z`,
	"duration": `[0-9a-z]+( [0-9a-z]+)*`, "int": `-?\d+`, "id": `[0-9a-f]{32}`, "text": `(?s:.*)`, "any": `(?s:.*)`,
}

func (c *contract) fill(s string) string {
	return placeholder.ReplaceAllStringFunc(s, func(p string) string {
		if v, ok := c.known[p[2:len(p)-1]]; ok {
			return v
		}
		return p
	})
}

// text compares what was expected, with placeholders, with what there is.
func (c *contract) text(what, want, got string) string {
	var names []string
	pattern, pos := "^", 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(want, -1) {
		kind := kinds[want[m[4]:m[5]]]
		if kind == "" {
			c.t.Fatalf("unknown placeholder %s", want[m[0]:m[1]])
		}
		pattern += regexp.QuoteMeta(want[pos:m[0]])
		pos = m[1]
		if m[2] >= 0 {
			names = append(names, want[m[2]:m[3]-1])
			pattern += "(?P<" + names[len(names)-1] + ">" + kind + ")"
		} else {
			pattern += kind
		}
	}
	re := regexp.MustCompile(pattern + regexp.QuoteMeta(want[pos:]) + "$")
	m := re.FindStringSubmatch(got)
	if m == nil {
		return fmt.Sprintf("%s is\n%s\nwant\n%s", what, got, want)
	}
	for _, n := range names {
		c.known[n] = m[re.SubexpIndex(n)]
	}
	return ""
}

// value compares JSON values.
func (c *contract) value(path string, want, got any) string {
	switch w := want.(type) {
	case string:
		if w == "$(any)" {
			return ""
		}
		if g, ok := got.(float64); ok && w == "$(int)" && g == float64(int64(g)) {
			return ""
		}
		if g, ok := got.(string); ok {
			return c.text(path, w, g)
		}
	case map[string]any:
		g, ok := got.(map[string]any)
		if a, b := slices.Sorted(maps.Keys(w)), slices.Sorted(maps.Keys(g)); !ok || !slices.Equal(a, b) {
			return fmt.Sprintf("%s has the keys %v, want %v", path, b, a)
		}
		for k := range w {
			if problem := c.value(path+"."+k, w[k], g[k]); problem != "" {
				return problem
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s is %v, want %v", path, got, want)
		}
		for i := range w {
			if problem := c.value(fmt.Sprintf("%s[%d]", path, i), w[i], g[i]); problem != "" {
				return problem
			}
		}
		return ""
	}
	if want != got {
		return fmt.Sprintf("%s is %v, want %v", path, got, want)
	}
	return ""
}
