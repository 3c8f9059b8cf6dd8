package datafile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/mtakit/mtakit"
)

// Format is how a file is written.
type Format uint8

// Formats.
const (
	TOML          Format = iota // 1.1
	JSON                        // RFC 8259
	CommentedJSON               // JSON with comments: // and # to the end of the line, /* to */
)

// Parse makes a tree of data; name is what places have as their file. If findings are added to r at level Error, what is returned
// lacks something; it is nil if there is nothing.
func Parse(name string, data []byte, f Format, r *Report) *Value {
	if len(data) > MaxSize {
		r.Errorf(mtakit.Place{File: name}, "the file has more than %d bytes", MaxSize)
		return nil
	}
	src := newSource(name, data)
	switch f {
	case JSON:
		return parseJSON(src, data, r)
	case CommentedJSON:
		return parseJSON(src, blankComments(data), r)
	}
	return parseTOML(src, data, r)
}

// ReadFile reads a file of at most MaxSize bytes.
func ReadFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("%s: the file has more than %d bytes", name, MaxSize)
	}
	return data, err
}

// Load reads files as those of the policy helpers are read, TOML if the name ends in .toml, else JSON with comments, and merges each
// over those before it.
func Load(names []string, r *Report) *Value {
	var all *Value
	for _, name := range names {
		data, err := ReadFile(name)
		if err != nil {
			r.Errorf(mtakit.Place{File: name}, "%v", Reason(err))
			continue
		}
		f := CommentedJSON
		if filepath.Ext(name) == ".toml" {
			f = TOML
		}
		all = Merge(all, Parse(name, data, f, r))
	}
	return all
}

// Reason is err without the operation and the name of the file, which are told by the place of a finding.
func Reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// source turns offsets into places.
type source struct {
	name  string
	lines []int // where they begin
}

func newSource(name string, data []byte) *source {
	s := &source{name: name, lines: []int{0}}
	for i := 0; ; {
		n := bytes.IndexByte(data[i:], '\n')
		if n < 0 {
			return s
		}
		i += n + 1
		s.lines = append(s.lines, i)
	}
}

func (s *source) place(offset int) mtakit.Place {
	n := sort.SearchInts(s.lines, offset+1)
	return mtakit.Place{File: s.name, Line: n, Column: offset - s.lines[n-1] + 1}
}
