package main

import (
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient/route/routetest"
)

var (
	soakTime = flag.Duration("soak", 0, "how long TestSoak loads the daemon, at least a minute to have it judge whether anything grows; 0 skips it")
	soakRate = flag.Int("soak-rate", 500, "about how many messages a second TestSoak sends to the destination that works")
)

var spoolMessages = regexp.MustCompile(`(?m)^spool_messages (\d+)$`)

// usage is what a daemon has of the system at a moment.
type usage struct {
	goroutines, files, messages int
	rss, spool                  int64 // MiB
}

func (u usage) String() string {
	return fmt.Sprintf("%4d goroutines, %4d files, %4d MiB RSS, %4d MiB spool, %6d messages", u.goroutines, u.files, u.rss, u.spool, u.messages)
}

func (d *daemon) usage(spool string) (u usage) {
	d.t.Helper()
	_, text := d.get("/debug/pprof/goroutine?debug=1")
	fmt.Sscanf(text, "goroutine profile: total %d", &u.goroutines)
	if _, text = d.get("/metrics"); text != "" {
		if m := spoolMessages.FindStringSubmatch(text); m != nil {
			u.messages, _ = strconv.Atoi(m[1])
		}
	}
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	u.files = len(list)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	var size, rss int64
	fmt.Sscan(string(b), &size, &rss)
	u.rss = rss * int64(os.Getpagesize()) >> 20
	filepath.WalkDir(spool, func(_ string, e fs.DirEntry, err error) error {
		if err == nil {
			if info, err := e.Info(); err == nil {
				u.spool += info.Size()
			}
		}
		return nil
	})
	u.spool >>= 20
	return u
}

// settled waits until no more goroutines and files are in use than in before.
func (d *daemon) settled(spool string, before usage, most time.Duration) {
	d.t.Helper()
	for end := time.Now().Add(most); ; {
		now := d.usage(spool)
		if now.goroutines <= before.goroutines && now.files <= before.files {
			d.t.Logf("after:  %v", now)
			return
		}
		if time.Now().After(end) {
			_, text := d.get("/debug/pprof/goroutine?debug=1")
			d.t.Fatalf("before: %v\nafter:  %v\n%s", before, now, text)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// After a load of many connections nothing is left of it.
func TestLeaks(t *testing.T) {
	dir, dest := t.TempDir(), newMX(t, "")
	shaping := filepath.Join(t.TempDir(), "shaping.toml")
	write(t, shaping, "[default]\nidle_timeout = '500ms'\n")
	d := start(t, nil, "--data", dir, "--relay-to", dest.addr(), "--shaping", shaping)
	var l load
	l.upTo(t, d.smtp, 100, 1) // what is made once is there
	d.drained(10 * time.Second)
	spool := filepath.Join(dir, "spool")
	<-time.After(time.Second) // connections to the destination are closed
	before := d.usage(spool)
	t.Logf("before: %v", before)
	stop := l.run(d.smtp, *killLoad, false)
	<-time.After(*faultTime)
	t.Logf("during: %v", d.usage(spool))
	stop()
	var idle []net.Conn
	for range 100 { // and some that say nothing, and hang up
		c, err := net.Dial("tcp", d.smtp)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	for _, c := range idle {
		c.Close()
	}
	d.drained(20 * time.Second)
	d.settled(spool, before, 20*time.Second)
	d.stop()
	l.compare(t, dest, 0)
}

// A mixed load for a while, of which a part goes to destinations that answer slowly, defer, bounce, refuse connections, or don't answer at all, takes no
// more and more of anything. Every message gets its end: with the destinations that don't take it, by expiring. For figures:
//
//	go test ./examples/kumod -run TestSoak -v -soak 3m -soak-rate 3000
func TestSoak(t *testing.T) {
	if *soakTime == 0 {
		t.Skip("it takes long: give -soak")
	}
	dir := t.TempDir()
	good := newMX(t, "")
	port := good.l.Addr().(*net.TCPAddr).Port
	on := func(ip string) *mx { return newMX(t, net.JoinHostPort(ip, strconv.Itoa(port))) }
	slow, deferring, bouncing := on("127.0.0.2"), on("127.0.0.3"), on("127.0.0.4")
	slow.slow.Store(int64(time.Second))
	deferring.deferring.Store(true)
	bouncing.bouncing.Store(true)
	mute, err := net.Listen("tcp", net.JoinHostPort("127.0.0.6", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close() // accepts by the kernel, and says nothing
	dns := routetest.NewServer(`
		good.test. A 127.0.0.1
		slow.test. A 127.0.0.2
		deferring.test. A 127.0.0.3
		bouncing.test. A 127.0.0.4
		refusing.test. A 127.0.0.5
		mute.test. A 127.0.0.6
	`)
	defer dns.Close()
	resolver, err := dns.Listen()
	if err != nil {
		t.Fatal(err)
	}
	queues, shaping := filepath.Join(t.TempDir(), "queues.toml"), filepath.Join(t.TempDir(), "shaping.toml")
	maxAge := min(20*time.Second, 3**soakTime)
	write(t, queues, fmt.Sprintf("[queue.default]\nretry_interval = '2s'\nmax_retry_interval = '2s'\nmax_age = '%v'\n", maxAge))
	write(t, shaping, "[default]\nbanner_timeout = '2s'\nidle_timeout = '500ms'\nconnection_limit = 20\n")
	d := start(t, nil, "--data", dir, "--dns", resolver, "--dest-port", strconv.Itoa(port), "--prohibited-hosts", "none", "--queues", queues, "--shaping", shaping)
	spool := filepath.Join(dir, "spool")

	loads := map[string]*load{}
	for _, name := range []string{"good", "slow", "deferring", "bouncing", "refusing", "mute"} {
		loads[name] = &load{domain: name + ".test", pause: 50 * time.Millisecond}
	}
	for _, l := range loads { // what is made once is there
		l.upTo(t, d.smtp, 1, 1)
	}
	d.drained(time.Minute)
	<-time.After(time.Second)
	before := d.usage(spool)
	t.Logf("before: %v", before)

	var stops []func()
	for name, l := range loads {
		conns := 2
		if name == "good" {
			conns, l.pause = 20, time.Duration(20*int64(time.Second)/int64(*soakRate))
		}
		stops = append(stops, l.run(d.smtp, conns, true))
	}
	var samples []usage
	const n = 18
	for range n {
		<-time.After(*soakTime / n)
		samples = append(samples, d.usage(spool))
		t.Logf("load:   %v", samples[len(samples)-1])
	}
	for _, stop := range stops {
		stop()
	}
	d.drained(2 * time.Minute)
	d.settled(spool, before, 30*time.Second)
	d.stop()
	total := 0
	for name, l := range loads {
		total += l.count()
		if len(l.said) > 0 {
			t.Errorf("mail for %s was refused: %v", name, l.said)
		}
	}
	loads["good"].compare(t, good, 0)
	seqs, ends := streams{}, map[mtakit.Kind]int{}
	eachRecord(t, filepath.Join(dir, "logs"), func(r *mtakit.Record) {
		seqs.check(t, r)
		ends[r.Kind]++
	})
	t.Logf("%d messages acknowledged; records: %v", total, ends)
	if got := ends[mtakit.Delivered] + ends[mtakit.Bounce] + ends[mtakit.Expiration]; got != total || ends[mtakit.Reception] != total {
		t.Errorf("the log has %d receptions and %d ends, want %d", ends[mtakit.Reception], got, total)
	}
	if *soakTime < time.Minute {
		return
	}
	most := func(s []usage) (m usage) {
		for _, u := range s {
			m = usage{max(m.goroutines, u.goroutines), max(m.files, u.files), max(m.messages, u.messages), max(m.rss, u.rss), max(m.spool, u.spool)}
		}
		return m
	}
	middle, last := most(samples[n/3:2*n/3]), most(samples[2*n/3:])
	if last.goroutines > middle.goroutines*5/4+20 || last.files > middle.files*5/4+20 || last.rss > middle.rss*5/4+10 || last.spool > middle.spool*5/4+128 {
		t.Errorf("it grows: in the second third at most\n%v, in the last\n%v", middle, last)
	}
}
