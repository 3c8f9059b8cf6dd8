package main

import (
	"flag"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

var (
	kills    = flag.Int("kills", 3, "how often TestKill and TestKillWhileDeferred kill the daemon")
	killLoad = flag.Int("kill-connections", 20, "connections that load the daemon in them")
)

// Nothing that was acknowledged is lost by kill -9, and repeats are only what was in flight: at most one message for each connection to the
// destination. The log tells of the arrival and the end of each.
func TestKill(t *testing.T) {
	dir, dest := t.TempDir(), newMX(t, "")
	args := []string{"--data", dir, "--relay-to", dest.addr()}
	var l load
	inFlight := 0
	for range *kills {
		d := start(t, nil, args...)
		stop := l.run(d.smtp, *killLoad, false)
		<-time.After(time.Duration(200+rand.IntN(400)) * time.Millisecond)
		d.kill()
		inFlight += dest.most()
		stop()
	}
	d := start(t, nil, args...)
	d.drained(time.Minute)
	d.stop()
	l.compare(t, dest, inFlight)
	l.compareLog(t, filepath.Join(dir, "logs"))
}

// The same while the destination answers slowly and defers every message twice. Neither tries nor due times get lost: no message is tried before
// its time, and the numbers of its attempts go up.
func TestKillWhileDeferred(t *testing.T) {
	dir, dest := t.TempDir(), newMX(t, "")
	dest.first.Store(2)
	dest.slow.Store(int64(5 * time.Millisecond))
	const interval = 2 * time.Second
	args := soon(t, "--data", dir, "--relay-to", dest.addr())
	var l load
	inFlight := 0
	for round := range *kills {
		d := start(t, nil, args...)
		stop := l.run(d.smtp, *killLoad, false)
		<-time.After(time.Duration(200+rand.IntN(800)) * time.Millisecond)
		if round%2 == 1 { // then there are attempts alone
			stop()
			<-time.After(time.Duration(rand.IntN(2500)) * time.Millisecond)
		}
		d.kill()
		inFlight += dest.most()
		if round%2 == 0 {
			stop()
		}
	}
	d := start(t, nil, args...)
	d.drained(10 * time.Minute)
	d.stop()
	l.compare(t, dest, inFlight)
	a := attempts{interval: interval}
	l.compareLog(t, filepath.Join(dir, "logs"), a.check)
	a.report(t, inFlight)
}
