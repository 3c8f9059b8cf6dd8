package httpapi

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
)

// query reads the query string of a request. After the first field that is wrong the others don't count.
type query struct {
	values url.Values
	err    error
}

func queryOf(r *http.Request) *query {
	v, err := url.ParseQuery(r.URL.RawQuery)
	return &query{v, err}
}

func (q *query) fail(name, format string, args ...any) {
	if q.err == nil {
		q.err = fmt.Errorf(name+": "+format, args...)
	}
}

// required is the value of a field that has to be there.
func (q *query) required(name string) string {
	if !q.values.Has(name) {
		q.fail(name, "missing field `%s`", name)
	}
	return q.values.Get(name)
}

// boolean is the value of a field that is true or false, and false if it is not there.
func (q *query) boolean(name string) bool {
	switch v := q.values.Get(name); {
	case v == "true":
		return true
	case v != "false" && q.values.Has(name):
		q.fail(name, "provided string was not `true` or `false`")
	}
	return false
}

// count is the value of a field that is a number, -1 if it is not there.
func (q *query) count(name string) int {
	if !q.values.Has(name) {
		return -1
	}
	n, err := strconv.ParseUint(q.values.Get(name), 10, 32)
	if err != nil {
		q.fail(name, "invalid digit found in string")
	}
	return int(min(n, math.MaxInt32))
}

// limit is how many rows there are to be at most, def if that is not said.
func (q *query) limit(def int) int {
	s := q.values.Get("limit")
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > listMax {
		q.fail("limit", "expected a number from 1 to %d", listMax)
	}
	return n
}

// bad answers a query string that is wrong, and says whether it was.
func (q *query) bad(w http.ResponseWriter) bool {
	if q.err != nil {
		text(w, http.StatusBadRequest, "Failed to deserialize query string: "+q.err.Error())
	}
	return q.err != nil
}
