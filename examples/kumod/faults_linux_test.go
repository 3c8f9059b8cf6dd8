package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	syncPositions = flag.Int("sync-positions", 2, "at how many positions TestSyncFails lets fdatasync fail, and kills")
	faultTime     = flag.Duration("fault-time", time.Second, "how long the tests of failing storage load the daemon in each phase")
)

// injected lets system calls of a running daemon fail, until the function it returns is called.
func injected(t *testing.T, d *daemon, calls, inject string) (stop func()) {
	t.Helper()
	cmd := exec.Command(program(t, "strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace="+calls, "-e", "inject="+calls+":"+inject, "-p", strconv.Itoa(d.cmd.Process.Pid))
	var out lockedBuffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	status := fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid)
	for end := time.Now().Add(10 * time.Second); ; {
		b, err := os.ReadFile(status)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "TracerPid:\t0\n") {
			break
		}
		if time.Now().After(end) {
			cmd.Process.Kill()
			t.Skipf("strace can't attach: %s", out.String())
		}
		<-time.After(5 * time.Millisecond)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cmd.Process.Signal(syscall.SIGINT)
			cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}

// soon is the arguments for a daemon that tries again soon: what is due while storage fails waits for a retry interval.
func soon(t *testing.T, args ...string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "queues.toml")
	write(t, file, "[queue.default]\nretry_interval = '2s'\nmax_retry_interval = '2s'\n")
	return append(args, "--queues", file)
}

// taken waits until the daemon takes mail again.
func (d *daemon) taken(l *load, most time.Duration) {
	d.t.Helper()
	before := l.count()
	stop := l.run(d.smtp, 1, true)
	defer stop()
	for end := time.Now().Add(most); l.count() == before; {
		if time.Now().After(end) {
			d.t.Fatalf("no mail is taken within %v", most)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// stopEmpty stops the daemon and checks that nothing is left for the next one to deliver again.
func (d *daemon) stopEmpty(args ...string) {
	d.t.Helper()
	d.stop()
	next := start(d.t, nil, args...)
	if next.spooled > 0 {
		d.t.Errorf("%d messages that were delivered are still in the spool", next.spooled)
		next.drained(30 * time.Second)
	}
	next.stop()
}

// onlyTemporary checks that no client was refused for good.
func (l *load) onlyTemporary(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for said := range l.said {
		if strings.HasPrefix(said, "5") || strings.Contains(said, "/") {
			t.Errorf("a client was told %q", said)
		}
	}
	t.Logf("refusals: %v; slowest acknowledgement %v", l.said, l.most)
}

// A failing fdatasync gives no 250, and nothing that was acknowledged is lost, wherever it happens, and wherever the process is killed in it.
func TestSyncFails(t *testing.T) {
	strace := program(t, "strace")
	for n := range *syncPositions {
		when := 1 + n + n*n/3
		for name, inject := range map[string]string{"EIO": fmt.Sprintf("error=EIO:when=%d", when), "kill": fmt.Sprintf("signal=KILL:when=%d", when)} {
			t.Run(fmt.Sprintf("%s at %d", name, when), func(t *testing.T) {
				dir, dest := t.TempDir(), newMX(t, "")
				args := soon(t, "--data", dir, "--relay-to", dest.addr())
				start(t, nil, args...).stop() // what is made at the first start is there
				d, err := launch(t, []string{strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:" + inject}, args...)
				if err != nil {
					t.Log(err) // it did not get to its ready line
					start(t, nil, args...).stop()
					return
				}
				var l load
				stop := l.run(d.smtp, *killLoad, true)
				<-time.After(*faultTime / 2)
				// Where storage fails first, what was sent can't be removed any more, nor what was announced behind it.
				inFlight := 2 * dest.most()
				d.kill()
				stop()
				d = start(t, nil, args...)
				d.drained(30 * time.Second)
				d.stop()
				l.onlyTemporary(t)
				l.compare(t, dest, inFlight)
				l.compareLog(t, filepath.Join(dir, "logs"))
			})
		}
	}
}

// While every fdatasync fails nothing is acknowledged and nothing delivered twice; when it works again, mail is taken without a restart.
func TestSyncFailsForLong(t *testing.T) {
	dir, dest := t.TempDir(), newMX(t, "")
	args := soon(t, "--data", dir, "--relay-to", dest.addr())
	d := start(t, nil, args...)
	var l load
	stop := l.run(d.smtp, *killLoad, true)
	<-time.After(*faultTime)
	heal := injected(t, d, "fdatasync,fsync", "error=EIO")
	<-time.After(*faultTime)
	before := l.count()
	<-time.After(*faultTime)
	if n := l.count() - before; n > 0 {
		t.Errorf("%d messages were acknowledged without a sync", n)
	}
	if code, text := d.get("/api/check-liveness/v1"); code != 503 || !strings.Contains(text, "not accepting writes") {
		t.Errorf("liveness is %d %q", code, text)
	}
	inFlight := dest.most()
	heal()
	stop()
	d.taken(&l, 20*time.Second)
	d.drained(90 * time.Second)
	d.stopEmpty(args...)
	l.onlyTemporary(t)
	l.compare(t, dest, inFlight)
	l.compareLog(t, filepath.Join(dir, "logs"))
}

// A slow disk makes mail slow, and nothing else: one sync is for all who wait.
func TestSlowDisk(t *testing.T) {
	dir, dest := t.TempDir(), newMX(t, "")
	args := soon(t, "--data", dir, "--relay-to", dest.addr())
	d := start(t, nil, args...)
	stopSlow := injected(t, d, "fdatasync,fsync", "delay_enter=300000")
	var l load
	stop := l.run(d.smtp, *killLoad, true)
	<-time.After(3 * *faultTime)
	stop()
	stopSlow()
	d.drained(30 * time.Second)
	d.stopEmpty(args...)
	l.onlyTemporary(t)
	if len(l.said) > 0 {
		t.Errorf("clients were refused: %v", l.said)
	}
	l.compare(t, dest, 0)
	l.compareLog(t, filepath.Join(dir, "logs"))
}

// tmpfs mounts a small file system until the test ends.
func tmpfs(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill leaves no room on a file system, until the function it returns is called.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, ".filler"))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64<<10)
	for {
		if _, err := f.Write(b); err != nil {
			if len(b) > 1 {
				b = b[:len(b)/2]
				continue
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			break
		}
	}
	f.Close()
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

// With the spool's disk full to the last byte, mail is refused for now, and what was taken is delivered. With room it goes on.
func TestSpoolDiskFull(t *testing.T) {
	dir, logs, dest := tmpfs(t, "256m"), t.TempDir(), newMX(t, "")
	args := soon(t, "--data", dir, "--logs", logs, "--relay-to", dest.addr())
	d := start(t, nil, args...)
	l := load{text: "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("y", 70)+"\r\n", 300)}
	stop := l.run(d.smtp, *killLoad, true)
	<-time.After(*faultTime)
	free := fill(t, dir)
	<-time.After(*faultTime)
	for end := time.Now().Add(10 * time.Second); ; {
		if code, _ := d.get("/api/check-liveness/v1"); code == 503 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the full disk was not noticed")
		}
		<-time.After(20 * time.Millisecond)
	}
	stop()
	d.drained(20 * time.Second) // while the disk is full
	start := time.Now()
	free()
	d.taken(&l, 5*time.Second)
	t.Logf("mail is taken %v after there was room", time.Since(start))
	d.drained(20 * time.Second)
	d.stopEmpty(args...)
	l.onlyTemporary(t)
	l.compare(t, dest, 0)
	l.compareLog(t, logs)
}

// A disk that is filled by mail for a slow destination gives way to 452, and is emptied by deliveries: nobody has to make room.
func TestSpoolFillsItsDisk(t *testing.T) {
	dir, logs, dest := tmpfs(t, "64m"), t.TempDir(), newMX(t, "")
	dest.slow.Store(int64(500 * time.Millisecond)) // so that mail comes faster, on any machine
	args := soon(t, "--data", dir, "--logs", logs, "--relay-to", dest.addr())
	d := start(t, nil, args...)
	l := load{text: "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("y", 70)+"\r\n", 300)}
	stop := l.run(d.smtp, *killLoad, true)
	<-time.After(4 * *faultTime)
	for end := time.Now().Add(time.Minute); l.heard("452 4.3.1 kumod.test")+l.heard("421 4.3.2 kumod.test") == 0; {
		if time.Now().After(end) {
			t.Fatal("the disk did not fill up")
		}
		<-time.After(20 * time.Millisecond)
	}
	stop()
	dest.slow.Store(0)
	d.drained(time.Minute)
	d.taken(&l, 10*time.Second)
	d.drained(20 * time.Second)
	d.stopEmpty(args...)
	l.onlyTemporary(t)
	l.compare(t, dest, 0)
	l.compareLog(t, logs)
}

// While the log's disk is full, no message leaves the spool without its records; delivery pauses, and goes on when there is room.
func TestLogDiskFull(t *testing.T) {
	dir, logs, dest := t.TempDir(), tmpfs(t, "32m"), newMX(t, "")
	args := soon(t, "--data", dir, "--logs", logs, "--relay-to", dest.addr())
	d := start(t, nil, args...)
	var l load
	stop := l.run(d.smtp, *killLoad, true)
	<-time.After(*faultTime)
	free := fill(t, logs)
	<-time.After(2 * *faultTime)
	acked, came := l.count(), dest.count()
	<-time.After(*faultTime)
	if a, c := l.count(), dest.count(); a != acked || c != came {
		t.Errorf("%d messages were taken and %d delivered although the log can't be written", a-acked, c-came)
	}
	if code, text := d.get("/api/check-liveness/v1"); code != 503 || !strings.Contains(text, "storage is too full") {
		t.Errorf("liveness is %d %q", code, text)
	}
	start := time.Now()
	free()
	d.taken(&l, 15*time.Second)
	t.Logf("mail is taken %v after there was room", time.Since(start))
	stop()
	d.drained(20 * time.Second)
	d.stopEmpty(args...)
	l.onlyTemporary(t)
	l.compare(t, dest, 0)
	l.compareLog(t, logs)
}

// A shutdown ends although the log's disk is full; what was done without a record is delivered again.
func TestShutdownWithLogDiskFull(t *testing.T) {
	dir, logs, dest := t.TempDir(), tmpfs(t, "32m"), newMX(t, "")
	args := soon(t, "--data", dir, "--logs", logs, "--relay-to", dest.addr(), "--shutdown-timeout", "2s")
	d := start(t, nil, args...)
	var l load
	stop := l.run(d.smtp, *killLoad, true)
	<-time.After(*faultTime)
	free := fill(t, logs)
	<-time.After(*faultTime)
	began := time.Now()
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.ended:
		t.Logf("ended after %v with %v", time.Since(began), err)
	case <-time.After(20 * time.Second):
		t.Error("the shutdown does not end")
		d.kill()
	}
	inFlight := dest.most()
	stop()
	free()
	d = start(t, nil, args...)
	d.drained(20 * time.Second)
	d.stop()
	l.onlyTemporary(t)
	l.compare(t, dest, inFlight)
}

// With the spool's file system read-only mail is refused for now; when it can be written again, mail is taken without a restart.
func TestReadOnly(t *testing.T) {
	dir, logs, dest := tmpfs(t, "256m"), t.TempDir(), newMX(t, "")
	args := soon(t, "--data", dir, "--logs", logs, "--relay-to", dest.addr())
	d := start(t, nil, args...)
	var l load
	stop := l.run(d.smtp, *killLoad, true)
	<-time.After(*faultTime)
	// Files that are open for writing keep a file system from being remounted: what a failing disk does is simulated.
	heal := injected(t, d, "pwrite64,pwritev,openat", "error=EROFS")
	<-time.After(*faultTime)
	before := l.count()
	<-time.After(*faultTime)
	if n := l.count() - before; n > 0 {
		t.Errorf("%d messages were acknowledged on a read-only disk", n)
	}
	inFlight := dest.most()
	heal()
	stop()
	d.taken(&l, 20*time.Second)
	d.drained(90 * time.Second)
	d.stopEmpty(args...)
	l.onlyTemporary(t)
	l.compare(t, dest, inFlight)
	l.compareLog(t, logs)
}

// With the spool's directory gone nothing is acknowledged any more.
func TestSpoolRemoved(t *testing.T) {
	dir, dest := t.TempDir(), newMX(t, "")
	d := start(t, nil, "--data", dir, "--relay-to", dest.addr())
	var l load
	stop := l.run(d.smtp, *killLoad, true)
	<-time.After(*faultTime)
	if err := os.Rename(filepath.Join(dir, "spool"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; {
		if code, _ := d.get("/api/check-liveness/v1"); code == 503 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the loss of the directory was not noticed")
		}
		<-time.After(20 * time.Millisecond)
	}
	before := l.count()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); { // what was stored until then is still being acknowledged
		last := before
		<-time.After(200 * time.Millisecond)
		if before = l.count(); before == last {
			break
		}
	}
	<-time.After(*faultTime)
	if n := l.count() - before; n > 0 {
		t.Errorf("%d messages were acknowledged without a spool", n)
	}
	stop()
	d.kill()
	inFlight := dest.most() + *killLoad
	if err := os.Rename(filepath.Join(dir, "moved"), filepath.Join(dir, "spool")); err != nil {
		t.Fatal(err)
	}
	d = start(t, nil, "--data", dir, "--relay-to", dest.addr())
	d.drained(90 * time.Second)
	d.stop()
	l.onlyTemporary(t)
	l.compare(t, dest, inFlight)
	l.compareLog(t, filepath.Join(dir, "logs"))
}

// With no file descriptor left, new connections wait or are refused, those that are there go on, and nothing breaks.
func TestFewDescriptors(t *testing.T) {
	dir, dest := t.TempDir(), newMX(t, "")
	d := start(t, []string{program(t, "prlimit"), "--nofile=80"}, "--data", dir, "--relay-to", dest.addr())
	var l load
	l.upTo(t, d.smtp, 100, 5)
	var idle []net.Conn
	for range 150 {
		c, err := net.Dial("tcp", d.smtp)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	stop := l.run(d.smtp, *killLoad, true)
	<-time.After(*faultTime)
	for _, c := range idle {
		c.Close()
	}
	d.taken(&l, 20*time.Second)
	stop()
	d.drained(90 * time.Second)
	d.stop()
	l.onlyTemporary(t)
	l.compare(t, dest, 0)
	l.compareLog(t, filepath.Join(dir, "logs"))
}
