package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mtakit/mtakit/queue/httpapi"
)

// openAPI is as much of a description as is compared.
type openAPI struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]*schema }
}

type operation struct {
	Security    []map[string]any
	Parameters  []parameter
	RequestBody struct{ Content map[string]media }
	Responses   map[string]response
}

type parameter struct {
	Name, In string
	Required bool
	Schema   schema
}

type response struct{ Content map[string]media }

type media struct{ Schema *schema }

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Properties           map[string]*schema
	Required             []string
	AdditionalProperties any
	Items                *schema
	OneOf                []*schema
	Enum                 []any
}

// document is the description of all endpoints there can be.
var document = sync.OnceValue(func() *openAPI {
	b, err := os.ReadFile("openapi.json")
	if err != nil {
		panic(err)
	}
	return parseOpenAPI(b)
})

func parseOpenAPI(b []byte) *openAPI {
	doc := &openAPI{}
	if err := json.Unmarshal(b, doc); err != nil {
		panic(err)
	}
	return doc
}

func (d *openAPI) operation(method, path string) (operation, bool) {
	o, ok := d.Paths[path][strings.ToLower(method)]
	return o, ok
}

func (d *openAPI) resolve(s *schema) *schema {
	for s != nil && s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	return s
}

// fits says what is wrong with a value; "" if nothing is.
func (d *openAPI) fits(path string, s *schema, v any) string {
	if s = d.resolve(s); s == nil {
		return path + " has a schema that is not there"
	}
	if len(s.OneOf) > 0 {
		var all []string
		for _, o := range s.OneOf {
			problem := d.fits(path, o, v)
			if problem == "" {
				return ""
			}
			all = append(all, problem)
		}
		return strings.Join(all, ", or ")
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return fmt.Sprintf("%s is %v, described as one of %v", path, v, s.Enum)
	}
	if types := typesOf(s); len(types) > 0 {
		kind := typeOf(v)
		if !slices.Contains(types, kind) && !(kind == "integer" && slices.Contains(types, "number")) {
			return fmt.Sprintf("%s is of type %s, described as %v", path, kind, types)
		}
	}
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			if s.Items != nil {
				if problem := d.fits(fmt.Sprintf("%s[%d]", path, i), s.Items, e); problem != "" {
					return problem
				}
			}
		}
	case map[string]any:
		for _, r := range s.Required {
			if _, ok := v[r]; !ok {
				return fmt.Sprintf("%s has no %s, which is described as required", path, r)
			}
		}
		for k, e := range v {
			next := s.Properties[k]
			if next == nil {
				switch more := s.AdditionalProperties.(type) {
				case map[string]any:
					b, _ := json.Marshal(more)
					next = &schema{}
					if err := json.Unmarshal(b, next); err != nil {
						return err.Error()
					}
				case bool:
					if !more {
						return fmt.Sprintf("%s has %s, which is not described", path, k)
					}
					continue
				default:
					if len(s.Properties) > 0 {
						return fmt.Sprintf("%s has %s, which is not described", path, k)
					}
					continue
				}
			}
			if problem := d.fits(path+"."+k, next, e); problem != "" {
				return problem
			}
		}
	}
	return ""
}

func typesOf(s *schema) (types []string) {
	switch t := s.Type.(type) {
	case string:
		types = append(types, t)
	case []any:
		for _, e := range t {
			types = append(types, fmt.Sprint(e))
		}
	}
	return types
}

func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// described says in what a successful exchange differs from its description.
func described(method, path, query, request string, answer any) string {
	d := document()
	o, ok := d.operation(method, path)
	if !ok {
		return "the endpoint is not described"
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return err.Error()
	}
	for name := range values {
		if !slices.ContainsFunc(o.Parameters, func(p parameter) bool { return p.In == "query" && p.Name == name }) {
			return "the parameter " + name + " is not described"
		}
	}
	if s := o.RequestBody.Content["application/json"].Schema; s != nil {
		var v any
		if err := json.Unmarshal([]byte(request), &v); err != nil {
			return err.Error()
		}
		if _, open := d.resolve(s).AdditionalProperties.(bool); open { // else unknown fields are passed over
			if problem := d.fits("request", s, v); problem != "" {
				return problem
			}
		}
	}
	r := o.Responses["200"]
	if s := r.Content["application/json"].Schema; s != nil {
		return d.fits("answer", s, answer)
	}
	return "the JSON of the answer is not described"
}

// exchanges lists the statuses of each endpoint, and the parameters, in testdata/contract.
func exchanges(t *testing.T) (statuses, parameters map[string]map[string]bool) {
	t.Helper()
	files, err := filepath.Glob("testdata/contract/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	statuses, parameters = make(map[string]map[string]bool), make(map[string]map[string]bool)
	note := func(m map[string]map[string]bool, k, v string) {
		if m[k] == nil {
			m[k] = make(map[string]bool)
		}
		m[k][v] = true
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var endpoint string
		for line := range strings.SplitSeq(string(b), "\n") {
			words := strings.Fields(line)
			switch {
			case strings.HasPrefix(line, "== ") && len(words) == 3 && strings.HasPrefix(words[2], "/"):
				path, query, _ := strings.Cut(words[2], "?")
				endpoint = words[1] + " " + path
				values, err := url.ParseQuery(query)
				if err != nil {
					t.Fatal(err)
				}
				for name := range values {
					note(parameters, endpoint, name)
				}
			case strings.HasPrefix(line, "=> ") && len(words) == 2:
				note(statuses, endpoint, words[1])
			}
		}
	}
	return statuses, parameters
}

// elsewhere are statuses that need a connection, a policy that fails, or very many rules.
var elsewhere = map[string][]string{
	"POST /api/admin/bounce/v1": {"503"}, "POST /api/admin/suspend/v1": {"503"}, "POST /api/admin/suspend-ready-q/v1": {"503"},
	"GET /api/admin/trace-smtp-client/v1": {"101", "403", "503"}, "GET /api/admin/trace-smtp-server/v1": {"101", "403", "503"},
	"GET /api/admin/inspect-sched-q/v1": {"500"}, "GET /api/admin/explain/v1": {"500"},
}

// TestOpenAPI compares the description with what is served: endpoints, the statuses that requests of all kinds get and that testdata/contract has, and the fields of
// requests. TestContract compares parameters and JSON.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	api := fullAPI(t, nil)
	r := do(api, call{path: "/api-docs/openapi.json", remote: "192.0.2.1:1"})
	if r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type is %q", r.Header.Get("Content-Type"))
	}
	doc := parseOpenAPI([]byte(bodyOf(t, r)))
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("version is %q", doc.OpenAPI)
	}
	var all []string
	for path, operations := range doc.Paths {
		for method := range operations {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}
	served := httpapi.Routes(api)
	slices.Sort(all)
	slices.Sort(served)
	if !slices.Equal(all, served) {
		t.Errorf("described are %q, served are %q", all, served)
	}
	for path := range document().Paths {
		if _, ok := doc.Paths[path]; !ok {
			t.Errorf("%s is described, and not served by an API that has everything", path)
		}
	}

	statuses, parameters := exchanges(t)
	for _, endpoint := range all {
		method, path, _ := strings.Cut(endpoint, " ")
		o, _ := doc.operation(method, path)
		seen := statuses[endpoint]
		if seen == nil {
			seen = make(map[string]bool)
		}
		for _, s := range elsewhere[endpoint] {
			seen[s] = true
		}
		for _, p := range probes(method, path, o) {
			seen[strconv.Itoa(do(api, p).StatusCode)] = true
		}
		delete(seen, "405")
		var want []string
		for s := range o.Responses {
			want = append(want, s)
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
			t.Errorf("%s answers with %q, described are %q", endpoint, got, want)
		}
		for _, p := range o.Parameters {
			if p.In == "query" && !parameters[endpoint][p.Name] {
				t.Errorf("%s: nobody has tried the parameter %s", endpoint, p.Name)
			}
		}
	}
	for name, fields := range httpapi.RequestFields(api) {
		s := doc.Components.Schemas[name]
		names := slices.Sorted(maps.Keys(s.Properties))
		slices.Sort(s.Required)
		if !slices.Equal(names, fields.Names) || !slices.Equal(s.Required, fields.Required) {
			t.Errorf("%s is described with %q, %q required; read are %q, %q required", name, names, s.Required, fields.Names, fields.Required)
		}
	}
}

// probes are requests that are wrong in all ways that the description knows.
func probes(method, path string, o operation) []call {
	get := call{method: method, path: path, header: asJSON}
	list := []call{get}
	if o.Security == nil {
		away := get
		away.remote = "192.0.2.1:1"
		list = append(list, away)
	}
	if len(o.RequestBody.Content) > 0 {
		list = append(list, call{method: method, path: path, body: strings.Repeat(" ", 3<<20), header: asJSON})
	}
	if o.RequestBody.Content["application/json"].Schema != nil {
		for _, body := range []string{"{", "null"} {
			list = append(list, call{method: method, path: path, body: body, header: asJSON})
		}
		list = append(list, call{method: method, path: path, body: "{}", header: http.Header{"Content-Type": {"text/plain"}}})
	}
	query := url.Values{}
	for _, p := range o.Parameters {
		if p.In == "query" && p.Required {
			query.Set(p.Name, "x")
		}
	}
	for _, p := range o.Parameters {
		if p.In != "query" {
			continue
		}
		for _, bad := range []string{"\x00?", "-1"} {
			q := maps.Clone(query)
			q[p.Name] = []string{bad}
			if types := typesOf(&p.Schema); slices.Contains(types, "integer") || slices.Contains(types, "boolean") || len(p.Schema.Enum) > 0 {
				list = append(list, call{method: method, path: path + "?" + q.Encode()})
			}
		}
	}
	return list
}

// Each field of a request that is described is read, and each that is described as required is.
func TestOpenAPIRequests(t *testing.T) {
	t.Parallel()
	api, doc := fullAPI(t, nil), document()
	for path, operations := range doc.Paths {
		for method, o := range operations {
			s := doc.resolve(o.RequestBody.Content["application/json"].Schema)
			if s == nil || path == "/api/inject/v1" { // TestOpenAPI has its fields
				continue
			}
			ask := func(fields map[string]any) string {
				b, err := json.Marshal(fields)
				if err != nil {
					t.Fatal(err)
				}
				r := do(api, call{method: strings.ToUpper(method), path: path, body: string(b), header: asJSON})
				return strconv.Itoa(r.StatusCode) + " " + bodyOf(t, r)
			}
			for name := range s.Properties {
				// A list of lists is nothing that any field has.
				got := ask(map[string]any{name: []any{[]any{}}})
				if !strings.HasPrefix(got, "422 Failed to deserialize the JSON body into the target type: "+name) {
					t.Errorf("%s %s: %s as a list: %s", method, path, name, got)
				}
			}
			if got := ask(map[string]any{"%": 1}); len(s.Required) > 0 && s.AdditionalProperties != false && !strings.Contains(got, "missing field") ||
				s.AdditionalProperties == false && !strings.Contains(got, "unknown field") {
				t.Errorf("%s %s: an unknown field: %s", method, path, got)
			}
		}
	}
}
