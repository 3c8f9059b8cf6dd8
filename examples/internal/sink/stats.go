package sink

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// stats counts. It is safe for concurrent use.
type stats struct {
	connections, open, maxOpen, tls atomic.Int64
	messages, recipients, bytes     atomic.Int64
	first, last                     atomic.Int64 // nanoseconds since 1970, of messages
	replies                         [600]atomic.Int64
	errors                          atomic.Int64
	lastError                       atomic.Pointer[string]
}

func (s *stats) connected() {
	s.connections.Add(1)
	n := s.open.Add(1)
	for max := s.maxOpen.Load(); n > max && !s.maxOpen.CompareAndSwap(max, n); max = s.maxOpen.Load() {
	}
}

// accepted counts a message and returns how many there are.
func (s *stats) accepted(rcpts int, size int64, now time.Time) int64 {
	s.recipients.Add(int64(rcpts))
	s.bytes.Add(size)
	s.first.CompareAndSwap(0, now.UnixNano())
	s.last.Store(now.UnixNano())
	return s.messages.Add(1)
}

func (s *stats) fail(err error) {
	text := err.Error()
	s.lastError.Store(&text)
	s.errors.Add(1)
}

// Summary is what has happened so far, as JSON shows it.
type Summary struct {
	Connections int64            `json:"connections"`
	MaxOpen     int64            `json:"max_open"`
	TLS         int64            `json:"tls"`
	Messages    int64            `json:"messages"`
	Recipients  int64            `json:"recipients"`
	Bytes       int64            `json:"bytes"`
	Seconds     float64          `json:"seconds"` // from the first message to the last
	Rate        float64          `json:"messages_per_second"`
	Replies     map[string]int64 `json:"replies"` // by code
	Errors      int64            `json:"errors"`
	LastError   string           `json:"last_error,omitempty"`
}

func (s *stats) summary() Summary {
	j := Summary{
		Connections: s.connections.Load(), MaxOpen: s.maxOpen.Load(), TLS: s.tls.Load(), Messages: s.messages.Load(), Recipients: s.recipients.Load(),
		Bytes: s.bytes.Load(), Replies: map[string]int64{}, Errors: s.errors.Load(),
	}
	if j.Seconds = float64(s.last.Load()-s.first.Load()) / 1e9; j.Seconds > 0 {
		j.Rate = float64(j.Messages) / j.Seconds
	}
	for code := range s.replies {
		if n := s.replies[code].Load(); n > 0 {
			j.Replies[strconv.Itoa(code)] = n
		}
	}
	if e := s.lastError.Load(); e != nil {
		j.LastError = *e
	}
	return j
}

// Summary is what has happened so far.
func (s *Server) Summary() Summary { return s.stats.summary() }

// JSON is the object on one line.
func (s Summary) JSON() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // numbers and strings only
	}
	return append(b, '\n')
}

// Progress is one line about the time since last, and whether anything happened in it.
func (s *Server) Progress(last *Summary, interval time.Duration) (line string, news bool) {
	now := s.Summary()
	deferred, refused := int64(0), int64(0)
	for code, n := range now.Replies {
		switch code[0] {
		case '4':
			deferred += n
		case '5':
			refused += n
		}
	}
	line = fmt.Sprintf("%d messages, %.0f/s, %.1f MB/s; %d open of %d connections; %d replies 4xx, %d 5xx; %d errors", now.Messages,
		float64(now.Messages-last.Messages)/interval.Seconds(), float64(now.Bytes-last.Bytes)/1e6/interval.Seconds(),
		s.stats.open.Load(), now.Connections, deferred, refused, now.Errors)
	news = now.Messages != last.Messages || now.Connections != last.Connections || now.Errors != last.Errors
	*last = now
	return line, news
}
