package httpapi

import (
	"bufio"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// decode makes the body of r the decompressed one; false is an encoding that we do not know, which has been answered.
func (a *API) decode(w http.ResponseWriter, r *http.Request) bool {
	encodings := r.Header.Values("Content-Encoding")
	if len(encodings) == 0 {
		return true
	}
	var open func(io.Reader) (io.Reader, error)
	switch strings.ToLower(strings.TrimSpace(strings.Join(encodings, ","))) {
	case "identity":
		return true
	case "gzip":
		open = func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
	case "deflate":
		open = func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }
	default:
		w.Header().Set("Accept-Encoding", "gzip,deflate")
		empty(w, http.StatusUnsupportedMediaType)
		return false
	}
	r.Body = &decoder{in: r.Body, open: open}
	r.ContentLength = -1
	r.Header.Del("Content-Encoding")
	return true
}

// decoder decompresses when it is first read from.
type decoder struct {
	in   io.ReadCloser
	open func(io.Reader) (io.Reader, error)
	out  io.Reader
	err  error
}

func (d *decoder) Read(p []byte) (int, error) {
	if d.out == nil && d.err == nil {
		if d.out, d.err = d.open(d.in); d.err == io.EOF {
			d.err = io.ErrUnexpectedEOF
		}
	}
	if d.err != nil {
		return 0, d.err
	}
	return d.out.Read(p)
}

func (d *decoder) Close() error { return d.in.Close() }

const (
	stall = time.Minute // for which a client may leave a piece of an answer unread, unless the handler says otherwise
	piece = 64 << 10
)

// encodeFrom is the size from which on answers are compressed.
const encodeFrom = 32

// encoders keeps compressors, which are large.
type encoders struct{ gzip, zlib sync.Pool }

func (a *API) encode(w http.ResponseWriter, r *http.Request) *encoder {
	e := &encoder{ResponseWriter: w, pools: &a.encoders}
	if r.Method != "HEAD" && r.Header.Get("Upgrade") == "" {
		e.encoding = negotiate(r.Header.Values("Accept-Encoding"))
	}
	return e
}

// negotiate chooses gzip, deflate, or "" for none.
func negotiate(accept []string) (best string) {
	bestQ := 0.0
	for item := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		name, params, _ := strings.Cut(item, ";")
		q := 1.0
		if v, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); ok {
			q, _ = strconv.ParseFloat(v, 64)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if (name == "gzip" || name == "deflate") && (q > bestQ || q == bestQ && q > 0 && name == "gzip") {
			best, bestQ = name, q
		}
	}
	return best
}

// encoder compresses an answer, at the fastest level, if the client likes that and it is worth it.
type encoder struct {
	http.ResponseWriter
	pools    *encoders
	encoding string // "" is none
	decided  bool
	hurried  bool // there is a deadline of ours
	own      bool // the handler has deadlines of its own
	out      interface {
		io.WriteCloser
		Flush() error
		Reset(io.Writer)
	}
}

func (e *encoder) WriteHeader(status int) {
	if status >= 200 {
		e.decide(status)
	}
	e.ResponseWriter.WriteHeader(status)
}

func (e *encoder) decide(status int) {
	if e.decided {
		return
	}
	e.decided = true
	h := e.Header()
	length, err := strconv.Atoi(h.Get("Content-Length"))
	kind := h.Get("Content-Type")
	if e.encoding == "" || h.Get("Content-Encoding") != "" || err == nil && length < encodeFrom || status == http.StatusNoContent || status == http.StatusNotModified ||
		strings.HasPrefix(kind, "image/") || strings.HasPrefix(kind, "text/event-stream") {
		return
	}
	h.Set("Content-Encoding", e.encoding)
	h.Add("Vary", "Accept-Encoding")
	h.Del("Content-Length")
	if e.encoding == "gzip" {
		z, ok := e.pools.gzip.Get().(*gzip.Writer)
		if !ok {
			z, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
		}
		e.out = z
	} else {
		z, ok := e.pools.zlib.Get().(*zlib.Writer)
		if !ok {
			z, _ = zlib.NewWriterLevel(nil, zlib.BestSpeed)
		}
		e.out = z
	}
	e.out.Reset(e.ResponseWriter)
}

// Write gives a client up that takes nothing: it would keep the answer in memory, and the goroutine, for ever.
func (e *encoder) Write(p []byte) (n int, err error) {
	if !e.decided {
		h := e.Header()
		if _, set := h["Content-Type"]; !set && h.Get("Content-Encoding") == "" {
			h.Set("Content-Type", http.DetectContentType(p)) // net/http could only see what is compressed
		}
		e.WriteHeader(http.StatusOK)
	}
	out := io.Writer(e.ResponseWriter)
	if e.out != nil {
		out = e.out
	}
	for {
		if !e.own {
			e.hurried = http.NewResponseController(e.ResponseWriter).SetWriteDeadline(time.Now().Add(stall)) == nil
		}
		m, err := out.Write(p[n:min(len(p), n+piece)])
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}

// SetWriteDeadline is for [http.ResponseController].
func (e *encoder) SetWriteDeadline(t time.Time) error {
	e.own = true
	return http.NewResponseController(e.ResponseWriter).SetWriteDeadline(t)
}

// FlushError is for [http.ResponseController].
func (e *encoder) FlushError() error {
	e.decide(http.StatusOK)
	if e.out != nil {
		if err := e.out.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(e.ResponseWriter).Flush()
}

// Flush implements [http.Flusher].
func (e *encoder) Flush() { e.FlushError() }

// Hijack implements [http.Hijacker].
func (e *encoder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	e.decided = true
	return http.NewResponseController(e.ResponseWriter).Hijack()
}

// Unwrap is for [http.ResponseController].
func (e *encoder) Unwrap() http.ResponseWriter { return e.ResponseWriter }

func (e *encoder) close() {
	if e.hurried && !e.own {
		defer http.NewResponseController(e.ResponseWriter).SetWriteDeadline(time.Time{}) // the connection may be used again
	}
	if e.out == nil {
		return
	}
	e.out.Close() // an error means that the client has gone
	e.out.Reset(nil)
	if e.encoding == "gzip" {
		e.pools.gzip.Put(e.out)
	} else {
		e.pools.zlib.Put(e.out)
	}
	e.out = nil
}
