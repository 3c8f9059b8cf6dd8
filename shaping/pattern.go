package shaping

import (
	"regexp"
	"time"

	"github.com/dlclark/regexp2"
)

// Pattern is a regular expression of an automation rule. Those that [regexp] cannot run, such as look-ahead, are run by a matcher
// that backtracks, for a limited time. \d, \w, \s and \b are about ASCII, unlike in KumoMTA. It is safe for concurrent use.
type Pattern struct {
	text string
	fast *regexp.Regexp
	slow *regexp2.Regexp
}

// backtrackTime ends a match that gets lost; it then counts as none.
const backtrackTime = 100 * time.Millisecond

// CompilePattern compiles text. The error is that of the backtracking matcher, which takes more.
func CompilePattern(text string) (*Pattern, error) {
	if re, err := regexp.Compile(text); err == nil {
		return &Pattern{text: text, fast: re}, nil
	}
	re, err := regexp2.Compile(text, regexp2.RE2)
	if err != nil {
		return nil, err
	}
	re.MatchTimeout = backtrackTime
	return &Pattern{text: text, slow: re}, nil
}

// Match says whether the pattern is found anywhere in s.
func (p *Pattern) Match(s string) bool {
	if p.fast != nil {
		return p.fast.MatchString(s)
	}
	found, err := p.slow.MatchString(s)
	return found && err == nil
}

// String is the text the pattern was compiled from.
func (p *Pattern) String() string { return p.text }
