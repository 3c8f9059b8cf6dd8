package mtakit_test

import (
	"testing"

	"github.com/mtakit/mtakit"
)

func TestFindings(t *testing.T) {
	t.Parallel()
	warning := mtakit.Finding{Place: mtakit.Place{File: "a.toml", Line: 3}, Level: mtakit.LevelWarn, Text: "odd"}
	fault := mtakit.Finding{Place: mtakit.Place{File: "a.toml", Line: 3, Column: 7}, Level: mtakit.LevelError, Text: "bad"}
	if got, want := fault.String(), "a.toml:3:7: error: bad"; got != want {
		t.Errorf("String() = %s, want %s", got, want)
	}
	if err := (mtakit.Findings{warning}).Err(); err != nil {
		t.Errorf("a warning alone is an error: %v", err)
	}
	err := mtakit.Findings{warning, fault, fault}.Err()
	if want := "a.toml:3:7: bad\na.toml:3:7: bad"; err == nil || err.Error() != want {
		t.Errorf("Err() = %v, want %s", err, want)
	}
}
