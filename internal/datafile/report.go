package datafile

import (
	"fmt"

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

// Add adds a finding, unless its level is to ignore it.
func (r *Report) Add(p mtakit.Place, l mtakit.Level, format string, args ...any) {
	if l != mtakit.LevelIgnore && len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, mtakit.Finding{Place: p, Level: l, Text: fmt.Sprintf(format, args...)})
	}
}

// Err is nil if there is no error among the findings.
func (r *Report) Err() error { return r.Findings.Err() }
