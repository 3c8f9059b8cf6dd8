package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// read reads the JSON body of a request with shape, which reads one value; false is a failure, which has been answered.
func (a *API) read(w http.ResponseWriter, r *http.Request, shape func(*reader)) bool {
	source, ok := a.readJSON(w, r, nil)
	if !ok {
		return false
	}
	defer source.Close()
	err := func() (err error) {
		defer catch(&err)
		rd := newReader(io.NewSectionReader(source, 0, source.Size()))
		shape(rd)
		rd.end()
		return nil
	}()
	if bad := (*badRequest)(nil); errors.As(err, &bad) {
		text(w, bad.status, bad.text)
		return false
	}
	return true
}

// answer writes v as JSON with status 200.
func answer(w http.ResponseWriter, v any) {
	b, err := marshal(v)
	if err != nil {
		problem(w, http.StatusInternalServerError, "%v", err)
		return
	}
	writeJSON(w, http.StatusOK, b)
}

// list writes an array with entry of each element, of which only one is in memory as JSON.
func list[T any](w http.ResponseWriter, all []T, entry func(T) any) {
	w.Header().Set("Content-Type", "application/json")
	for i, e := range all {
		sep := byte(',')
		if i == 0 {
			sep = '['
		}
		b, err := marshal(entry(e))
		if err != nil {
			panic(http.ErrAbortHandler) // the client sees that the answer is not whole
		}
		if _, err := w.Write(append([]byte{sep}, b...)); err != nil {
			return
		}
	}
	if len(all) == 0 {
		io.WriteString(w, "[")
	}
	io.WriteString(w, "]")
}

// marshal is v as JSON for programs, in which < needs no escape.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
