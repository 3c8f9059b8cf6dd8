package httpapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// What is written in pieces is what is written at once, wherever the pieces end.
func FuzzWriteString(f *testing.F) {
	f.Add([]byte("plain\r\n\"quoted\" \\ <tag>"))
	f.Add([]byte("grüße \xf0\x9f\x93\xa8 \xff\xfe \xe2\x82"))
	f.Add(append(bytes.Repeat([]byte("x"), 16<<10-1), "€ü"...))
	f.Add([]byte("\xf0\x9f\x93"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var want string
		if err := json.Unmarshal(appendString(nil, string(b)), &want); err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(b), "bytes": iotest.OneByteReader(bytes.NewReader(b)), "halves": iotest.HalfReader(bytes.NewReader(b)),
			"data with the end": iotest.DataErrReader(bytes.NewReader(b)),
		} {
			var out bytes.Buffer
			w := bufio.NewWriterSize(&out, 16)
			if err := writeString(w, r); err != nil {
				t.Fatal(err)
			}
			w.Flush()
			var got string
			if err := json.Unmarshal(out.Bytes(), &got); err != nil || got != want {
				t.Errorf("%s: %q, %v, want %q", name, got, err, want)
			}
		}
	})
}

// A body that can't be read to its end is not passed off as a whole one.
func TestWriteStringError(t *testing.T) {
	t.Parallel()
	w := bufio.NewWriter(io.Discard)
	if err := writeString(w, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
}
