package mtakit

import (
	"strconv"
	"strings"
)

// Place is where something stands in a file. Lines and columns count from 1, columns in bytes; 0 is unknown. The zero Place is
// no file: a default, or a decision of the program.
type Place struct {
	File         string
	Line, Column int
}

// String is FILE:LINE:COL, as far as it is known.
func (p Place) String() string {
	s := p.File
	for _, n := range [...]int{p.Line, p.Column} {
		if n == 0 {
			break
		}
		s += ":" + strconv.Itoa(n)
	}
	return s
}

// Level is how bad a [Finding] is.
type Level uint8

// Levels. A file with a finding at LevelError is not used.
const (
	LevelIgnore Level = iota
	LevelWarn
	LevelError
)

func (l Level) String() string {
	return [...]string{"ignore", "warning", "error"}[min(l, LevelError)]
}

// Finding is what a check of a data file found.
type Finding struct {
	Place
	Level Level
	Text  string
}

// String is FILE:LINE:COL: level: text.
func (f Finding) String() string { return f.Place.String() + ": " + f.Level.String() + ": " + f.Text }

// Findings is the error of files that do not load: everything that is wrong with them, and warnings beside it.
type Findings []Finding

// Error has a line FILE:LINE:COL: text for each finding at LevelError.
func (f Findings) Error() string {
	var lines []string
	for _, e := range f {
		if e.Level == LevelError {
			lines = append(lines, e.Place.String()+": "+e.Text)
		}
	}
	return strings.Join(lines, "\n")
}

// Err is f if one of the findings is at LevelError, else nil.
func (f Findings) Err() error {
	for _, e := range f {
		if e.Level == LevelError {
			return f
		}
	}
	return nil
}
