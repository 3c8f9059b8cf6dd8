package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

var (
	restartMessages = flag.Int("restart-messages", 2000, "how many messages wait when TestRestart restarts the daemon")
	restartRate     = flag.Int("restart-rate", 2000, "about how many messages a second it expects to be loaded and attempted")
)

// The daemon is killed and started again with many messages waiting that the destination has deferred. It accepts mail at once, while it reads what it
// has; every message is delivered once; and none before its time or with a wrong number of attempts. For figures:
//
//	go test ./examples/kumod -run TestRestart -v -timeout 1h -restart-messages 100000
func TestRestart(t *testing.T) {
	dir, dest := t.TempDir(), newMX(t, "")
	dest.deferring.Store(true)
	// Due again when all have had their first attempt: the restart finds some that are due and some that are not.
	interval := max(4*time.Second, time.Duration(*restartMessages / *restartRate)*time.Second)
	queues := filepath.Join(t.TempDir(), "queues.toml")
	write(t, queues, fmt.Sprintf("[queue.default]\nretry_interval = '%[1]s'\nmax_retry_interval = '%[1]s'\n", interval))
	args := []string{"--data", dir, "--relay-to", dest.addr(), "--queues", queues}
	d := start(t, nil, args...)
	var l load
	began := time.Now()
	l.upTo(t, d.smtp, *restartMessages, *killLoad)
	t.Logf("%d messages loaded in %v, of which the destination has seen %d; the process has %s", l.count(), time.Since(began).Round(time.Millisecond),
		dest.deferred.Load(), memory(t, d))
	d.kill()
	inFlight := dest.most()
	dest.deferring.Store(false)
	waiting := l.count()
	dest.mu.Lock()
	dest.upTo = int(l.next.Load())
	dest.mu.Unlock()

	began = time.Now()
	d = start(t, nil, args...)
	t.Logf("ready %v after its start, with %d messages", time.Since(began).Round(time.Millisecond), d.spooled)
	// Reception while what was there is read.
	stop := l.run(d.smtp, 5, true)
	for end := time.Now().Add(10 * time.Second); l.count() == waiting; {
		if time.Now().After(end) {
			t.Fatal("no mail is taken after the restart")
		}
		<-time.After(time.Millisecond)
	}
	t.Logf("mail taken %v after its start", time.Since(began).Round(time.Millisecond))
	<-time.After(time.Second)
	stop()
	t.Logf("%d messages taken in its first second", l.count()-waiting)
	d.drained(interval + 20*time.Minute)
	dest.mu.Lock()
	first, last := dest.oldest.Sub(began), dest.newest.Sub(began)
	dest.mu.Unlock()
	t.Logf("first delivery of what waited %v after the start, last delivery %v; the process has %s", first.Round(time.Millisecond), last.Round(time.Millisecond), memory(t, d))
	d.stop()
	l.onlyTemporary(t)
	l.compare(t, dest, inFlight)
	a := attempts{interval: interval}
	l.compareLog(t, filepath.Join(dir, "logs"), a.check)
	a.report(t, inFlight)
}

var vmLine = regexp.MustCompile(`(?m)^Vm(HWM|RSS):\s+(\d+) kB$`)

// memory is what the process has and what it had at most.
func memory(t testing.TB, d *daemon) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var s string
	for _, m := range vmLine.FindAllStringSubmatch(string(b), 2) {
		var kb int
		fmt.Sscan(m[2], &kb)
		s += fmt.Sprintf("%s %d MiB ", m[1], kb>>10)
	}
	return s
}
