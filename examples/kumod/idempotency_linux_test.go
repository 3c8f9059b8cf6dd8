package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// injectOnce sends an injection with a key; an error is a connection that failed.
func injectOnce(addr, key, body string) (int, string, error) {
	req, err := http.NewRequest("POST", "http://"+addr+"/api/inject/v1", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(httpapi.IdempotencyKey, key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// A request that is repeated after kill -9 gets the answer that it got before, and nothing is sent twice.
func TestIdempotencyOverRestart(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	args := []string{"--data", t.TempDir(), "--relay-to", peer.Addr().String()}
	var answer string
	for round := range 3 {
		d := start(t, nil, args...)
		status, body, err := injectOnce(d.http, "order 7", injection(5, ""))
		if round == 0 {
			answer = body
		}
		if err != nil || status != 200 || body != answer || !strings.Contains(body, `"success_count":5`) {
			t.Errorf("round %d: %d %s %v", round, status, body, err)
		}
		if status, body, _ := injectOnce(d.http, "order 7", injection(6, "")); status != 422 || !strings.HasPrefix(body, "Error: Idempotency-Key ") {
			t.Errorf("round %d, another request: %d %s", round, status, body)
		}
		d.drained(30 * time.Second)
		if round == 1 {
			d.stop()
		} else {
			d.kill()
		}
	}
	onceEach(t, peer, 5)
}

// Clients that repeat what was not answered, while the daemon is killed again and again, lose nothing, and have sent twice at most what was in hand when it
// was killed. What was answered is not sent again.
func TestIdempotencyWhileKilled(t *testing.T) {
	t.Parallel()
	const clients, each = 6, 60
	peer := smtptest.NewPeer(t, nil)
	args := []string{"--data", t.TempDir(), "--relay-to", peer.Addr().String()}
	request := func(i int) string {
		return fmt.Sprintf(`{"envelope_sender":"s@src.test","recipients":[{"email":"r@dest.test"}],"content":"X-Ledger: m%d\n\nHello\n"}`, i)
	}
	var addr atomic.Pointer[string]
	d := start(t, nil, args...)
	addr.Store(&d.http)
	var wg sync.WaitGroup
	var answered atomic.Int64
	for c := range clients {
		wg.Go(func() {
			for n := range each {
				for i := c*each + n; ; <-time.After(time.Millisecond) {
					status, body, err := injectOnce(*addr.Load(), fmt.Sprint("key ", i), request(i))
					if err == nil && status == 200 {
						answered.Add(1)
						break
					}
					if err == nil && status != 503 {
						t.Errorf("%d %s", status, body)
						return
					}
				}
			}
		})
	}
	kills := 0
	for ; kills < 3; kills++ {
		for until := int64((kills + 1) * clients * each / 5); answered.Load() < until && !t.Failed(); {
			<-time.After(time.Millisecond)
		}
		d.kill()
		d = start(t, nil, args...)
		addr.Store(&d.http)
	}
	wg.Wait()
	for i := range clients * each { // all once more
		if status, body, err := injectOnce(d.http, fmt.Sprint("key ", i), request(i)); status != 200 || !strings.Contains(body, `"success_count":1`) {
			t.Errorf("repeat of %d: %d %s %v", i, status, body, err)
		}
	}
	d.drained(30 * time.Second)
	d.stop()
	got, twice := counted(peer), 0
	for i := range clients * each {
		n := got[fmt.Sprintf("m%d", i)]
		if n == 0 {
			t.Errorf("message %d is lost", i)
		}
		twice += max(n-1, 0)
	}
	// For each kill, what each client had sent and what each session to the destination had in hand.
	if most := kills * (clients + 32); twice > most {
		t.Errorf("%d messages arrived twice, want at most %d", twice, most)
	}
	t.Logf("%d of %d messages arrived twice", twice, clients*each)
}
