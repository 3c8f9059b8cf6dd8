package mtakit

import (
	"encoding/json"
	"reflect"
	"strings"
)

// Setting is one option of a configuration, and why it is so.
type Setting struct {
	Option string // as in files; entries of tables of named limits are options of their own, TABLE.NAME
	Value  string // as JSON; secrets are hidden
	Place  Place  // in a file; zero for a default, and for a decision of the program
	By     string // the part of the configuration that decided: "domain d", "tenant t"; "" for a default
}

// SettingsOf lists the options of a configuration, which is a pointer to a struct whose fields have JSON names: [PathConfig], [QueueSettings], [Source].
// Those that are not set and have no default are left out. Why they are so is for others to fill in.
func SettingsOf(config any) ([]Setting, error) {
	var all []Setting
	v := reflect.ValueOf(config).Elem()
	for i := range v.NumField() {
		name, flags, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "-" || flags != "" && v.Field(i).IsZero() {
			continue
		}
		switch f := v.Field(i).Interface().(type) {
		case NamedLimits:
			for _, n := range f {
				all = append(all, Setting{Option: name + "." + n.Name, Value: `"` + n.Limit.String() + `"`})
			}
		case NamedRates:
			for _, n := range f {
				all = append(all, Setting{Option: name + "." + n.Name, Value: `"` + n.Rate.String() + `"`})
			}
		default:
			text, err := json.Marshal(f)
			if err != nil {
				return nil, err
			}
			all = append(all, Setting{Option: name, Value: string(text)})
		}
	}
	return all, nil
}
