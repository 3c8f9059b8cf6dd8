package template

import (
	"strings"
	"unicode"
)

type testFunc func(r *run, v any, a *args) bool

// newTests are what can follow "is".
func newTests() map[string]testFunc {
	is := func(f func(v any) bool) testFunc { return func(_ *run, v any, _ *args) bool { return f(v) } }
	kind := func(names ...string) testFunc {
		return is(func(v any) bool {
			for _, n := range names {
				if kindName(v) == n {
					return true
				}
			}
			return false
		})
	}
	other := func(f func(r *run, v, w any) bool) testFunc {
		return func(r *run, v any, a *args) bool { return f(r, v, a.get(r, 0, "other")) }
	}
	compare := func(f func(c int) bool) testFunc {
		return other(func(r *run, v, w any) bool { return f(r.compare(v, w)) })
	}
	equal := other(func(r *run, v, w any) bool { return r.equal(v, w) })
	isSafe := is(func(v any) bool { _, ok := v.(safe); return ok })
	remainder := func(v any, by, want int64) bool {
		n, ok := integer(v)
		return ok && by != 0 && (n%by+by)%by == want
	}
	str := func(f func(s, t string) bool) testFunc {
		return func(r *run, v any, a *args) bool {
			s, ok := asString(v)
			return ok && f(s, a.str(r, 0, "other", ""))
		}
	}
	tests := map[string]testFunc{
		"defined":   is(func(v any) bool { return !isUndefined(v) }),
		"undefined": is(isUndefined),
		"none":      is(func(v any) bool { return v == nil }),
		"true":      is(func(v any) bool { return v == true }),
		"false":     is(func(v any) bool { return v == false }),
		"boolean":   kind("bool"),
		"number":    kind("number"),
		"integer":   is(func(v any) bool { _, ok := compareInts(v, v); return ok }),
		"float":     is(func(v any) bool { _, ok := v.(float64); return ok }),
		"string":    kind("string"),
		"sequence":  kind("sequence"),
		"mapping":   kind("map"),
		"iterable":  kind("sequence", "map", "string"),
		"safe":      isSafe,
		"escaped":   isSafe,
		"odd":       is(func(v any) bool { return remainder(v, 2, 1) }),
		"even":      is(func(v any) bool { return remainder(v, 2, 0) }),
		"divisibleby": func(r *run, v any, a *args) bool {
			by, ok := integer(a.get(r, 0, "num"))
			return ok && by > 0 && remainder(v, by, 0)
		},
		"eq": equal, "equalto": equal, "==": equal, "sameas": equal,
		"ne": other(func(r *run, v, w any) bool { return !r.equal(v, w) }),
		"lt": compare(func(c int) bool { return c < 0 }), "le": compare(func(c int) bool { return c <= 0 }),
		"gt": compare(func(c int) bool { return c > 0 }), "ge": compare(func(c int) bool { return c >= 0 }),
		"in":           other(func(r *run, v, w any) bool { return r.contains(w, v) }),
		"startingwith": str(strings.HasPrefix),
		"endingwith":   str(strings.HasSuffix),
		"lower":        str(func(s, _ string) bool { return s == strings.ToLower(s) && strings.ContainsFunc(s, unicode.IsLetter) }),
		"upper":        str(func(s, _ string) bool { return s == strings.ToUpper(s) && strings.ContainsFunc(s, unicode.IsLetter) }),
		"filter":       func(r *run, v any, _ *args) bool { _, ok := r.lib.filters[r.display(v)]; return ok },
		"test":         func(r *run, v any, _ *args) bool { _, ok := r.lib.tests[r.display(v)]; return ok },
	}
	for sign, name := range map[string]string{"!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge", "lessthan": "lt", "greaterthan": "gt"} {
		tests[sign] = tests[name]
	}
	return tests
}
