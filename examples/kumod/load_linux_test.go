package main

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

// load is clients that hand mail to a daemon. Each message has a number; it is the local part of its recipient, "m1@dest.test", so that the
// destination and the log tell which it is. What was acknowledged is known here, outside of the daemon.
type load struct {
	domain string        // default dest.test
	text   string        // default: some 600 bytes
	pause  time.Duration // of each client between messages

	next  atomic.Int64
	mu    sync.Mutex
	acked map[int]bool
	most  time.Duration // an acknowledgement took
	said  map[string]int
}

// run sends on n connections until the function it returns is called. A client that was refused connects anew if again is set.
func (l *load) run(addr string, n int, again bool) (stop func()) {
	l.mu.Lock()
	if l.acked == nil {
		l.acked, l.said = map[int]bool{}, map[string]int{}
	}
	l.mu.Unlock()
	if l.domain == "" {
		l.domain = "dest.test"
	}
	if l.text == "" {
		l.text = "Subject: load\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 8)
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				err := l.client(addr, ended)
				if err == nil || !again {
					return
				}
				l.mu.Lock()
				l.said[kindOfRefusal(err)]++
				l.mu.Unlock()
				select {
				case <-ended:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	return func() {
		close(ended)
		wg.Wait()
	}
}

// kindOfRefusal is the reply without what differs from one to the next.
func kindOfRefusal(err error) string {
	s := err.Error()
	if i := strings.Index(s, `is "`); i >= 0 {
		s = s[i+4:]
		return s[:min(len(s), 20)]
	}
	if i := strings.LastIndex(s, ": "); i >= 0 {
		s = s[i+2:]
	}
	return s
}

func (l *load) client(addr string, ended <-chan struct{}) error {
	c, err := dial(addr)
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		select {
		case <-ended:
			return nil
		default:
		}
		if n == 5000 { // a connection may carry 10,000
			c.Close()
			if c, err = dial(addr); err != nil {
				return err
			}
			n = 0
		}
		if l.pause > 0 {
			select {
			case <-ended:
				return nil
			case <-time.After(l.pause):
			}
		}
		id := int(l.next.Add(1))
		start := time.Now()
		if err := c.send("a@x.test", fmt.Sprintf("m%d@%s", id, l.domain), l.text); err != nil {
			return err
		}
		l.mu.Lock()
		l.acked[id] = true
		l.most = max(l.most, time.Since(start))
		l.mu.Unlock()
	}
}

// heard is how often a kind of refusal came.
func (l *load) heard(kind string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said[kind]
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// upTo sends until n messages are acknowledged, or a few more.
func (l *load) upTo(t testing.TB, addr string, n, conns int) {
	t.Helper()
	stop := l.run(addr, conns, true)
	defer stop()
	for end := time.Now().Add(20 * time.Minute); l.count() < n; {
		if time.Now().After(end) {
			t.Fatalf("%d of %d messages are acknowledged", l.count(), n)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// mx is a destination. Of what it accepts it keeps the number alone.
type mx struct {
	l net.Listener

	// What it does, which may change all the time.
	deferring atomic.Bool  // every recipient, for now
	bouncing  atomic.Bool  // every recipient, for good
	first     atomic.Int32 // as many attempts are deferred for each message
	slow      atomic.Int64 // nanoseconds before the reply to the end of a message

	deferred atomic.Int64 // because of deferring

	mu       sync.Mutex
	got      map[int]int
	attempts map[int]int
	upTo     int       // messages with numbers up to this one set the next two
	oldest   time.Time // when the first came
	newest   time.Time // when the last came
	conns    map[net.Conn]bool
	peak     int
}

func newMX(t testing.TB, addr string) *mx {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	m := &mx{l: l, got: map[int]int{}, attempts: map[int]int{}, conns: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go m.serve(c)
		}
	}()
	t.Cleanup(m.close)
	return m
}

func (m *mx) addr() string { return m.l.Addr().String() }

func (m *mx) close() {
	m.l.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		c.Close()
	}
}

func (m *mx) serve(c net.Conn) {
	m.mu.Lock()
	m.conns[c] = true
	m.peak = max(m.peak, len(m.conns))
	m.mu.Unlock()
	defer func() {
		c.Close()
		m.mu.Lock()
		delete(m.conns, c)
		m.mu.Unlock()
	}()
	r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriter(c)
	say := func(s string) {
		w.WriteString(s + "\r\n")
		if r.Buffered() == 0 {
			w.Flush()
		}
	}
	say("220 mx.test")
	var ids []int
	data := false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
		switch {
		case data && string(line) == ".\r\n":
			if d := time.Duration(m.slow.Load()); d > 0 {
				w.Flush()
				<-time.After(d)
			}
			m.accepted(ids)
			ids, data = ids[:0], false
			say("250 2.0.0 taken")
		case data:
		case hasVerb(line, "EHLO"):
			say("250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 0")
		case hasVerb(line, "RCPT"):
			id := number(string(line))
			if m.bouncing.Load() {
				say("550 5.1.1 no such user")
				continue
			}
			if m.defers(id) {
				say("451 4.3.0 later")
				continue
			}
			ids = append(ids, id)
			say("250 2.1.5 ok")
		case hasVerb(line, "DATA"):
			if len(ids) == 0 {
				say("503 5.5.1 no recipient")
				continue
			}
			data = true
			say("354 go ahead")
		case hasVerb(line, "QUIT"):
			say("221 2.0.0 bye")
			w.Flush()
			return
		default: // MAIL, RSET
			ids = ids[:0]
			say("250 2.0.0 ok")
		}
	}
}

func hasVerb(line []byte, verb string) bool {
	return len(line) > 4 && strings.EqualFold(string(line[:4]), verb)
}

// number is the 12 of "…m12@…", 0 if there is none.
func number(s string) int {
	i, j := strings.IndexByte(s, 'm'), strings.IndexByte(s, '@')
	if i < 0 || j < i {
		return 0
	}
	n, _ := strconv.Atoi(s[i+1 : j])
	return n
}

func (m *mx) defers(id int) bool {
	if m.deferring.Load() {
		m.deferred.Add(1)
		return true
	}
	first := int(m.first.Load())
	if first == 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts[id]++
	return m.attempts[id] <= first
}

func (m *mx) accepted(ids []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		m.got[id]++
		if id <= m.upTo {
			m.newest = time.Now()
			if m.oldest.IsZero() {
				m.oldest = m.newest
			}
		}
	}
}

// most is the most connections there were at a time since the last call.
func (m *mx) most() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, m.peak = m.peak, len(m.conns)
	return n
}

func (m *mx) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.got)
}

// compare checks that every message that was acknowledged has arrived, and that no more were repeated than could have been in flight.
func (l *load) compare(t testing.TB, m *mx, inFlight int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	lost, repeated := 0, 0
	for id := range l.acked {
		if m.got[id] == 0 {
			if lost++; lost <= 5 {
				t.Errorf("message %d was acknowledged and is lost", id)
			}
		}
	}
	for _, n := range m.got {
		repeated += n - 1
	}
	if repeated > inFlight {
		t.Errorf("%d messages arrived more than once; at most %d were in flight", repeated, inFlight)
	}
	t.Logf("%d acknowledged, %d lost, %d arrived, %d repeated (most: %d)", len(l.acked), lost, len(m.got), repeated, inFlight)
}

// compareLog checks that the log tells, of every message that was acknowledged, that it came and that it left, and that it has no gap.
func (l *load) compareLog(t testing.TB, dir string, also ...func(testing.TB, *mtakit.Record)) {
	t.Helper()
	seqs := streams{}
	came, left := map[int]int{}, map[int]int{}
	eachRecord(t, dir, func(r *mtakit.Record) {
		seqs.check(t, r)
		for _, f := range also {
			f(t, r)
		}
		for _, to := range r.To {
			switch r.Kind {
			case mtakit.Reception:
				came[number(to)]++
			case mtakit.Delivered, mtakit.Bounce, mtakit.Expiration, mtakit.AdminBounce:
				left[number(to)]++
			}
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	noReception, noEnd, repeated := 0, 0, 0
	for id := range l.acked {
		if came[id] == 0 {
			noReception++
		}
		if left[id] == 0 {
			noEnd++
		}
		repeated += max(0, came[id]-1)
	}
	if noReception > 0 {
		t.Errorf("%d of %d messages that were acknowledged have no Reception in the log", noReception, len(l.acked))
	}
	if noEnd > 0 {
		t.Errorf("%d of %d messages that were acknowledged have no end in the log", noEnd, len(l.acked))
	}
	if repeated > 0 {
		t.Errorf("%d messages have more than one Reception", repeated)
	}
}
