package datafile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/mtakit/mtakit"
)

// Report gathers findings. The zero value is empty; one goroutine uses it.
type Report struct{ Findings mtakit.Findings }

// Errorf adds an error.
func (r *Report) Errorf(p mtakit.Place, format string, args ...any) {
	r.Add(p, mtakit.LevelError, format, args...)
}

// Warnf adds a warning.
func (r *Report) Warnf(p mtakit.Place, format string, args ...any) {
	r.Add(p, mtakit.LevelWarn, format, args...)
}

// Add adds a finding, unless its level is to ignore it. Control characters, from names in the file, become spaces.
func (r *Report) Add(p mtakit.Place, l mtakit.Level, format string, args ...any) {
	if l != mtakit.LevelIgnore && len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, mtakit.Finding{Place: p, Level: l, Text: oneLine(fmt.Sprintf(format, args...))})
	}
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// Sort orders the findings by their places, files as in the list.
func (r *Report) Sort(files []string) {
	slices.SortStableFunc(r.Findings, func(a, b mtakit.Finding) int {
		return cmp.Or(cmp.Compare(slices.Index(files, a.File), slices.Index(files, b.File)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// Err is nil if there is no error among the findings.
func (r *Report) Err() error { return r.Findings.Err() }
