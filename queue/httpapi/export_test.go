package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/mtakit/mtakit"
)

// Routes lists the endpoints that the API itself has.
func Routes(a *API) (routes []string) {
	for path, methods := range a.routes {
		for m := range methods {
			routes = append(routes, m+" "+path)
		}
	}
	return routes
}

// Fields are the names that an object of a request may and must have.
type Fields struct{ Names, Required []string }

// RequestFields asks the parser of injections what it knows, by way of its errors.
func RequestFields(*API) map[string]Fields {
	objects := map[string]func(inner string) string{
		"InjectV1Request": func(in string) string { return in },
		"Recipient":       func(in string) string { return `{"recipients":[` + in + `]}` },
		"Content":         func(in string) string { return `{"content":` + in + `}` },
		"Attachment":      func(in string) string { return `{"content":{"attachments":[` + in + `]}}` },
		"FromHeader":      func(in string) string { return `{"content":{"from":` + in + `}}` },
		"TraceHeaders":    func(in string) string { return `{"trace_headers":` + in + `}` },
	}
	quoted := regexp.MustCompile("`[a-z_0-9]+`")
	parse := func(s string) string {
		_, err := parseRequest(memory{bytes.NewReader([]byte(s))})
		var bad *badRequest
		if errors.As(err, &bad) && bad.status == 422 {
			return bad.text
		}
		return ""
	}
	values := map[string]string{"recipients": "[]", "content": `""`}
	all := make(map[string]Fields)
	for name, wrap := range objects {
		var f Fields
		for _, n := range quoted.FindAllString(parse(wrap(`{"?":1}`)), -1) {
			f.Names = append(f.Names, strings.Trim(n, "`"))
		}
		given := "{"
		for {
			text := parse(wrap(given + "}"))
			_, rest, ok := strings.Cut(text, "missing field ")
			if !ok || name != "InjectV1Request" && (strings.Contains(rest, "envelope_sender") || strings.Contains(rest, "recipients`") || strings.Contains(rest, "`content`")) {
				break
			}
			missing := strings.Trim(quoted.FindString(rest), "`")
			f.Required = append(f.Required, missing)
			v := values[missing]
			if v == "" {
				v = `""`
			}
			if given != "{" {
				given += ","
			}
			given += `"` + missing + `":` + v
		}
		slices.Sort(f.Names)
		slices.Sort(f.Required)
		all[name] = f
	}
	return all
}

// ParseClientTrace reads the first frame of a client of trace-smtp-client; Wants is its filter.
func ParseClientTrace(b []byte) (r ClientTraceRequest, err error) {
	err = json.Unmarshal(b, &r)
	return r, err
}

func Wants(r *ClientTraceRequest, e *mtakit.TraceEvent) bool { return r.wants(e) }
