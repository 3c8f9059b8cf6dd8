package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit/examples/internal/ledger"
)

// config is what to send, and how.
type config struct {
	addr          string
	messages      int64 // 0 is without end
	connections   int
	perConnection int64         // 0 is without end
	interval      time.Duration // between messages; 0 is none
	ehlo          string
	startTLS      bool
	pipelining    bool
	timeout       time.Duration
	from, to      template
	domains       []string
	size          int
	header        []string
	ledger        *ledger.Ledger // nil: none
}

// generator deals numbered messages out to workers, one for each connection.
type generator struct {
	config
	runID  string // makes ids unique among runs
	filler []byte
	start  time.Time
	took   time.Duration

	claimed                    atomic.Int64
	acknowledged, failed, open atomic.Int64
	connectionsFailed          atomic.Int64

	mu        sync.Mutex
	latencies []uint32         // microseconds, of those acknowledged
	reasons   map[string]int64 // of failures
}

func newGenerator(c config) *generator {
	var b [4]byte
	rand.Read(b[:])
	g := &generator{config: c, runID: hex.EncodeToString(b[:]), reasons: map[string]int64{}}
	const line = "All work and no play makes mail a dull boy. All work and no play makes mail.\r\n"
	for len(g.filler) < c.size {
		g.filler = append(g.filler, line...)
	}
	return g
}

// run sends until all is sent or ctx ends, and what was begun then is finished. The error is why it had to give up.
func (g *generator) run(ctx context.Context) error {
	g.start = time.Now()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var wg sync.WaitGroup
	for i := range g.connections {
		wg.Go(func() {
			w := &worker{generator: g, conn: i}
			if err := w.run(ctx); err != nil {
				giveUp(err)
			}
			g.mu.Lock()
			g.latencies = append(g.latencies, w.latencies...)
			g.mu.Unlock()
		})
	}
	wg.Wait()
	g.took = time.Since(g.start)
	if err := context.Cause(ctx); err != nil && err != context.Canceled && err != context.DeadlineExceeded {
		return err
	}
	return nil
}

// next claims the number of the next message, waiting for its turn where there is a rate; false is the end.
func (g *generator) next(ctx context.Context) (int64, bool) {
	if ctx.Err() != nil {
		return 0, false
	}
	n := g.claimed.Add(1) - 1
	if g.messages > 0 && n >= g.messages {
		return 0, false
	}
	return n, g.interval == 0 || sleep(ctx, time.Until(g.start.Add(time.Duration(n)*g.interval)))
}

func (g *generator) fail(reason string) {
	g.failed.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reasons[reason]++
}

func (g *generator) id(n int64) string { return g.runID + "-" + strconv.FormatInt(n, 10) }

func (g *generator) appendMail(dst []byte, n int64, conn int) []byte {
	dst = append(dst, "MAIL FROM:<"...)
	dst = g.from.append(dst, n, conn, g.domain(n))
	return append(dst, ">\r\n"...)
}

func (g *generator) appendRcpt(dst []byte, n int64, conn int) []byte {
	dst = append(dst, "RCPT TO:<"...)
	dst = g.to.append(dst, n, conn, g.domain(n))
	return append(dst, ">\r\n"...)
}

func (g *generator) domain(n int64) string { return g.domains[int(n%int64(len(g.domains)))] }

// appendMessage appends the message with its final dot.
func (g *generator) appendMessage(dst []byte, n int64, conn int, now time.Time) []byte {
	begin := len(dst)
	dst = fmt.Appendf(dst, "%s: %s\r\nMessage-ID: <%[2]s@%s>\r\nDate: ", ledger.Header, g.id(n), g.ehlo)
	dst = now.AppendFormat(dst, time.RFC1123Z)
	dst = append(dst, "\r\nFrom: <"...)
	dst = g.from.append(dst, n, conn, g.domain(n))
	dst = append(dst, ">\r\nTo: <"...)
	dst = g.to.append(dst, n, conn, g.domain(n))
	dst = append(dst, ">\r\nSubject: message "...)
	dst = strconv.AppendInt(dst, n, 10)
	dst = append(dst, "\r\n"...)
	for _, h := range g.header {
		dst = append(append(dst, h...), "\r\n"...)
	}
	dst = append(dst, "\r\n"...)
	// The end of the filler, so that it ends with a whole line.
	if missing := g.size - (len(dst) - begin); missing > 1 {
		i := len(g.filler) - missing
		if g.filler[i] == '\n' {
			i--
		}
		dst = append(dst, g.filler[i:]...)
	}
	return append(dst, ".\r\n"...)
}

// sleep waits for d; false is the end of ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
