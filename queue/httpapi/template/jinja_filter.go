package template

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

type filterFunc func(r *run, v any, a *args) any

// newFilters are MiniJinja's and those of its contributed set that make sense in mail.
func newFilters() map[string]filterFunc {
	text := func(f func(string) string) filterFunc {
		return func(r *run, v any, _ *args) any { return r.str(f(r.display(v))) }
	}
	pick := func(want, byAttr bool) filterFunc {
		return func(r *run, v any, a *args) any { return r.pick(v, a, want, byAttr) }
	}
	count := func(r *run, v any, _ *args) any {
		n, ok := length(v)
		if !ok {
			r.invalid("cannot calculate length of value of type %s", kindName(v))
		}
		return int64(n)
	}
	fallback := func(r *run, v any, a *args) any {
		if isUndefined(v) || a.bool(1, "boolean", false) && !truthy(v) {
			if d := a.at(0, "value"); !isUndefined(d) {
				return d
			}
			return ""
		}
		return v
	}
	escape := func(r *run, v any, _ *args) any {
		if s, ok := v.(safe); ok {
			return s
		}
		return safe(r.str(htmlEscaper.Replace(r.display(v))))
	}
	extreme := func(sign int) filterFunc {
		return func(r *run, v any, a *args) any {
			items := r.items(v)
			if len(items) == 0 {
				return undefined{}
			}
			best := items[0]
			for _, e := range items[1:] {
				if r.compare(e, best)*sign > 0 {
					best = e
				}
			}
			return best
		}
	}
	return map[string]filterFunc{
		"upper": text(strings.ToUpper), "lower": text(strings.ToLower), "title": text(title), "capitalize": text(capitalize),
		"string": func(r *run, v any, _ *args) any {
			if s, ok := v.(safe); ok {
				return s
			}
			return r.str(r.display(v))
		},
		"safe":   func(r *run, v any, _ *args) any { return safe(r.display(v)) },
		"escape": escape, "e": escape, "forceescape": escape,
		"length": count, "count": count,
		"default": fallback, "d": fallback,
		"trim": func(r *run, v any, a *args) any {
			s := r.display(v)
			if chars := a.str(r, 0, "chars", ""); chars != "" {
				return strings.Trim(s, chars)
			}
			return strings.TrimSpace(s)
		},
		"replace": func(r *run, v any, a *args) any {
			return r.replace(r.display(v), a.str(r, 0, "from", ""), a.str(r, 1, "to", ""), -1)
		},
		"join":  func(r *run, v any, a *args) any { return r.join(v, a.str(r, 0, "d", ""), a.str(r, 1, "attribute", "")) },
		"split": func(r *run, v any, a *args) any { return r.split(r.display(v), a) },
		"lines": func(r *run, v any, _ *args) any { return r.lines(r.display(v)) },
		"first": func(r *run, v any, _ *args) any { return r.index(r.items(v), 0) },
		"last":  func(r *run, v any, _ *args) any { return r.index(r.items(v), -1) },
		"min":   extreme(-1), "max": extreme(1),
		"list": func(r *run, v any, _ *args) any { return r.list(slices.Clone(r.items(v))) },
		"reverse": func(r *run, v any, _ *args) any {
			l := slices.Clone(r.items(v))
			slices.Reverse(l)
			r.list(l)
			if _, ok := asString(v); ok {
				return r.join(l, "", "")
			}
			return l
		},
		"sort":   (*run).sort,
		"unique": (*run).unique,
		"select": pick(true, false), "reject": pick(false, false), "selectattr": pick(true, true), "rejectattr": pick(false, true),
		"map":      (*run).mapFilter,
		"groupby":  (*run).groupBy,
		"dictsort": (*run).dictSort,
		"items": func(r *run, v any, _ *args) any {
			m, ok := v.(map[string]any)
			if !ok {
				r.invalid("cannot convert %s into pair list", kindName(v))
			}
			return r.pairs(m)
		},
		"batch": func(r *run, v any, a *args) any { return r.batch(v, a) },
		"slice": func(r *run, v any, a *args) any { return r.columns(v, a) },
		"sum": func(r *run, v any, a *args) any {
			var sum any = int64(0)
			for _, e := range r.items(v) {
				if attr := a.str(r, 0, "attribute", ""); attr != "" {
					e = r.path(e, attr)
				}
				r.step(1)
				sum = r.arithmetic("+", sum, e)
			}
			return sum
		},
		"attr":  func(r *run, v any, a *args) any { return attribute(v, a.str(r, 0, "name", "")) },
		"round": (*run).round,
		"abs": func(r *run, v any, _ *args) any {
			switch v := v.(type) {
			case int64:
				return max(v, -v)
			case uint64:
				return v
			case float64:
				return math.Abs(v)
			}
			r.invalid("cannot get absolute value of %s", kindName(v))
			return nil
		},
		"int": func(r *run, v any, a *args) any { return r.toInt(v) },
		"float": func(r *run, v any, _ *args) any {
			if f, ok := number(v); ok {
				return f
			}
			f, err := strconv.ParseFloat(strings.TrimSpace(r.display(v)), 64)
			if err != nil {
				r.invalid("cannot convert %s to float", kindName(v))
			}
			return f
		},
		"bool":      func(_ *run, v any, _ *args) any { return truthy(v) },
		"tojson":    (*run).toJSON,
		"urlencode": (*run).urlEncode,
		"pprint":    func(r *run, v any, _ *args) any { return string(r.debug(nil, v)) },
		"indent":    (*run).indent,
		"random": func(r *run, v any, _ *args) any {
			items := r.items(v)
			if len(items) == 0 {
				return undefined{}
			}
			return items[rand.IntN(len(items))]
		},
		"wordcount": func(r *run, v any, _ *args) any {
			s := r.display(v)
			r.grow(len(s))
			return int64(len(strings.Fields(s)))
		},
		"truncate":       (*run).truncate,
		"striptags":      func(r *run, v any, _ *args) any { return r.str(stripTags(r.display(v))) },
		"pluralize":      (*run).pluralize,
		"filesizeformat": (*run).fileSize,
		"datetimeformat": func(r *run, v any, a *args) any { return r.formatTime(v, a, dateTimeFormats) },
		"dateformat":     func(r *run, v any, a *args) any { return r.formatTime(v, a, dateFormats) },
		"timeformat":     func(r *run, v any, a *args) any { return r.formatTime(v, a, timeFormats) },
	}
}

func capitalize(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return strings.ToUpper(s[:n]) + strings.ToLower(s[n:])
}

// title makes the first letter of each word large and the others small.
func title(s string) string {
	start := true
	return strings.Map(func(c rune) rune {
		large := start
		start = unicode.IsSpace(c) || unicode.IsPunct(c) && c != '\'' || unicode.IsSymbol(c)
		if large {
			return unicode.ToUpper(c)
		}
		return unicode.ToLower(c)
	}, s)
}

func (r *run) replace(s, from, to string, n int) string {
	r.step(len(s) / 16)
	hits := strings.Count(s, from)
	if n >= 0 {
		hits = min(hits, n)
	}
	if len(to) > 0 && hits > (r.memory-len(s))/len(to) {
		r.exceed("bytes of memory", r.limits.Memory)
	}
	return r.str(strings.Replace(s, from, to, n))
}

func (r *run) join(v any, sep, attr string) any {
	var b strings.Builder
	html := r.escape
	for i, e := range r.items(v) {
		if attr != "" {
			e = r.path(e, attr)
		}
		s := r.display(e)
		if _, ok := e.(safe); !ok {
			html = false
		}
		r.grow(len(s) + len(sep))
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(s)
	}
	if html && b.Len() > 0 && sep == "" {
		return safe(b.String())
	}
	return b.String()
}

func (r *run) split(s string, a *args) any {
	sep, max := a.str(r, 0, "sep", ""), a.int(r, 1, "maxsplits", -1)
	r.grow(len(s))
	var parts []string
	switch {
	case sep == "" && max < 0:
		parts = strings.Fields(s)
	case sep == "":
		for s = strings.TrimSpace(s); s != "" && len(parts) < max; {
			i := strings.IndexFunc(s, unicode.IsSpace)
			if i < 0 {
				break
			}
			parts = append(parts, s[:i])
			s = strings.TrimSpace(s[i:])
		}
		if s != "" {
			parts = append(parts, s)
		}
	case max < 0:
		parts = strings.Split(s, sep)
	default:
		parts = strings.SplitN(s, sep, max+1)
	}
	return r.strings(parts)
}

// strings is a list of strings as a value.
func (r *run) strings(parts []string) []any {
	r.grow(len(parts) * itemSize)
	l := make([]any, len(parts))
	for i, p := range parts {
		l[i] = p
	}
	return l
}

func (r *run) lines(s string) any {
	r.grow(len(s))
	var parts []string
	for line := range strings.Lines(s) {
		parts = append(parts, strings.TrimRight(line, "\r\n"))
	}
	return r.strings(parts)
}

func (r *run) sort(v any, a *args) any {
	reverse, sensitive, attr := a.bool(0, "reverse", false), a.bool(1, "case_sensitive", false), a.str(r, 2, "attribute", "")
	l := r.list(slices.Clone(r.items(v)))
	key := func(v any) any {
		if attr != "" {
			v = r.path(v, attr)
		}
		if s, ok := asString(v); ok && !sensitive {
			return r.str(strings.ToLower(s))
		}
		return v
	}
	slices.SortStableFunc(l, func(x, y any) int {
		if reverse {
			x, y = y, x
		}
		return r.compare(key(x), key(y))
	})
	return l
}

func (r *run) unique(v any, a *args) any {
	sensitive, attr := a.bool(0, "case_sensitive", false), a.str(r, 1, "attribute", "")
	seen := make(map[string]bool)
	var l []any
	for _, e := range r.items(v) {
		k := e
		if attr != "" {
			k = r.path(e, attr)
		}
		s := string(r.debug(nil, k))
		if !sensitive {
			s = strings.ToLower(s)
		}
		if !seen[s] {
			seen[s] = true
			l = append(l, e)
		}
	}
	return r.list(l)
}

// pick is select and reject, by the element or an attribute of it.
func (r *run) pick(v any, a *args, want, byAttr bool) any {
	attr := ""
	rest := *a
	if byAttr {
		attr = r.display(a.get(r, 0, "attribute"))
		rest.pos = rest.pos[min(1, len(rest.pos)):]
	}
	name := ""
	if len(rest.pos) > 0 {
		name = r.display(rest.pos[0])
		rest.pos = rest.pos[1:]
	}
	var l []any
	for _, e := range r.items(v) {
		r.step(1)
		x := e
		if byAttr {
			x = r.path(e, attr)
		}
		ok := truthy(x)
		if name != "" {
			ok = r.test(name, x, &rest)
		}
		if ok == want {
			l = append(l, e)
		}
	}
	return r.list(l)
}

func (r *run) mapFilter(v any, a *args) any {
	attr := a.at(-1, "attribute")
	var l []any
	for _, e := range r.items(v) {
		r.step(1)
		if !isUndefined(attr) {
			x := r.path(e, r.display(attr))
			if d, ok := a.kw["default"]; ok && isUndefined(x) {
				x = d
			}
			l = append(l, x)
			continue
		}
		name := r.display(a.get(r, 0, "filter"))
		l = append(l, r.filter(name, e, &args{pos: a.pos[min(1, len(a.pos)):]}))
	}
	return r.list(l)
}

func (r *run) groupBy(v any, a *args) any {
	attr := r.display(a.get(r, 0, "attribute"))
	key := func(e any) any {
		k := r.path(e, attr)
		if d, ok := a.kw["default"]; ok && isUndefined(k) {
			return d
		}
		return k
	}
	sorted := r.list(slices.Clone(r.items(v)))
	slices.SortStableFunc(sorted, func(x, y any) int { return r.compare(key(x), key(y)) })
	var groups []any
	for i := 0; i < len(sorted); {
		k := key(sorted[i])
		var members []any
		for ; i < len(sorted) && r.equal(key(sorted[i]), k); i++ {
			members = append(members, sorted[i])
		}
		if len(members) == 0 { // what equals nothing, NaN
			members, i = sorted[i:i+1], i+1
		}
		groups = append(groups, r.list([]any{k, members}))
	}
	return groups
}

func (r *run) pairs(m map[string]any) []any {
	r.grow(len(m) * 4 * itemSize)
	l := make([]any, 0, len(m))
	for _, k := range sortedKeys(m) {
		l = append(l, []any{k, m[k]})
	}
	return l
}

func (r *run) dictSort(v any, a *args) any {
	m, ok := v.(map[string]any)
	if !ok {
		r.invalid("cannot convert %s into pair list", kindName(v))
	}
	by := 0
	if a.str(r, 1, "by", "key") == "value" {
		by = 1
	}
	sensitive, reverse := a.bool(0, "case_sensitive", false), a.bool(2, "reverse", false)
	key := func(pair any) any {
		k := pair.([]any)[by]
		if s, ok := asString(k); ok && !sensitive {
			return r.str(strings.ToLower(s))
		}
		return k
	}
	l := r.pairs(m)
	slices.SortStableFunc(l, func(x, y any) int {
		if reverse {
			x, y = y, x
		}
		return r.compare(key(x), key(y))
	})
	return l
}

// batch makes rows of a fixed length.
func (r *run) batch(v any, a *args) any {
	n := a.int(r, 0, "count", 0)
	if n < 1 {
		r.invalid("batch size must be 1 or larger")
	}
	fill := a.at(1, "fill_with")
	var rows []any
	items := r.items(v)
	for i := 0; i < len(items); i += n {
		row := slices.Clone(items[i:min(i+n, len(items))])
		if !isUndefined(fill) && len(row) < n {
			r.grow((n - len(row)) * itemSize)
			for len(row) < n {
				row = append(row, fill)
			}
		}
		rows = append(rows, r.list(row))
	}
	return rows
}

// columns makes a fixed number of rows.
func (r *run) columns(v any, a *args) any {
	n := a.int(r, 0, "count", 0)
	if n < 1 {
		r.invalid("slice count must be 1 or larger")
	}
	fill := a.at(1, "fill_with")
	items := r.items(v)
	r.grow((n + len(items)) * itemSize * 2)
	each, more := len(items)/n, len(items)%n
	var rows []any
	at := 0
	for i := range n {
		size := each
		if i < more {
			size++
		}
		row := slices.Clone(items[at : at+size])
		at += size
		if !isUndefined(fill) && i >= more && more > 0 {
			row = append(row, fill)
		}
		rows = append(rows, row)
	}
	return rows
}

func (r *run) round(v any, a *args) any {
	switch v.(type) {
	case int64, uint64:
		return v
	}
	f, ok := number(v)
	if !ok {
		r.invalid("cannot round %s", kindName(v))
	}
	p := math.Pow(10, float64(a.int(r, 0, "precision", 0)))
	return math.Round(f*p) / p
}

func (r *run) toInt(v any) any {
	switch v := v.(type) {
	case int64, uint64:
		return v
	case float64:
		if math.Abs(v) < 1<<63 {
			return int64(v)
		}
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	default:
		s := strings.TrimSpace(r.display(v))
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i
		}
		if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1<<63 {
			return int64(f)
		}
	}
	r.invalid("cannot convert %s to integer", kindName(v))
	return nil
}

// toJSON writes what can stand in HTML as it is.
func (r *run) toJSON(v any, a *args) any {
	r.debug(nil, v) // charges the budget
	var b []byte
	var err error
	indent := ""
	switch i := a.at(0, "indent").(type) {
	case bool:
		if i {
			indent = "  "
		}
	case int64:
		indent = strings.Repeat(" ", int(max(min(i, 16), 0)))
	}
	if b, err = json.Marshal(plain(v)); err == nil && indent != "" {
		b, err = json.MarshalIndent(plain(v), "", indent)
	}
	if err != nil {
		r.invalid("cannot serialize %s to JSON", kindName(v))
	}
	return safe(r.str(strings.ReplaceAll(string(b), "'", `\u0027`)))
}

// plain is v with what is only ours turned into JSON's values.
func plain(v any) any {
	switch v := v.(type) {
	case undefined:
		return nil
	case safe:
		return string(v)
	case *namespace:
		return plain(v.attrs)
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = plain(e)
		}
		return l
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = plain(e)
		}
		return m
	case callable, object:
		return nil
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return v
}

func (r *run) urlEncode(v any, _ *args) any {
	quote := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(s), "+", "%20"), "%2F", "/")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return r.str(quote(r.display(v)))
	}
	var b strings.Builder
	for _, k := range sortedKeys(m) {
		if m[k] == nil || isUndefined(m[k]) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		s := quote(k) + "=" + quote(r.display(m[k]))
		r.grow(len(s))
		b.WriteString(s)
	}
	return b.String()
}

func (r *run) indent(v any, a *args) any {
	s := r.display(v)
	width, first, blank := a.int(r, 0, "width", 4), a.bool(1, "first", false), a.bool(2, "blank", false)
	if width < 0 || width > 1000 {
		r.invalid("indent is out of range")
	}
	r.grow(len(s) + width*(strings.Count(s, "\n")+1))
	pad := strings.Repeat(" ", width)
	var b strings.Builder
	n := 0
	for line := range strings.Lines(s) {
		if (n > 0 || first) && (blank || strings.TrimSpace(line) != "") {
			b.WriteString(pad)
		}
		b.WriteString(line)
		n++
	}
	return b.String()
}

func (r *run) truncate(v any, a *args) any {
	s := r.display(v)
	n, kill, end, leeway := a.int(r, 0, "length", 255), a.bool(1, "killwords", false), a.str(r, 2, "end", "..."), a.int(r, 3, "leeway", 5)
	r.step(len(s) / 16)
	if utf8.RuneCountInString(s) <= n+leeway {
		return s
	}
	n = max(n-utf8.RuneCountInString(end), 0)
	at := len(s)
	for i := range s {
		if n == 0 {
			at = i
			break
		}
		n--
	}
	if head := s[:at]; !kill {
		if i := strings.LastIndexByte(head, ' '); i > 0 {
			at = i
		}
	}
	return r.str(s[:at] + end)
}

func stripTags(s string) string {
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			break
		}
		b.WriteString(s[:i])
		s = s[i:]
		shut := ">"
		if strings.HasPrefix(s, "<!--") {
			shut = "-->"
		}
		end := strings.Index(s, shut)
		if end < 0 {
			break
		}
		s = s[end+len(shut):]
	}
	b.WriteString(s)
	return strings.Join(strings.Fields(b.String()), " ")
}

func (r *run) pluralize(v any, a *args) any {
	n, ok := number(v)
	if !ok {
		l, isList := length(v)
		if !isList {
			r.invalid("cannot pluralize %s", kindName(v))
		}
		n = float64(l)
	}
	if n == 1 {
		return a.str(r, 0, "singular", "")
	}
	return a.str(r, 1, "plural", "s")
}

func (r *run) fileSize(v any, a *args) any {
	n, ok := number(v)
	if !ok {
		r.invalid("%s is not a size", kindName(v))
	}
	base, units := 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	if a.bool(0, "binary", false) {
		base, units = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	}
	switch {
	case n == 1:
		return "1 Byte"
	case n < base:
		return strconv.FormatInt(int64(n), 10) + " Bytes"
	}
	i := -1
	for n >= base && i < len(units)-1 {
		n /= base
		i++
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + " " + units[i]
}
