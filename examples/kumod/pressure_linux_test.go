package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// gauge is the value of a metric without labels.
func (d *daemon) gauge(name string) (v int64) {
	d.t.Helper()
	_, text := d.get("/metrics")
	if m := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindStringSubmatch(text); m != nil {
		fmt.Sscan(m[1], &v)
	}
	return v
}

// A daemon whose memory is taken by clients that send large messages and don't end them answers 452 to others, and goes on when these have left. It
// answers all the time, and everything that it has taken arrives once.
func TestMemoryLimit(t *testing.T) {
	out := newMX(t, "")
	probe := start(t, nil, "--data", t.TempDir(), "--relay-to", out.addr())
	base := probe.gauge("memory_usage")
	probe.stop()
	var pages int64
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		fmt.Sscan(string(b), new(int64), &pages)
	}
	if own := pages * int64(os.Getpagesize()); base == 0 || base > 4*own {
		t.Skipf("the daemon uses %d MiB by its own account, more than a process like it: a control group limits it, with others", base>>20)
	}
	soft := 2*base + 32<<20
	d := start(t, []string{"env", fmt.Sprint("KUMOD_MEMORY_SOFT_LIMIT=", soft)}, "--data", t.TempDir(), "--relay-to", out.addr())
	in := &load{pause: 5 * time.Millisecond}
	stop := in.run(d.smtp, 4, true)
	var hogs []*client
	part := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1000<<10/72)
	for range soft >> 20 { // more than there is
		c, err := dial(d.smtp)
		if err != nil {
			break
		}
		defer c.Close()
		hogs = append(hogs, c)
		for _, s := range [][2]string{{"250", "MAIL FROM:<a@x.test>\r\n"}, {"250", "RCPT TO:<hog@dest.test>\r\n"}, {"354", "DATA\r\n"}} {
			if _, err = c.do(s[0], s[1]); err != nil {
				break
			}
		}
		if err == nil {
			io.WriteString(c, part)
		}
	}
	refusals := func() (n int) {
		in.mu.Lock()
		defer in.mu.Unlock()
		for what, k := range in.said {
			if regexp.MustCompile(`4[25][12] 4\.3\.[12]`).MatchString(what) {
				n += k
			}
		}
		return n
	}
	await := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !done(); <-time.After(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not within two minutes; %d messages taken, refusals %v", what, in.count(), in.said)
			}
			if status, _ := d.get("/metrics"); status != 200 {
				t.Fatalf("%s: metrics answer %d", what, status)
			}
		}
	}
	await("intake is refused", func() bool { return refusals() > 0 })
	await("and is counted", func() bool { return d.gauge("memory_over_limit_count") > 0 })
	for _, c := range hogs {
		c.Close()
	}
	taken := in.count()
	await("more is taken", func() bool { return in.count() > taken+50 })
	stop()
	t.Logf("%d MiB at rest, limit %d, at most %d; %d messages taken, %d refusals", base>>20, soft>>20, d.peak(), in.count(), refusals())
	d.drained(2 * time.Minute)
	d.stop()
	out.mu.Lock()
	defer out.mu.Unlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	for id := range in.acked {
		if n := out.got[id]; n != 1 {
			t.Errorf("message %d arrived %d times", id, n)
		}
	}
}
