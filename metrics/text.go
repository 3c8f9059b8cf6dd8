package metrics

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/mtakit/mtakit"
)

// text writes a family. One that is not streamed is left out if it has no samples.
func (e *encoder) text(f *family, prefix string) {
	head := false
	var parts []string
	if f.Streamed {
		e.head(f, prefix)
		head = true
		parts = f.parts(prefix)
	}
	for _, c := range f.from {
		c.Collect(f.Name, func(s mtakit.Sample) bool {
			if !head {
				e.head(f, prefix)
				head = true
			}
			switch {
			case len(s.Labels) != len(f.Labels): // a mistake of the Collector; the rest of the document stays readable
			case f.Type == mtakit.HistogramType:
				if s.Histogram != nil {
					e.histogram(f, prefix, s)
				}
			case f.Streamed:
				e.stream(parts, s)
			default:
				e.series(f, prefix, "", s, math.NaN())
				e.buf = append(appendFloat(append(e.buf, ' '), s.Value), '\n')
			}
			return e.room()
		})
	}
}

// parts are what is before the first label value of a series, between two, and after the last.
func (f *family) parts(prefix string) []string {
	list := make([]string, 0, len(f.Labels)+1)
	part := prefix + f.Name
	for i, l := range f.Labels {
		if i == 0 {
			part += `{` + l + `="`
		} else {
			part = `", ` + l + `="`
		}
		list = append(list, part)
		part = `"}`
	}
	return append(list, part+" ")
}

// stream writes a series of a streamed family, of which there may be a million.
func (e *encoder) stream(parts []string, s mtakit.Sample) {
	b := e.buf
	for i, l := range s.Labels {
		b = appendLabel(append(b, parts[i]...), l)
	}
	e.buf = append(strconv.AppendInt(append(b, parts[len(s.Labels)]...), int64(s.Value), 10), '\n')
}

func (e *encoder) head(f *family, prefix string) {
	b := append(append(append(append(e.buf, "# HELP "...), prefix...), f.Name...), ' ')
	for _, c := range []byte(f.Help) {
		switch c {
		case '\\':
			b = append(b, `\\`...)
		case '\n':
			b = append(b, `\n`...)
		default:
			b = append(b, c)
		}
	}
	b = append(append(append(append(b, "\n# TYPE "...), prefix...), f.Name...), ' ')
	e.buf = append(append(b, f.Type.String()...), '\n')
}

// series writes name and labels; le is left out if it is not a number.
func (e *encoder) series(f *family, prefix, suffix string, s mtakit.Sample, le float64) {
	b := append(append(append(e.buf, prefix...), f.Name...), suffix...)
	bucket := !math.IsNaN(le)
	if len(f.order) > 0 || bucket {
		b = append(b, '{')
		for n, i := range f.order {
			if n > 0 {
				b = append(b, ',')
			}
			b = append(append(b, f.Labels[i]...), `="`...)
			b = append(appendLabel(b, s.Labels[i]), '"')
		}
		if bucket {
			if len(f.order) > 0 {
				b = append(b, ',')
			}
			b = append(appendFloat(append(b, `le="`...), le), '"')
		}
		b = append(b, '}')
	}
	e.buf = b
}

func (e *encoder) histogram(f *family, prefix string, s mtakit.Sample) {
	bounds, cumulative, count, sum := s.Histogram.Snapshot()
	for i, le := range bounds {
		e.series(f, prefix, "_bucket", s, le)
		e.buf = append(strconv.AppendUint(append(e.buf, ' '), cumulative[i], 10), '\n')
	}
	e.series(f, prefix, "_bucket", s, math.Inf(1))
	e.buf = append(strconv.AppendUint(append(e.buf, ' '), count, 10), '\n')
	e.series(f, prefix, "_sum", s, math.NaN())
	e.buf = append(appendFloat(append(e.buf, ' '), sum), '\n')
	e.series(f, prefix, "_count", s, math.NaN())
	e.buf = append(strconv.AppendUint(append(e.buf, ' '), count, 10), '\n')
}

// appendFloat writes plain decimals, without an exponent.
func appendFloat(b []byte, v float64) []byte {
	if math.IsInf(v, 1) {
		return append(b, "+Inf"...)
	}
	return strconv.AppendFloat(b, v, 'f', -1, 64)
}

// special are the bytes of a label value that are not written as they are, or have to be looked at.
var special = func() (t [256]bool) {
	t['"'], t['\\'], t['\n'] = true, true, true
	for c := utf8.RuneSelf; c < len(t); c++ {
		t[c] = true
	}
	return t
}()

// appendLabel makes a label value safe for all readers: backslash and line end escaped, a quotation mark replaced, and UTF-8
// valid.
func appendLabel(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if !special[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"':
			b = append(b, '\'')
		case '\\':
			b = append(b, `\\`...)
		case '\n':
			b = append(b, `\n`...)
		default:
			b = append(b, "\ufffd"...)
		}
		i++
		start = i
	}
	return append(b, s[start:]...)
}
