package metrics

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/mtakit/mtakit"
)

// json writes one object of all families: name to help, type and value. The value is a number or a histogram; with one label
// an object of these by the label's value, under its name; with more, an array of objects that have the labels and "@".
func (e *encoder) json(families []*family) {
	e.buf = append(e.buf, '{')
	for i, f := range families {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.buf = append(e.string(f.Name), ":{"...)
		if f.Help != "" {
			e.buf = append(e.buf, `"help":`...)
			e.buf = append(e.string(f.Help), ',')
		}
		e.buf = append(append(append(e.buf, `"type":"`...), f.Type.String()...), `","value":`...)
		e.values(f)
		e.buf = append(e.buf, '}')
	}
	e.buf = append(e.buf, "}\n"...)
}

func (e *encoder) values(f *family) {
	n := 0
	for _, c := range f.from {
		c.Collect(f.Name, func(s mtakit.Sample) bool {
			if len(s.Labels) != len(f.Labels) || f.Type == mtakit.HistogramType && s.Histogram == nil {
				return true
			}
			if len(f.Labels) == 0 && n > 0 {
				return false // there is room for one value only
			}
			e.value(f, s, n == 0)
			n++
			return e.room()
		})
	}
	switch {
	case n == 0:
		e.buf = append(e.buf, "null"...)
	case len(f.Labels) == 1:
		e.buf = append(e.buf, "}}"...)
	case len(f.Labels) > 1:
		e.buf = append(e.buf, ']')
	}
}

func (e *encoder) value(f *family, s mtakit.Sample, first bool) {
	switch {
	case len(f.Labels) == 0:
	case len(f.Labels) == 1:
		if first {
			e.buf = append(e.buf, '{')
			e.buf = append(e.string(f.Labels[0]), ":{"...)
		} else {
			e.buf = append(e.buf, ',')
		}
		e.buf = append(e.string(s.Labels[0]), ':')
	default:
		if first {
			e.buf = append(e.buf, "[{"...)
		} else {
			e.buf = append(e.buf, ",{"...)
		}
		for _, i := range f.order {
			e.buf = append(e.string(f.Labels[i]), ':')
			e.buf = append(e.string(s.Labels[i]), ',')
		}
		e.buf = append(e.buf, `"@":`...)
	}
	if f.Type == mtakit.HistogramType {
		e.jsonHistogram(s.Histogram)
	} else {
		e.buf = appendNumber(e.buf, s.Value)
	}
	if len(f.Labels) > 1 {
		e.buf = append(e.buf, '}')
	}
}

func (e *encoder) jsonHistogram(h *mtakit.Histogram) {
	bounds, cumulative, count, sum := h.Snapshot()
	avg := 0.0
	if count > 0 {
		avg = sum / float64(count)
	}
	b := strconv.AppendUint(append(e.buf, `{"count":`...), count, 10)
	b = appendNumber(append(b, `,"sum":`...), sum)
	b = appendNumber(append(b, `,"avg":`...), avg)
	b = append(b, `,"bucket":[`...)
	for i, le := range bounds {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendNumber(append(b, '['), le), ',')
		b = append(strconv.AppendUint(b, cumulative[i], 10), ']')
	}
	e.buf = append(b, "]}"...)
}

// appendNumber writes what JSON has for a number: null for infinity.
func appendNumber(b []byte, v float64) []byte {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return append(b, "null"...)
	}
	return appendFloat(b, v)
}

// string appends s to the buffer, which it returns, as a JSON string.
func (e *encoder) string(s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			q, err := json.Marshal(s)
			if err != nil {
				panic("metrics: a string is not JSON: " + err.Error()) // every string is
			}
			return append(e.buf, q...)
		}
	}
	return append(append(append(e.buf, '"'), s...), '"')
}
