package template

// args are the arguments of a call, positional and by keyword.
type args struct {
	pos []any
	kw  map[string]any
}

// at is the argument at position i or by name, or undefined.
func (a *args) at(i int, name string) any {
	if i >= 0 && i < len(a.pos) {
		return a.pos[i]
	}
	if v, ok := a.kw[name]; ok {
		return v
	}
	return undefined{}
}

// get is the argument, which has to be there.
func (a *args) get(r *run, i int, name string) any {
	v := a.at(i, name)
	if isUndefined(v) {
		r.fail("missing argument", "%s", name)
	}
	return v
}

func (a *args) str(r *run, i int, name, otherwise string) string {
	v := a.at(i, name)
	if isUndefined(v) || v == nil {
		return otherwise
	}
	return r.display(v)
}

// int is an integer argument within ±1e9.
func (a *args) int(r *run, i int, name string, otherwise int) int {
	v := a.at(i, name)
	if isUndefined(v) || v == nil {
		return otherwise
	}
	n, ok := integer(v)
	if !ok || n > 1e9 || n < -1e9 {
		r.invalid("argument %s is not a number in range", name)
	}
	return int(n)
}

func (a *args) bool(i int, name string, otherwise bool) bool {
	v := a.at(i, name)
	if isUndefined(v) || v == nil {
		return otherwise
	}
	return truthy(v)
}
