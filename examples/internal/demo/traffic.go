package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/smtp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	clients = 8  // SMTP connections
	viaHTTP = 10 // percent of the mail that is injected over HTTP
)

// sender is the application that sends, at a rate.
type sender struct {
	smtp, http string
	rate       int // a second
	n          atomic.Int64
	failed     atomic.Pointer[error]
}

// run sends until ctx ends.
func (s *sender) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	due := make(chan struct{}, s.rate)
	defer close(due)
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := s.session(due); err != nil && ctx.Err() == nil {
					s.failed.Store(&err)
					sleep(ctx, time.Second)
				}
			}
		})
	}
	const tick = 20 * time.Millisecond
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	began, sent := time.Now(), 0
	injected := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			want := int(now.Sub(began).Seconds() * float64(s.rate) * (100 - viaHTTP) / 100)
			for ; sent < want; sent++ {
				select {
				case due <- struct{}{}:
				default: // as fast as it goes
				}
			}
			if now.Sub(injected) >= time.Second {
				injected = now
				wg.Go(func() {
					if err := s.inject(ctx, s.rate*viaHTTP/100); err != nil && ctx.Err() == nil {
						s.failed.Store(&err)
					}
				})
			}
		}
	}
}

// session sends over one connection whenever a message is due, until none is any more.
func (s *sender) session(due <-chan struct{}) error {
	var c *smtp.Client
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for range due {
		if c == nil {
			var err error
			if c, err = smtp.Dial(s.smtp); err != nil {
				return err
			}
			if err := c.Hello("app.sender.example"); err != nil {
				return err
			}
		}
		if err := s.send(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *sender) send(c *smtp.Client) error {
	n, to := s.n.Add(1), domain()
	if err := c.Mail("bounces@sender.example"); err != nil {
		return err
	}
	if err := c.Rcpt(fmt.Sprintf("user%d@%s", n, to)); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	tenant := "shop"
	switch n % 10 {
	case 0, 1, 2, 3:
		tenant = "newsletter"
	case 4:
		tenant = "alerts"
	}
	fmt.Fprintf(w, "From: %[1]s <hello@sender.example>\r\nTo: user%[2]d@%[3]s\r\nSubject: Message %[2]d from %[1]s\r\nX-Tenant: %[1]s\r\n", tenant, n, to)
	if tenant == "newsletter" {
		fmt.Fprintf(w, "X-Campaign: %s\r\n", strings.ToLower(time.Now().Month().String()))
	}
	io.WriteString(w, "\r\nThis is a demonstration; nobody reads it.\r\n")
	return w.Close()
}

// inject sends to n recipients with one request.
func (s *sender) inject(ctx context.Context, n int) error {
	type recipient struct {
		Email string            `json:"email"`
		Name  string            `json:"name"`
		Subst map[string]string `json:"substitutions"`
	}
	var to []recipient
	for range n {
		i := s.n.Add(1)
		to = append(to, recipient{fmt.Sprintf("user%d@%s", i, domain()), fmt.Sprintf("User %d", i), map[string]string{"offer": fmt.Sprintf("%d %% off", 5+i%4*5)}})
	}
	body, err := json.Marshal(map[string]any{
		"envelope_sender": "bounces@sender.example",
		"recipients":      to,
		"content": map[string]any{
			"from":      map[string]string{"email": "hello@sender.example", "name": "newsletter"},
			"subject":   "{{ name }}, {{ offer }} today",
			"text_body": "Dear {{ name }},\n\n{{ offer }}, only today.\n",
			"html_body": "<p>Dear {{ name }},</p><p><b>{{ offer }}</b>, only today.</p>",
			"headers":   map[string]string{"X-Tenant": "newsletter", "X-Campaign": "http"},
		},
	})
	if err != nil {
		return err
	}
	return post(ctx, s.http+"/api/inject/v1", body)
}

func post(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("POST %s: %s %s", url, resp.Status, text)
	}
	return nil
}

// domain is one of the destinations, by its share.
func domain() string {
	total := 0
	for _, d := range destinations {
		total += d.share
	}
	n := rand.IntN(total)
	for _, d := range destinations {
		if n -= d.share; n < 0 {
			return d.domain
		}
	}
	panic("unreachable")
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
