package template

import (
	"math"
	"strings"
	"time"
)

// Named formats, in the notation of Rust's time crate, which can also be given itself.
var (
	dateTimeFormats = map[string]string{
		"short":  "[year]-[month]-[day] [hour]:[minute]",
		"medium": "[month repr:short] [day padding:none] [year] [hour]:[minute]",
		"long":   "[month repr:long] [day padding:none] [year] [hour]:[minute]:[second]",
		"full":   "[weekday], [month repr:long] [day padding:none] [year] [hour]:[minute]:[second].[subsecond]",
	}
	dateFormats = map[string]string{
		"short":  "[year]-[month]-[day]",
		"medium": "[month repr:short] [day padding:none] [year]",
		"long":   "[month repr:long] [day padding:none] [year]",
		"full":   "[weekday], [month repr:long] [day padding:none] [year]",
	}
	timeFormats = map[string]string{
		"short":  "[hour]:[minute]",
		"medium": "[hour]:[minute]",
		"long":   "[hour]:[minute]:[second]",
		"full":   "[hour]:[minute]:[second].[subsecond]",
	}
)

// components of a format, as Go's layouts have them.
var components = map[string]string{
	"year": "2006", "year repr:last_two": "06", "month": "01", "month padding:none": "1", "month repr:short": "Jan", "month repr:long": "January",
	"day": "02", "day padding:none": "2", "day padding:space": "_2", "weekday": "Monday", "weekday repr:short": "Mon", "weekday repr:long": "Monday",
	"hour": "15", "hour repr:12": "03", "hour repr:12 padding:none": "3", "hour padding:none repr:12": "3", "minute": "04", "second": "05", "period": "PM",
	"period case:lower": "pm", "subsecond": "000000000", "subsecond digits:3": "000", "subsecond digits:6": "000000",
	"offset_hour sign:mandatory": "-07", "ordinal": "002",
}

// formatTime is datetimeformat and its like: v is a number of seconds since 1970, or a text, or what now() gave.
func (r *run) formatTime(v any, a *args, named map[string]string) any {
	t := r.toTime(v)
	if zone := a.str(r, 1, "tz", "UTC"); zone != "original" {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			r.invalid("unknown timezone %q", zone)
		}
		t = t.In(loc)
	}
	format := a.str(r, 0, "format", "medium")
	switch format {
	case "iso":
		return t.Format(time.RFC3339)
	case "unix":
		return t.Unix()
	}
	if f, ok := named[format]; ok {
		format = f
	}
	var b strings.Builder
	for format != "" {
		i := strings.IndexByte(format, '[')
		if i < 0 {
			break
		}
		b.WriteString(format[:i])
		end := strings.IndexByte(format[i:], ']')
		if end < 0 {
			r.invalid("invalid format string")
		}
		name := strings.Join(strings.Fields(format[i+1:i+end]), " ")
		layout, ok := components[name]
		switch {
		case !ok:
			r.invalid("invalid format string: unknown component %q", name)
		case strings.HasPrefix(name, "subsecond"):
			layout = t.Format("." + layout)[1:]
		default:
			layout = t.Format(layout)
		}
		b.WriteString(layout)
		format = format[i+end+1:]
	}
	b.WriteString(format)
	return r.str(b.String())
}

func (r *run) toTime(v any) time.Time {
	if t, ok := v.(time.Time); ok {
		return t
	}
	if f, ok := number(v); ok && math.Abs(f) < 1e12 {
		s := math.Floor(f)
		return time.Unix(int64(s), int64((f-s)*1e9)).UTC()
	}
	if s, ok := asString(v); ok {
		for _, layout := range [...]string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", time.DateOnly, time.TimeOnly, time.RFC1123Z, "Mon, 2 Jan 2006 15:04:05 -0700"} {
			if t, err := time.Parse(layout, s); err == nil {
				return t
			}
		}
	}
	r.invalid("%s is not a valid timestamp", kindName(v))
	return time.Time{}
}
