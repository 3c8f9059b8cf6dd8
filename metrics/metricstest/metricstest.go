// Package metricstest reads the text form of metrics for tests, and takes nothing that a reader could stumble over.
//
//	families, err := metricstest.Parse(resp.Body)
//
// It is stricter than Prometheus: what Parse accepts is read in the same way by everybody who reads version 0.0.4 of the format. The package starts no
// goroutine.
package metricstest

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Family is a metric with its samples, in the order of the document.
type Family struct {
	Name, Help string
	Type       string // counter, gauge or histogram
	Samples    []Sample
}

// Sample is a line. Suffix is _bucket, _sum or _count for a histogram, else empty.
type Sample struct {
	Suffix string
	Labels []Label // in the order of the line
	Value  float64
}

// Label is a name with its value, unescaped.
type Label struct{ Name, Value string }

// Get returns the value of a label, "" if there is none.
func (s *Sample) Get(name string) string {
	for _, l := range s.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// maxLine is how long a line may be.
const maxLine = 1 << 20

// Parse reads a whole document. It requires of each family HELP, TYPE and then its samples in one piece, without a timestamp; that no series comes twice;
// that all samples of a family have labels of the same names; that counts are not negative; that the buckets of a histogram ascend in bound and in
// count, to +Inf, whose count is that of all; and that the text is UTF-8 and its last line has an end. The error names the line.
func Parse(r io.Reader) ([]Family, error) {
	p := parser{names: map[string]bool{}}
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := in.ReadString('\n')
		if err == io.EOF && line == "" {
			return p.families, p.close()
		}
		if err == nil {
			err = p.line(strings.TrimSuffix(line, "\n"))
		}
		if err != nil {
			return nil, fmt.Errorf("metricstest: line %d: %w: %.200q", n, err, line)
		}
	}
}

type parser struct {
	families []Family
	names    map[string]bool // of families
	seen     map[string]bool // series of the last family
	typed    bool            // the last family has its TYPE
}

func (p *parser) line(line string) error {
	switch {
	case len(line) > maxLine:
		return fmt.Errorf("the line has %d bytes", len(line))
	case !utf8.ValidString(line):
		return fmt.Errorf("not UTF-8")
	case strings.HasPrefix(line, "# HELP "):
		return p.help(strings.TrimPrefix(line, "# HELP "))
	case strings.HasPrefix(line, "# TYPE "):
		return p.typ(strings.TrimPrefix(line, "# TYPE "))
	}
	return p.sample(line)
}

var (
	familyName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	sampleName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*`)
	label      = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"`)
	unescape   = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n")
)

func (p *parser) help(text string) error {
	if err := p.close(); err != nil {
		return err
	}
	name, help, _ := strings.Cut(text, " ")
	switch {
	case !familyName.MatchString(name):
		return fmt.Errorf("not a name")
	case p.names[name]:
		return fmt.Errorf("the family comes twice")
	}
	p.names[name], p.seen, p.typed = true, map[string]bool{}, false
	p.families = append(p.families, Family{Name: name, Help: strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(help)})
	return nil
}

func (p *parser) typ(text string) error {
	name, typ, _ := strings.Cut(text, " ")
	switch f := p.last(); {
	case f == nil || f.Name != name || p.typed:
		return fmt.Errorf("TYPE does not follow HELP")
	case !slices.Contains([]string{"counter", "gauge", "histogram"}, typ):
		return fmt.Errorf("a type that not everybody reads")
	default:
		f.Type, p.typed = typ, true
		return nil
	}
}

func (p *parser) last() *Family {
	if len(p.families) == 0 {
		return nil
	}
	return &p.families[len(p.families)-1]
}

func (p *parser) sample(line string) error {
	f := p.last()
	if f == nil || !p.typed {
		return fmt.Errorf("a sample before its TYPE")
	}
	name := sampleName.FindString(line)
	var s Sample
	if s.Suffix = strings.TrimPrefix(name, f.Name); !strings.HasPrefix(name, f.Name) || (f.Type == "histogram") != (s.Suffix != "") ||
		s.Suffix != "" && !slices.Contains([]string{"_bucket", "_sum", "_count"}, s.Suffix) {
		return fmt.Errorf("not a sample of %s", f.Name)
	}
	rest, err := s.labels(line[len(name):])
	if err != nil {
		return err
	}
	number, ok := strings.CutPrefix(rest, " ")
	if s.Value, err = strconv.ParseFloat(number, 64); !ok || err != nil {
		return fmt.Errorf("no value, or more than that")
	}
	series := strings.TrimSuffix(line, number)
	switch {
	case p.seen[series]:
		return fmt.Errorf("the series comes twice")
	case f.Type != "gauge" && !(s.Value >= 0) && s.Suffix != "_sum":
		return fmt.Errorf("a count is negative")
	case len(f.Samples) > 0 && f.Type != "histogram" && !sameNames(f.Samples[0].Labels, s.Labels):
		return fmt.Errorf("labels are not those of the sample before")
	}
	p.seen[series] = true
	f.Samples = append(f.Samples, s)
	return nil
}

// labels reads what is in braces, if anything, and returns the rest.
func (s *Sample) labels(text string) (rest string, err error) {
	if !strings.HasPrefix(text, "{") {
		return text, nil
	}
	for text = text[1:]; ; {
		m := label.FindStringSubmatch(text)
		if m == nil {
			return "", fmt.Errorf("not a label")
		}
		if slices.ContainsFunc(s.Labels, func(l Label) bool { return l.Name == m[1] }) {
			return "", fmt.Errorf("label %s comes twice", m[1])
		}
		s.Labels = append(s.Labels, Label{m[1], unescape.Replace(m[2])})
		text = text[len(m[0]):]
		switch {
		case strings.HasPrefix(text, "}"):
			return text[1:], nil
		case strings.HasPrefix(text, ","):
			text = strings.TrimPrefix(text[1:], " ")
		default:
			return "", fmt.Errorf("no comma after label %s", m[1])
		}
	}
}

func sameNames(a, b []Label) bool {
	return slices.EqualFunc(a, b, func(a, b Label) bool { return a.Name == b.Name })
}

// close checks the last family as a whole.
func (p *parser) close() error {
	f := p.last()
	if f == nil {
		return nil
	}
	if !p.typed {
		return fmt.Errorf("metricstest: %s has no TYPE", f.Name)
	}
	if f.Type != "histogram" {
		return nil
	}
	for rest := f.Samples; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(s Sample) bool { return s.Suffix != "_bucket" })
		if n < 1 || len(rest) < n+2 || rest[n].Suffix != "_sum" || rest[n+1].Suffix != "_count" {
			return fmt.Errorf("metricstest: %s: a histogram is not buckets, sum and count", f.Name)
		}
		if err := buckets(rest[:n], rest[n].Labels, rest[n+1]); err != nil {
			return fmt.Errorf("metricstest: %s%v: %w", f.Name, rest[n].Labels, err)
		}
		rest = rest[n+2:]
	}
	return nil
}

// buckets checks those of one histogram, which has these labels.
func buckets(list []Sample, labels []Label, count Sample) error {
	if !slices.Equal(labels, count.Labels) {
		return fmt.Errorf("sum and count have other labels")
	}
	bound, n := math.Inf(-1), 0.0
	for i := range list {
		s := &list[i]
		le, err := strconv.ParseFloat(s.Get("le"), 64)
		others := slices.DeleteFunc(slices.Clone(s.Labels), func(l Label) bool { return l.Name == "le" })
		switch {
		case err != nil || !(le > bound) || s.Value < n:
			return fmt.Errorf("the bucket up to %q does not ascend", s.Get("le"))
		case !slices.Equal(others, labels):
			return fmt.Errorf("the bucket up to %q has other labels", s.Get("le"))
		}
		bound, n = le, s.Value
	}
	if !math.IsInf(bound, 1) || n != count.Value {
		return fmt.Errorf("the last bucket is up to %v with %v, the count is %v", bound, n, count.Value)
	}
	return nil
}
