package mtakit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

func TestSettingsOf(t *testing.T) {
	t.Parallel()
	c := mtakit.DefaultPathConfig()
	c.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "a.b", Limit: mtakit.Limit{N: 3, Local: true}}}
	c.AdditionalMessageRateThrottles = mtakit.NamedRates{{Name: "r", Rate: mtakit.Rate{N: 1, Per: time.Hour}}}
	c.AuthPlainPassword = &mtakit.KeySource{Data: []byte("secret")}
	all, err := mtakit.SettingsOf(&c)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []mtakit.Setting{
		{Option: "connection_limit", Value: `{"limit":32,"force_local":false}`}, {Option: "additional_connection_limits.a.b", Value: `"local:3"`},
		{Option: "additional_message_rate_throttles.r", Value: `"1/h"`}, {Option: "connect_timeout", Value: `"1m"`}, {Option: "use_lmtp", Value: "false"},
		{Option: "smtp_auth_plain_password", Value: `{"key_data":"(hidden)"}`},
	} {
		if !slices.Contains(all, want) {
			t.Errorf("%+v is missing", want)
		}
	}
	for _, s := range all {
		switch s.Option {
		case "max_message_rate", "ehlo_domain", "additional_source_selection_rates":
			t.Errorf("%s is not set", s.Option)
		}
	}
	q := mtakit.DefaultQueueSettings()
	if all, err = mtakit.SettingsOf(&q); err != nil || all[0] != (mtakit.Setting{Option: "retry_interval", Value: `"20m"`}) {
		t.Error(all, err)
	}
}
