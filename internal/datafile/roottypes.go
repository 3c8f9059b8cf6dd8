package datafile

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/mtakit/mtakit"
)

// enums are the root package's types of a few fixed words.
var enums = map[reflect.Type][]string{
	reflect.TypeFor[mtakit.TLSMode](): words(mtakit.TLSOpportunistic, mtakit.TLSOpportunisticInsecure, mtakit.TLSRequired,
		mtakit.TLSRequiredInsecure, mtakit.TLSDisabled),
	reflect.TypeFor[mtakit.IPLookupStrategy](): words(mtakit.IPv4Only, mtakit.IPv6Only, mtakit.IPv4AndIPv6, mtakit.IPv6ThenIPv4,
		mtakit.IPv4ThenIPv6),
	reflect.TypeFor[mtakit.ReconnectStrategy](): words(mtakit.TerminateSession, mtakit.ReconnectSameHost, mtakit.ConnectNextHost),
	reflect.TypeFor[mtakit.RefreshStrategy]():   words(mtakit.RefreshTTL, mtakit.RefreshEpoch),
	reflect.TypeFor[mtakit.WakeupStrategy]():    words(mtakit.Aggressive, mtakit.Relaxed),
	reflect.TypeFor[mtakit.ShrinkPolicy]():      words(mtakit.ShrinkDataAndMeta, mtakit.ShrinkData, mtakit.NoShrink),
}

func words[T ~string](w ...T) []string {
	s := make([]string, len(w))
	for i := range w {
		s[i] = string(w[i])
	}
	return s
}

// decodeRoot decodes types of the root package that have forms of their own in data files.
func decodeRoot(v *Value, dst reflect.Value, name string, r *Report) (known, good bool) {
	d := rootDecoder{v, name, r}
	if w := enums[dst.Type()]; w != nil {
		if v.Kind != String || !slices.Contains(w, v.Str) {
			return true, d.refuse("one of " + strings.Join(w, ", "))
		}
		dst.SetString(v.Str)
		return true, true
	}
	switch dst := dst.Addr().Interface().(type) {
	case *mtakit.Duration:
		return true, d.duration(dst)
	case *mtakit.Limit:
		return true, d.limit(dst)
	case *mtakit.NamedLimits:
		*dst = nil
		return true, d.each(func(e Entry) bool {
			n := mtakit.NamedLimit{Name: e.Key}
			good := Decode(e.Value, &n.Limit, name+"."+e.Key, r)
			*dst = append(*dst, n)
			return good
		})
	case *mtakit.NamedRates:
		*dst = nil
		return true, d.each(func(e Entry) bool {
			n := mtakit.NamedRate{Name: e.Key}
			good := Decode(e.Value, &n.Rate, name+"."+e.Key, r)
			*dst = append(*dst, n)
			return good
		})
	case *netip.Prefix:
		if v.Kind != String {
			return true, d.refuse("an address or a network")
		}
		p, err := mtakit.ParsePrefix(v.Str)
		*dst = p
		return true, d.check(err)
	case *netip.Addr:
		a, err := netip.ParseAddr(v.Str)
		if err != nil {
			return true, d.refuse("an IP address")
		}
		*dst = a
		return true, true
	case *mtakit.KeySource:
		return true, d.keySource(dst)
	case *mtakit.HealthRule:
		return true, d.healthRule(dst)
	case *mtakit.MXListEntry:
		if v.Kind == String {
			dst.Name = v.Str
			_, err := mtakit.ParseHost(v.Str)
			return true, d.check(err)
		}
		return true, d.with("name") && decodeStruct(v, reflect.ValueOf(dst).Elem(), name, r)
	case *mtakit.CustomProtocol:
		*dst = mtakit.CustomProtocol{BatchSize: 1, MinBatchSize: 1}
		return true, d.with("constructor") && decodeStruct(v, reflect.ValueOf(dst).Elem(), name, r)
	case *mtakit.XferProtocol:
		return true, d.with("target") && decodeStruct(v, reflect.ValueOf(dst).Elem(), name, r)
	case *mtakit.Protocol:
		return true, d.protocol(dst)
	case *Trigger:
		return true, d.trigger(dst)
	}
	return false, false
}

// Trigger is how KumoMTA's files write it: "Immediate", or {Threshold = RATE}. The zero Threshold is at once.
type Trigger struct{ Threshold mtakit.Rate }

type rootDecoder struct {
	v    *Value
	name string
	r    *Report
}

func (d rootDecoder) refuse(want string) bool {
	d.r.Errorf(d.v.Place, "%s: expected %s, got %s", d.name, want, d.v.What())
	return false
}

func (d rootDecoder) check(err error) bool {
	if err != nil {
		d.r.Errorf(d.v.Place, "%s: %s", d.name, strings.TrimPrefix(err.Error(), "mtakit: "))
	}
	return err == nil
}

func (d rootDecoder) each(f func(Entry) bool) bool {
	if d.v.Kind != Table {
		return d.refuse("a table")
	}
	good := true
	for _, e := range d.v.Entries {
		good = f(e) && good
	}
	return good
}

func (d rootDecoder) duration(dst *mtakit.Duration) (good bool) {
	var err error
	switch d.v.Kind {
	case String:
		*dst, err = mtakit.ParseDuration(d.v.Str)
	case Int:
		*dst, err = mtakit.SecondsDuration(float64(d.v.Int))
	case Float:
		*dst, err = mtakit.SecondsDuration(d.v.Float)
	default:
		return d.refuse("a duration")
	}
	return d.check(err)
}

func (d rootDecoder) limit(dst *mtakit.Limit) bool {
	var err error
	switch d.v.Kind {
	case String:
		*dst, err = mtakit.ParseLimit(d.v.Str)
		return d.check(err)
	case Int:
		dst.N = int(d.v.Int)
	case Table:
		var t struct {
			Limit      int  `json:"limit"`
			ForceLocal bool `json:"force_local"`
		}
		if !Decode(d.v, &t, d.name, d.r) {
			return false
		}
		*dst = mtakit.Limit{N: t.Limit, Local: t.ForceLocal}
	default:
		return d.refuse("a limit")
	}
	if dst.N < 1 {
		return d.refuse("a limit of 1 or larger")
	}
	return true
}

func (d rootDecoder) keySource(dst *mtakit.KeySource) bool {
	if d.v.Kind == String {
		dst.File = d.v.Str
		return true
	}
	data := d.v.Get("key_data")
	if data == nil || data.Kind != String || len(d.v.Entries) != 1 {
		d.r.Errorf(d.v.Place, "%s: a key is the path of a file or {key_data = …}; other places are not supported", d.name)
		return false
	}
	dst.Data = []byte(data.Str)
	return true
}

// with says whether the value is a table with that key.
func (d rootDecoder) with(key string) bool {
	if d.v.Kind != Table {
		return d.refuse("a table")
	}
	if d.v.Get(key) == nil {
		d.r.Errorf(d.v.Place, "%s: %s is missing", d.name, key)
		return false
	}
	return true
}

func (d rootDecoder) trigger(dst *Trigger) bool {
	*dst = Trigger{}
	if d.v.Kind == String && d.v.Str == "Immediate" {
		return true
	}
	if d.v.Kind != Table || len(d.v.Entries) != 1 || d.v.Get("Threshold") == nil {
		return d.refuse(`"Immediate" or {Threshold = "N/period"}`)
	}
	return Decode(d.v.Get("Threshold"), &dst.Threshold, d.name+".Threshold", d.r)
}

func (d rootDecoder) healthRule(dst *mtakit.HealthRule) bool {
	var t struct {
		Trigger  Trigger         `json:"trigger"`
		Duration mtakit.Duration `json:"duration"`
	}
	if !d.with("duration") || !Decode(d.v, &t, d.name, d.r) {
		return false
	}
	*dst = mtakit.HealthRule{Threshold: t.Trigger.Threshold, Duration: t.Duration}
	return true
}

// protocol reads the four shapes of a queue's protocol; that of a maildir has no wrapping key in files.
func (d rootDecoder) protocol(dst *mtakit.Protocol) bool {
	var t struct {
		SMTP     *mtakit.SMTPProtocol   `json:"smtp"`
		Custom   *mtakit.CustomProtocol `json:"custom_lua"`
		Xfer     *mtakit.XferProtocol   `json:"xfer"`
		Path     string                 `json:"maildir_path"`
		DirMode  uint32                 `json:"dir_mode"`
		FileMode uint32                 `json:"file_mode"`
	}
	if !Decode(d.v, &t, d.name, d.r) {
		return false
	}
	*dst = mtakit.Protocol{SMTP: t.SMTP, Custom: t.Custom, Xfer: t.Xfer}
	n := 0
	for _, set := range [...]bool{t.SMTP != nil, t.Custom != nil, t.Xfer != nil, t.Path != ""} {
		if set {
			n++
		}
	}
	if t.Path != "" {
		dst.Maildir = &mtakit.MaildirProtocol{Path: t.Path, DirMode: t.DirMode, FileMode: t.FileMode}
	} else if t.DirMode != 0 || t.FileMode != 0 {
		n = 0
	}
	if n != 1 {
		d.r.Errorf(d.v.Place, "%s: expected exactly one of smtp, maildir_path, custom_lua and xfer", d.name)
	}
	return n == 1
}
