package httpapi

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
)

// memoryBody is up to which size a request body is kept in memory while it arrives, and while it waits to be worked on.
const memoryBody = 256 << 10

// body is a request body that was read to its end.
type body interface {
	io.ReaderAt
	Size() int64
	io.Closer
}

// memory is a body in memory.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// file is a body in a temporary file, which has no name any more.
type file struct {
	*os.File
	size int64
}

func (f *file) Size() int64 { return f.size }

// isJSON says whether the request says that its body is JSON.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return false
	}
	return kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
}

// readJSON reads the body of a request for a JSON endpoint; false is a failure, which has been answered. What is read goes to tap, too, unless that is
// nil.
func (a *API) readJSON(w http.ResponseWriter, r *http.Request, tap io.Writer) (body, bool) {
	if !isJSON(r) {
		text(w, http.StatusUnsupportedMediaType, "Expected request with `Content-Type: application/json`")
		return nil, false
	}
	return a.readBody(w, r, a.cfg.BodyLimit, tap)
}

// readBody is readJSON for bodies of any kind, up to limit.
func (a *API) readBody(w http.ResponseWriter, r *http.Request, limit int64, tap io.Writer) (body, bool) {
	const failed = "Failed to buffer the request body: "
	refuse := func(status int, why string) (body, bool) {
		w.Header().Set("Connection", "close") // else the server would first read what is left of the request, without a time limit
		text(w, status, why)
		return nil, false
	}
	if r.ContentLength > limit {
		return refuse(http.StatusRequestEntityTooLarge, failed+"length limit exceeded")
	}
	if rc := http.NewResponseController(w); a.cfg.BodyTimeout > 0 && rc.SetReadDeadline(time.Now().Add(a.cfg.BodyTimeout)) == nil {
		defer rc.SetReadDeadline(time.Time{})
	}
	var in io.Reader = http.MaxBytesReader(w, r.Body, limit)
	if tap != nil {
		in = io.TeeReader(in, tap)
	}
	b, err := a.buffer(in, r.ContentLength)
	var over *http.MaxBytesError
	var disk *os.PathError
	switch {
	case err == nil:
		return b, true
	case errors.As(err, &over):
		return refuse(http.StatusRequestEntityTooLarge, failed+"length limit exceeded")
	case errors.As(err, &disk):
		a.cfg.Log.Error("request body could not be kept", "err", err)
		return refuse(http.StatusServiceUnavailable, "Error: disk is too full")
	}
	return refuse(http.StatusBadRequest, failed+oneLine(err.Error()))
}

// buffer reads in to its end. length is how much to expect, -1 is unknown.
func (a *API) buffer(in io.Reader, length int64) (body, error) {
	var buf bytes.Buffer
	if length >= 0 && length < memoryBody {
		buf.Grow(int(length) + bytes.MinRead)
	}
	if _, err := io.CopyN(&buf, in, memoryBody); err == io.EOF {
		return memory{bytes.NewReader(buf.Bytes())}, nil
	} else if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(a.cfg.TempDir, "mtakit-http-*")
	if err != nil {
		return nil, err
	}
	os.Remove(f.Name()) // where that fails, Close's caller can't help it either
	b := &file{File: f}
	n, err := f.Write(buf.Bytes())
	b.size = int64(n)
	if err == nil {
		var m int64
		m, err = io.Copy(f, in)
		b.size += m
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return b, nil
}
