package datafile_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

type everything struct {
	Text  string              `json:"text"`
	Flag  bool                `json:"flag"`
	Count int                 `json:"count"`
	Port  uint16              `json:"port"`
	Part  float64             `json:"part"`
	List  []string            `json:"list"`
	Map   map[string]int      `json:"map"`
	Sub   *struct{ X, Y int } `json:"sub"`
	Named struct {
		In int `json:"in"`
	} `json:"named"`
	Age      mtakit.Duration    `json:"age"`
	Limit    mtakit.Limit       `json:"limit"`
	Rate     mtakit.Rate        `json:"rate"`
	Limits   mtakit.NamedLimits `json:"limits"`
	Rates    mtakit.NamedRates  `json:"rates"`
	Nets     mtakit.Prefixes    `json:"nets"`
	Addr     netip.Addr         `json:"addr"`
	Key      *mtakit.KeySource  `json:"key"`
	TLS      mtakit.TLSMode     `json:"tls"`
	Health   *mtakit.HealthRule `json:"health"`
	Protocol mtakit.Protocol    `json:"protocol"`
	Trigger  datafile.Trigger   `json:"trigger"`
	Unnamed  int
}

func TestDecode(t *testing.T) {
	t.Parallel()
	hour := mtakit.Duration(time.Hour)
	tests := []struct {
		toml string
		want everything
	}{
		{`text = "x"` + "\nflag = true\ncount = 3\nport = 65535\npart = 1", everything{Text: "x", Flag: true, Count: 3, Port: 65535, Part: 1}},
		{`list = ["a", "b"]` + "\nmap = {a = 1}\nnamed.in = 2", everything{List: []string{"a", "b"}, Map: map[string]int{"a": 1}, Named: struct {
			In int `json:"in"`
		}{2}}},
		{`age = 3600`, everything{Age: hour}},
		{`age = 3600.0`, everything{Age: hour}},
		{`age = "1 hours"`, everything{Age: hour}},
		{`limit = 5`, everything{Limit: mtakit.Limit{N: 5}}},
		{`limit = "local:1_000"`, everything{Limit: mtakit.Limit{N: 1000, Local: true}}},
		{`limit = {limit = 5, force_local = true}`, everything{Limit: mtakit.Limit{N: 5, Local: true}}},
		{`rate = "10,000/5min,max_burst=20"`, everything{Rate: mtakit.Rate{N: 10000, Burst: 20, Per: 5 * time.Minute}}},
		{`limits = {z = 2, a = "3"}`, everything{Limits: mtakit.NamedLimits{{Name: "z", Limit: mtakit.Limit{N: 2}}, {Name: "a", Limit: mtakit.Limit{N: 3}}}}},
		{`rates = {z = "1/s", a = "2/s"}`, everything{Rates: mtakit.NamedRates{{Name: "z", Rate: mtakit.Rate{N: 1, Per: time.Second}}, {Name: "a", Rate: mtakit.Rate{N: 2, Per: time.Second}}}}},
		{`nets = ["10.0.0.0/8", "::1"]`, everything{Nets: mtakit.Prefixes{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}},
		{`addr = "192.0.2.1"`, everything{Addr: netip.MustParseAddr("192.0.2.1")}},
		{`key = "/etc/key"`, everything{Key: &mtakit.KeySource{File: "/etc/key"}}},
		{`key = {key_data = "s"}`, everything{Key: &mtakit.KeySource{Data: []byte("s")}}},
		{`tls = "Required"`, everything{TLS: mtakit.TLSRequired}},
		{`health = {duration = "1h"}`, everything{Health: &mtakit.HealthRule{Duration: hour}}},
		{`health = {trigger = {Threshold = "3/min"}, duration = 3600}`, everything{Health: &mtakit.HealthRule{Threshold: mtakit.Rate{N: 3, Per: time.Minute}, Duration: hour}}},
		{`trigger = "Immediate"`, everything{}},
		{`protocol = {smtp = {mx_list = ["a:26", {name = "b", addr = "10.0.0.1"}]}}`, everything{Protocol: mtakit.Protocol{
			SMTP: &mtakit.SMTPProtocol{MXList: []mtakit.MXListEntry{{Name: "a:26"}, {Name: "b", Addr: "10.0.0.1"}}}}}},
		{`protocol = {maildir_path = "/m", dir_mode = 0o700}`, everything{Protocol: mtakit.Protocol{Maildir: &mtakit.MaildirProtocol{Path: "/m", DirMode: 0o700}}}},
		{`protocol.custom_lua = {constructor = "c", batch_size = 5}`, everything{Protocol: mtakit.Protocol{
			Custom: &mtakit.CustomProtocol{Constructor: "c", BatchSize: 5, MinBatchSize: 1}}}},
		{`protocol.xfer.target = "http://x"`, everything{Protocol: mtakit.Protocol{Xfer: &mtakit.XferProtocol{Target: "http://x"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.toml, func(t *testing.T) {
			t.Parallel()
			v, r := parse(datafile.TOML, tt.toml)
			var got everything
			if !datafile.Decode(v, &got, "", r) || r.Findings != nil {
				t.Fatal(r.Findings)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ toml, want string }{
		{`text = 1`, `f:1:8: text: expected a string, got the integer 1`},
		{`flag = "true"`, `f:1:8: flag: expected true or false, got the string "true"`},
		{`count = -1`, `f:1:9: count: expected an integer from 0, got the integer -1`},
		{`count = 1.5`, `f:1:9: count: expected an integer from 0, got the number 1.5`},
		{`port = 65536`, `f:1:8: port: expected an integer from 0 to 65535, got the integer 65536`},
		{`part = "x"`, `f:1:8: part: expected a number, got the string "x"`},
		{`list = "x"`, `f:1:8: list: expected an array, got the string "x"`},
		{`list = ["x", 1]`, `f:1:14: list: expected a string, got the integer 1`},
		{`map = {a = "x"}`, `f:1:12: map.a: expected an integer from 0, got the string "x"`},
		{`named = 1`, `f:1:9: named: expected a table, got the integer 1`},
		{`named.on = 1`, `f:1:7: unknown key named.on; did you mean in?`},
		{"conut = 1\nage = 1\ntext = 1\nUnnamed = 1", "f:1:1: unknown key conut; did you mean count?\nf:3:8: text: expected a string, got the integer 1\nf:4:1: unknown key Unnamed; did you mean named?"},
		{`age = "1 fortnight"`, `f:1:7: age: invalid value: string "1 fortnight", expected a duration: the unit "fortnight" is not known`},
		{`age = -1`, `f:1:7: age: invalid value: -1, expected a duration of seconds from 0`},
		{`age = []`, `f:1:7: age: expected a duration, got an array`},
		{`limit = 0`, `f:1:9: limit: expected a limit of 1 or larger, got the integer 0`},
		{`limit = "x"`, `f:1:9: limit: "x" is not a limit: the limit "x" is not a number`},
		{`limit = true`, `f:1:9: limit: expected a limit, got true`},
		{`rate = "5"`, `f:1:8: rate: "5" is not a rate: expected 'limit/period'`},
		{`rate = 5`, `f:1:8: rate: expected a string, got the integer 5`},
		{`rates = {a = "x"}`, `f:1:14: rates.a: "x" is not a rate: expected 'limit/period'`},
		{`limits = 1`, `f:1:10: limits: expected a table, got the integer 1`},
		{`nets = ["10.0.0.0/8", "x"]`, `f:1:23: nets: "x" is neither an address nor a network in CIDR form`},
		{`addr = ""`, `f:1:8: addr: expected an IP address, got the string ""`},
		{`key = {vault_mount = "m"}`, `f:1:7: key: a key is the path of a file or {key_data = …}; other places are not supported`},
		{`tls = "required"`, `f:1:7: tls: expected one of Opportunistic, OpportunisticInsecure, Required, RequiredInsecure, Disabled, got the string "required"`},
		{`health = {trigger = "Immediate"}`, `f:1:10: health: duration is missing`},
		{`trigger = "Never"`, `f:1:11: trigger: expected "Immediate" or {Threshold = "N/period"}, got the string "Never"`},
		{`protocol = {}`, `f:1:12: protocol: expected exactly one of smtp, maildir_path, custom_lua and xfer`},
		{`protocol = {dir_mode = 1, smtp = {}}`, `f:1:12: protocol: expected exactly one of smtp, maildir_path, custom_lua and xfer`},
		{`protocol.smtp.mx_list = ["a b"]`, `f:1:26: protocol.smtp.mx_list: "a b" is not a host name, address, or either with a port`},
		{`protocol.xfer = {}`, `f:1:17: protocol.xfer: target is missing`},
	}
	for _, tt := range tests {
		t.Run(tt.toml, func(t *testing.T) {
			t.Parallel()
			v, r := parse(datafile.TOML, tt.toml)
			var got everything
			if datafile.Decode(v, &got, "", r) {
				t.Errorf("it is good: %+v", got)
			}
			err := r.Err()
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestDecodeField(t *testing.T) {
	t.Parallel()
	v, r := parse(datafile.TOML, "max_ready = 5\nnonsense = 1\nuse_lmtp = 2")
	cfg := mtakit.DefaultPathConfig()
	var got []string
	for _, e := range v.Entries {
		known, good := datafile.DecodeField(e, &cfg, r)
		got = append(got, fmt.Sprintln(e.Key, known, good))
	}
	if want := "max_ready true true\nnonsense false false\nuse_lmtp true false\n"; strings.Join(got, "") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if cfg.MaxReady != 5 || cfg.MaxRecipientsPerBatch != 100 {
		t.Errorf("MaxReady = %d, MaxRecipientsPerBatch = %d", cfg.MaxReady, cfg.MaxRecipientsPerBatch)
	}
}

// Every field of the structs that files fill can be decoded: none panics.
func TestDecodeEveryField(t *testing.T) {
	t.Parallel()
	for _, dst := range []any{&mtakit.PathConfig{}, &mtakit.QueueSettings{}, &mtakit.Source{}} {
		for _, name := range datafile.Fields(dst) {
			r := &datafile.Report{}
			datafile.DecodeField(datafile.Entry{Key: name, Value: &datafile.Value{Kind: datafile.Time}}, dst, r)
			if r.Err() == nil {
				t.Errorf("%T: %s takes a date", dst, name)
			}
		}
	}
}
