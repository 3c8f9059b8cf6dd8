package metrics

import (
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Text is the handler of /metrics. The parameter prefix is put before each name. gzip and deflate are used, at their fastest,
// where the client asks.
func (r *Registry) Text() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		prefix := req.URL.Query().Get("prefix")
		if prefix != "" && !isName(strings.ReplaceAll(prefix, ":", "_")) {
			http.Error(w, "prefix is not the beginning of a name: letters, digits, _ and : are allowed", http.StatusBadRequest)
			return
		}
		r.serve(w, req, "text/plain; charset=utf-8", func(out io.Writer) error { return r.WriteText(out, prefix) })
	})
}

// JSON is the handler of /metrics.json.
func (r *Registry) JSON() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.serve(w, req, "application/json; charset=utf-8", r.WriteJSON)
	})
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request, contentType string, write func(io.Writer) error) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Vary", "Accept-Encoding")
	var out io.WriteCloser
	switch encoding := negotiate(req.Header.Values("Accept-Encoding")); encoding {
	case "gzip":
		h.Set("Content-Encoding", encoding)
		out, _ = gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is valid
	case "deflate": // which HTTP means to be zlib (RFC 9110, 8.4.1.2)
		h.Set("Content-Encoding", encoding)
		out, _ = zlib.NewWriterLevel(w, flate.BestSpeed)
	default:
		out = plain{w}
	}
	if req.Method == http.MethodHead {
		return
	}
	// An error is the client's going away; there is nobody to tell.
	to := http.NewResponseController(w)
	if write(&prompt{out: out, to: to}) == nil && out.Close() == nil {
		to.SetWriteDeadline(time.Time{}) // the connection may be used again
	}
}

// stall is how long a client may leave a chunk unread.
const stall = 30 * time.Second

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// prompt sends the first chunk on its way at once; later ones go as buffers fill up. A client that stops reading is given up: it would keep the memory
// of a scrape for ever.
type prompt struct {
	out  io.Writer
	to   *http.ResponseController
	sent bool
}

func (p *prompt) Write(b []byte) (int, error) {
	p.to.SetWriteDeadline(time.Now().Add(stall)) // where that is not supported, the server has to see to it
	n, err := p.out.Write(b)
	if p.sent || err != nil {
		return n, err
	}
	p.sent = true
	if f, ok := p.out.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return n, err
		}
	}
	if err := p.to.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return n, err
	}
	return n, nil
}

// negotiate chooses the encoding from Accept-Encoding: gzip, deflate, or "" for none.
func negotiate(values []string) string {
	best, bestQ := "", 0.0
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			name, params, _ := strings.Cut(part, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			q := 1.0
			if _, s, ok := strings.Cut(params, "="); ok {
				var err error
				if q, err = strconv.ParseFloat(strings.TrimSpace(s), 64); err != nil {
					q = 0
				}
			}
			if (name == "gzip" || name == "deflate") && (q > bestQ || q == bestQ && name == "gzip" && q > 0) {
				best, bestQ = name, q
			}
		}
	}
	return best
}
