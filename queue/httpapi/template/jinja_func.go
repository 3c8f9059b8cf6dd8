package template

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// rangeMax is how long a range may be.
const rangeMax = 100_000

// functions are the global ones.
var functions = map[string]callable{
	"range": func(r *run, a *args) any {
		from, to, by := 0, a.int(r, 0, "stop", 0), a.int(r, 2, "step", 1)
		if len(a.pos) > 1 {
			from, to = to, a.int(r, 1, "upper", 0)
		}
		if by == 0 {
			r.invalid("cannot create range with step of 0")
		}
		n := max(0, (to-from+by-min(max(by, -1), 1))/by)
		if n > rangeMax {
			panic(failure{kind: "invalid operation", detail: "range has too many elements", line: r.line, limit: true})
		}
		r.grow(n * itemSize)
		l := make([]any, 0, n)
		for i := from; by > 0 && i < to || by < 0 && i > to; i += by {
			l = append(l, int64(i))
		}
		return l
	},
	"dict": func(r *run, a *args) any {
		m := make(map[string]any)
		if len(a.pos) > 0 {
			from, ok := a.pos[0].(map[string]any)
			if !ok {
				r.invalid("dict takes a map and keywords")
			}
			r.grow(len(from) * 4 * itemSize)
			for k, v := range from {
				m[k] = v
			}
		}
		for k, v := range a.kw {
			m[k] = v
		}
		return m
	},
	"namespace": func(r *run, a *args) any {
		ns := &namespace{attrs: make(map[string]any)}
		if len(a.pos) > 0 {
			from, _ := a.pos[0].(map[string]any)
			r.grow(len(from) * 4 * itemSize)
			for k, v := range from {
				ns.attrs[k] = v
			}
		}
		for k, v := range a.kw {
			ns.attrs[k] = v
		}
		return ns
	},
	"now": func(r *run, _ *args) any { return r.limits.Now().UTC() },
	"cycler": func(r *run, a *args) any {
		items := a.pos
		if len(items) == 1 {
			items = r.items(items[0])
		}
		if len(items) == 0 {
			r.invalid("at least one value required")
		}
		return &cycler{items: items}
	},
	"joiner": func(r *run, a *args) any {
		sep, first := a.str(r, 0, "sep", ", "), true
		return callable(func(*run, *args) any {
			if first {
				first = false
				return ""
			}
			return sep
		})
	},
}

// cycler gives one item after the other.
type cycler struct {
	items []any
	at    int
}

func (c *cycler) display() string { return "<cycler>" }

func (c *cycler) attr(name string) (any, bool) {
	switch name {
	case "current":
		return c.items[c.at], true
	case "next":
		return callable(func(*run, *args) any {
			v := c.items[c.at]
			c.at = (c.at + 1) % len(c.items)
			return v
		}), true
	case "reset":
		return callable(func(*run, *args) any { c.at = 0; return undefined{} }), true
	}
	return nil, false
}

// mapMethods are Python's.
var mapMethods = map[string]func(r *run, m map[string]any, a *args) any{
	"keys":  func(r *run, m map[string]any, _ *args) any { return r.items(m) },
	"items": func(r *run, m map[string]any, _ *args) any { return r.pairs(m) },
	"values": func(r *run, m map[string]any, _ *args) any {
		l := make([]any, 0, len(m))
		for _, k := range sortedKeys(m) {
			l = append(l, m[k])
		}
		return r.list(l)
	},
	"get": func(r *run, m map[string]any, a *args) any {
		if v, ok := m[r.display(a.get(r, 0, "key"))]; ok {
			return v
		}
		if d := a.at(1, "default"); !isUndefined(d) {
			return d
		}
		return nil
	},
}

type method func(r *run, s string, a *args) any

// stringMethods are Python's.
var stringMethods = map[string]method{
	"upper":      func(r *run, s string, _ *args) any { return r.str(strings.ToUpper(s)) },
	"lower":      func(r *run, s string, _ *args) any { return r.str(strings.ToLower(s)) },
	"title":      func(r *run, s string, _ *args) any { return r.str(title(s)) },
	"capitalize": func(r *run, s string, _ *args) any { return r.str(capitalize(s)) },
	"strip":      func(r *run, s string, a *args) any { return strip(r, s, a, true, true) },
	"lstrip":     func(r *run, s string, a *args) any { return strip(r, s, a, true, false) },
	"rstrip":     func(r *run, s string, a *args) any { return strip(r, s, a, false, true) },
	"split":      func(r *run, s string, a *args) any { return r.split(s, a) },
	"rsplit": func(r *run, s string, a *args) any {
		sep, n := a.str(r, 0, "sep", ""), a.int(r, 1, "maxsplit", -1)
		if sep == "" || n < 0 {
			return r.split(s, a)
		}
		r.grow(len(s))
		var parts []string
		for ; n > 0; n-- {
			i := strings.LastIndex(s, sep)
			if i < 0 {
				break
			}
			parts = append(parts, s[i+len(sep):])
			s = s[:i]
		}
		parts = append(parts, s)
		slices.Reverse(parts)
		return r.strings(parts)
	},
	"splitlines": func(r *run, s string, _ *args) any { return r.lines(s) },
	"replace": func(r *run, s string, a *args) any {
		return r.replace(s, a.str(r, 0, "old", ""), a.str(r, 1, "new", ""), a.int(r, 2, "count", -1))
	},
	"join":         func(r *run, s string, a *args) any { return r.join(a.get(r, 0, "values"), s, "") },
	"startswith":   func(r *run, s string, a *args) any { return affix(r, s, a, strings.HasPrefix) },
	"endswith":     func(r *run, s string, a *args) any { return affix(r, s, a, strings.HasSuffix) },
	"removeprefix": func(r *run, s string, a *args) any { return strings.TrimPrefix(s, a.str(r, 0, "prefix", "")) },
	"removesuffix": func(r *run, s string, a *args) any { return strings.TrimSuffix(s, a.str(r, 0, "suffix", "")) },
	"find":         func(r *run, s string, a *args) any { return runeIndex(s, strings.Index(s, a.str(r, 0, "sub", ""))) },
	"rfind":        func(r *run, s string, a *args) any { return runeIndex(s, strings.LastIndex(s, a.str(r, 0, "sub", ""))) },
	"count":        func(r *run, s string, a *args) any { return int64(strings.Count(s, a.str(r, 0, "sub", ""))) },
	"isdigit":      func(_ *run, s string, _ *args) any { return every(s, unicode.IsDigit) },
	"isnumeric":    func(_ *run, s string, _ *args) any { return every(s, unicode.IsNumber) },
	"isalpha":      func(_ *run, s string, _ *args) any { return every(s, unicode.IsLetter) },
	"isalnum": func(_ *run, s string, _ *args) any {
		return every(s, func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) })
	},
	"isascii": func(_ *run, s string, _ *args) any {
		return !strings.ContainsFunc(s, func(c rune) bool { return c >= utf8.RuneSelf })
	},
	"isspace": func(_ *run, s string, _ *args) any { return every(s, unicode.IsSpace) },
	"isupper": func(_ *run, s string, _ *args) any {
		return s == strings.ToUpper(s) && strings.ContainsFunc(s, unicode.IsUpper)
	},
	"islower": func(_ *run, s string, _ *args) any {
		return s == strings.ToLower(s) && strings.ContainsFunc(s, unicode.IsLower)
	},
}

func strip(r *run, s string, a *args, left, right bool) any {
	in := unicode.IsSpace
	if chars := a.str(r, 0, "chars", ""); chars != "" {
		in = func(c rune) bool { return strings.ContainsRune(chars, c) }
	}
	if left {
		s = strings.TrimLeftFunc(s, in)
	}
	if right {
		s = strings.TrimRightFunc(s, in)
	}
	return s
}

// affix is startswith and endswith, of one string or any of several.
func affix(r *run, s string, a *args, has func(s, t string) bool) any {
	v := a.get(r, 0, "prefix")
	if l, ok := v.([]any); ok {
		return slices.ContainsFunc(l, func(e any) bool { return has(s, r.display(e)) })
	}
	return has(s, r.display(v))
}

func runeIndex(s string, i int) int64 {
	if i < 0 {
		return -1
	}
	return int64(utf8.RuneCountInString(s[:i]))
}

func every(s string, is func(rune) bool) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return !is(c) })
}
