package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// BenchmarkRelay measures a whole relay, durable, from smtp-source with 20 connections to a destination in this process: messages a second from the first
// injection to the last arrival, and kumod's CPU time. Postfix runs beside it in the same configuration, and "direct" is the generator straight into the
// destination; figures are worth something as ratios within one run. It needs Postfix's programs and root:
//
//	go test -run '^$' -bench Relay -benchtime 1x -count 5 ./examples/kumod
func BenchmarkRelay(b *testing.B) {
	source := program(b, "smtp-source")
	for _, size := range []struct {
		name     string
		bytes, n int
	}{{"1KiB", 1 << 10, 4000}, {"10KiB", 10 << 10, 3000}, {"100KiB", 100 << 10, 1000}} {
		for _, peer := range []string{"direct", "kumod", "Postfix"} {
			b.Run(size.name+"/"+peer, func(b *testing.B) {
				sink := newCounter(b)
				addr, pid := sink.addr, 0
				switch peer {
				case "kumod":
					d := start(b, nil, "--data", b.TempDir(), "--relay-to", sink.addr)
					addr, pid = d.smtp, d.cmd.Process.Pid
				case "Postfix":
					needRoot(b)
					cert, key, _ := certificate(b, smtptest.NewCA(b))
					addr = freeAddr(b)
					postfix(b, addr, sink.addr, cert, key)
				}
				for b.Loop() {
					n := size.n
					if peer == "Postfix" {
						n /= 5
					}
					before, cpu, began := sink.n.Load(), cpuTime(b, pid), time.Now()
					out, err := exec.Command(source, "-s", "20", "-d", "-l", strconv.Itoa(size.bytes), "-m", strconv.Itoa(n),
						"-f", "a@src.test", "-t", "b@dst.test", addr).CombinedOutput()
					if err != nil {
						b.Fatalf("smtp-source: %v\n%s", err, out)
					}
					for sink.n.Load()-before < int64(n) {
						if time.Since(began) > time.Minute {
							b.Fatalf("%d of %d messages have arrived", sink.n.Load()-before, n)
						}
						<-time.After(time.Millisecond)
					}
					b.ReportMetric(float64(n)/time.Since(began).Seconds(), "msgs/s")
					if pid != 0 {
						b.ReportMetric(float64((cpuTime(b, pid)-cpu).Microseconds())/float64(n), "cpu-µs/msg")
					}
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// cpuTime is what a process has used so far.
func cpuTime(b *testing.B, pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / 100 // USER_HZ
}

// counter is a destination that takes everything and counts.
type counter struct {
	addr string
	n    atomic.Int64
}

func newCounter(b *testing.B) *counter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	c := &counter{addr: l.Addr().String()}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(nc)
		}
	}()
	return c
}

func (c *counter) serve(nc net.Conn) {
	defer nc.Close()
	r := bufio.NewReaderSize(nc, 128<<10)
	w := bufio.NewWriter(nc)
	io.WriteString(w, "220 sink.test ESMTP\r\n")
	inData := false
	for {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil && err != bufio.ErrBufferFull:
			return
		case inData:
			if string(line) == ".\r\n" {
				inData = false
				c.n.Add(1)
				io.WriteString(w, "250 2.0.0 ok\r\n")
			}
		case bytes.HasPrefix(line, []byte("EHLO")):
			io.WriteString(w, "250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
		case bytes.HasPrefix(line, []byte("DATA")):
			inData = true
			io.WriteString(w, "354 go on\r\n")
		case bytes.HasPrefix(line, []byte("QUIT")):
			io.WriteString(w, "221 bye\r\n")
			w.Flush()
			return
		default:
			io.WriteString(w, "250 2.0.0 ok\r\n")
		}
	}
}
