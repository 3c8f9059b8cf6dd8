package mtakit_test

import (
	"encoding/json"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/mtakit/mtakit"
)

func TestBytes(t *testing.T) {
	t.Parallel()
	body := mtakit.Bytes("Subject: hi\r\n\r\nhello\r\n")
	if err := iotest.TestReader(io.NewSectionReader(body, 0, body.Size()), body); err != nil {
		t.Error(err)
	}
	if _, err := body.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("ReadAt takes a negative offset")
	}
	if c := body.Chunks(nil); len(c) != 1 || string(c[0]) != string(body) || body.Close() != nil {
		t.Errorf("Chunks = %q", c)
	}
}

func TestDomain(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{"a@b": "b", `"x@y"@B`: "B", "a": "", "": "", "a@": ""} {
		if got := mtakit.Domain(address); got != want {
			t.Errorf("Domain(%q) = %q, want %q", address, got, want)
		}
	}
}

func TestCounter(t *testing.T) {
	t.Parallel()
	var c mtakit.Counter
	c.Add(5)
	c.Inc()
	c.Dec()
	if c.Value() != 5 {
		t.Errorf("Value = %d", c.Value())
	}
	if c.Set(-1); c.Value() != -1 {
		t.Errorf("Value = %d", c.Value())
	}
}

func TestHistogram(t *testing.T) {
	h := mtakit.NewHistogram(0.5, 1, 2)
	for _, d := range []time.Duration{0, 500 * time.Millisecond, 501 * time.Millisecond, time.Second, 3 * time.Second, 4 * time.Second} {
		h.Observe(d)
	}
	bounds, cumulative, count, sum := h.Snapshot()
	if len(bounds) != 3 || cumulative[0] != 2 || cumulative[1] != 4 || cumulative[2] != 4 || count != 6 || sum != 9.001 {
		t.Errorf("Snapshot = %v, %v, %d, %v", bounds, cumulative, count, sum)
	}
	if bounds, _, _, _ := mtakit.NewHistogram().Snapshot(); len(bounds) != len(mtakit.DefaultBuckets) {
		t.Errorf("the default bounds are %v", bounds)
	}
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Second) }); n != 0 {
		t.Errorf("Observe allocates %v times", n)
	}
}

func TestStrings(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		mtakit.Durable.String(): "durable", mtakit.Volatile.String(): "volatile", mtakit.Durability(9).String(): "volatile",
		mtakit.GaugeType.String():                                                         "gauge",
		(&mtakit.Delay{For: time.Minute, Reason: "busy"}).Error():                         "delayed by 1m0s: busy",
		(&mtakit.Reject{Response: mtakit.Response{Code: 550, Text: "no"}}).Error():        "550 no",
		(&mtakit.PathError{Response: mtakit.Response{Code: 451, Text: "x"}}).Error():      "451 x",
		(mtakit.Protocol{}).ReadySuffix():                                                 "smtp_client",
		(mtakit.Protocol{Maildir: &mtakit.MaildirProtocol{Path: "m"}}).ReadySuffix():      "maildir:m",
		(mtakit.Protocol{Custom: &mtakit.CustomProtocol{Constructor: "c"}}).ReadySuffix(): "lua:c",
		(mtakit.Protocol{Xfer: &mtakit.XferProtocol{}}).MetricsName():                     "xfer",
		(mtakit.Protocol{Internal: "httpinject:generator"}).MetricsName():                 "httpinject",
		(mtakit.Protocol{Internal: "httpinject:generator"}).ReadySuffix():                 "httpinject:generator",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestQueueSettingsJSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(mtakit.DefaultQueueSettings())
	const want = `{"retry_interval":"20m","max_age":"7days","protocol":{},"reap_interval":"10m","refresh_interval":"1m","refresh_strategy":"Ttl",` +
		`"strategy":"SingletonTimerWheel"}`
	if err != nil || string(b) != want {
		t.Errorf("the defaults are written as\n%s, %v, want\n%s", b, err, want)
	}
	const all = `{"retry_interval":"1m","max_retry_interval":"4h","max_age":"1day","egress_pool":"p","max_message_rate":"10/s",` +
		`"protocol":{"smtp":{"mx_list":[{"name":"a","addr":"10.0.0.1:25"}]}},"reap_interval":"10m","refresh_interval":"1m","refresh_strategy":"Epoch",` +
		`"strategy":"TimerWheel","timerwheel_tick_interval":"3s","provider_name":"x","shrink_policy":[{"interval":"1h","policy":"ShrinkData"}]}`
	var s mtakit.QueueSettings
	if err := json.Unmarshal([]byte(all), &s); err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(s); err != nil || string(b) != all {
		t.Errorf("written as\n%s, %v, was\n%s", b, err, all)
	}
}
