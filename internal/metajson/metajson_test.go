package metajson_test

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"github.com/mtakit/mtakit/internal/metajson"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]any{
		`null`: nil, `"x"`: "x", `true`: true, `7`: 7.0, `-7`: -7.0, `1.5`: 1.5, `9007199254740992`: 9007199254740992.0,
		`9007199254740993`: int64(9007199254740993), `-9007199254740993`: int64(-9007199254740993), `9223372036854775807`: int64(math.MaxInt64),
		`-9223372036854775808`: -9223372036854775808.0, `9223372036854775808`: 9223372036854775808.0, `9223372036854775809`: uint64(9223372036854775809),
		`18446744073709551615`: uint64(math.MaxUint64), `18446744073709551616`: 18446744073709551616.0, `1e300`: 1e300,
		`{"a":[{"b":1234567890123456789}]}`: map[string]any{"a": []any{map[string]any{"b": int64(1234567890123456789)}}},
	} {
		if got, err := metajson.Parse([]byte(in)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %T %v, %v, want %T %v", in, got, got, err, want, want)
		}
	}
	for _, bad := range []string{``, `1 2`, `{`, `1e999`, `[1e999]`, `{"a":1e999}`, `-`, `nul`} {
		if got, err := metajson.Parse([]byte(bad)); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}

func TestMap(t *testing.T) {
	t.Parallel()
	var m metajson.Map
	if err := json.Unmarshal([]byte(`{"n":1234567890123456789}`), &m); err != nil || m["n"] != int64(1234567890123456789) {
		t.Errorf("%v, %v", m, err)
	}
	if b, err := json.Marshal(m); string(b) != `{"n":1234567890123456789}` {
		t.Errorf("%s, %v", b, err)
	}
	if err := json.Unmarshal([]byte(`null`), &m); err != nil || m != nil {
		t.Errorf("null: %v, %v", m, err)
	}
	for _, bad := range []string{`[]`, `1`, `"x"`} {
		if err := json.Unmarshal([]byte(bad), &m); err == nil {
			t.Errorf("%s is an object", bad)
		}
	}
}
