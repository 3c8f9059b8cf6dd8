package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
	"github.com/mtakit/mtakit/spool"
)

// BenchmarkAccept compares the rate of durable 250s over SMTP, from clients in the same process, with that of the spool's Store alone, called by as
// many goroutines with messages of the same size.
//
//	go test -run '^$' -bench Accept -count 5 ./examples/kumod
func BenchmarkAccept(b *testing.B) {
	text := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("y", 76)+"\r\n", 105) // 8 KiB
	for _, conns := range []int{50, 200} {
		b.Run(fmt.Sprintf("store/%d", conns), func(b *testing.B) {
			store := openSpool(b)
			var ids mtakit.IDSource
			inParallel(b, conns, func(more func() bool) {
				for more() {
					m := &mtakit.Message{ID: ids.New(time.Now()), Sender: "a@x.test", To: []string{"b@dest.test"}}
					if err := store.Store(context.Background(), []mtakit.Submission{{Message: m, Body: mtakit.Bytes(text)}}, mtakit.Durable); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
		b.Run(fmt.Sprintf("smtp/%d", conns), func(b *testing.B) {
			store := openSpool(b)
			srv := &smtpserver.Server{Deliver: func(ctx context.Context, batch []mtakit.Submission, d mtakit.Durability) error {
				err := store.Store(ctx, batch, d)
				if err == nil {
					for _, s := range batch {
						s.Body.Close()
					}
				}
				return err
			}}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			go srv.Serve(l)
			defer srv.Close()
			inParallel(b, conns, func(more func() bool) {
				if err := pipeline(l.Addr().String(), text, more); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

func openSpool(b *testing.B) *spool.Spool {
	store, err := spool.Open(b.TempDir(), spool.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	return store
}

// inParallel runs fn n times at once; together they may go on b.N times.
func inParallel(b *testing.B, n int, fn func(more func() bool)) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			fn(func() bool { return left.Add(-1) >= 0 })
		}()
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// pipeline sends messages over one connection as smtpclient does: the end of one and the envelope of the next are one write (RFC 2920, 3.1).
func pipeline(addr, text string, more func() bool) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	r := bufio.NewReader(nc)
	expect := func(codes string) error {
		for _, want := range []byte(codes) {
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return err
				}
				if len(line) < 4 || line[3] == '-' {
					continue
				}
				if line[0] != want {
					return fmt.Errorf("reply is %q", line)
				}
				break
			}
		}
		return nil
	}
	const envelope = "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@dest.test>\r\nDATA\r\n"
	io.WriteString(nc, "EHLO b.test\r\n")
	if err := expect("22"); err != nil || !more() {
		return err
	}
	io.WriteString(nc, envelope)
	if err := expect("223"); err != nil {
		return err
	}
	last, others := []byte(text+".\r\n"), []byte(text+".\r\n"+envelope)
	for more() {
		nc.Write(others)
		if err := expect("2223"); err != nil {
			return err
		}
	}
	nc.Write(last)
	return expect("2")
}
