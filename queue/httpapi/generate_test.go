package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi"
)

// deferred injects a request for later and returns the message that stands for it, as it comes out of a spool.
func deferred(t *testing.T, api *httpapi.API, o *outbox, body string) (*mtakit.Message, mtakit.Body) {
	t.Helper()
	r := inject(api, body)
	if got := bodyOf(t, r); r.StatusCode != 200 || got != `{"success_count":0,"fail_count":0,"failed_recipients":[],"errors":[]}` {
		t.Fatalf("%d %s", r.StatusCode, got)
	}
	m := *o.messages[0]
	b, err := json.Marshal(m.Meta)
	if err != nil {
		t.Fatal(err)
	}
	m.Meta = nil
	if err := json.Unmarshal(b, &m.Meta); err != nil {
		t.Fatal(err)
	}
	text := o.texts[0]
	o.messages, o.texts, o.modes = nil, nil, nil
	return &m, mtakit.Bytes(text)
}

func generate(t *testing.T, ctx context.Context, api *httpapi.API, m *mtakit.Message, b mtakit.Body) (mtakit.Response, error) {
	t.Helper()
	s, err := api.Generator().Connect(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if info := s.Info(); info.Protocol != "HttpInjectionGenerator" || len(info.ID) != 36 {
		t.Errorf("info is %+v", info)
	}
	d := mtakit.Delivery{Message: m, Body: b, Rcpts: []int{0}}
	if err := s.Send(ctx, &d, nil); err != nil {
		return mtakit.Response{}, err
	}
	return d.Results[0].Response, nil
}

func TestDeferredGeneration(t *testing.T) {
	t.Parallel()
	api, o := newAPI(t, nil)
	m, b := deferred(t, api, o, strings.Replace(minimal, "{", `{ "deferred_generation" : true ,`, 1))
	want := map[string]any{
		"queue": "generator.kumomta.internal", "http_auth": "127.0.0.1", "reception_protocol": "HTTP", "received_from": "127.0.0.1",
		"auth_info": map[string]any{"peer_address": "127.0.0.1", "identities": []any{}, "groups": []any{httpapi.TrustedGroup}},
	}
	if !reflect.DeepEqual(m.Meta, want) || m.Sender != "noreply@example.com" || !reflect.DeepEqual(m.To, []string{""}) {
		t.Errorf("%+v", m)
	}
	if q, err := m.DeriveQueue(); err != nil || q.String() != httpapi.GeneratorQueue {
		t.Errorf("queue %v, %v", q, err)
	}
	if got := string(b.(mtakit.Bytes)); got != strings.Replace(minimal, "{", `{ "deferred_generation" : false ,`, 1) {
		t.Errorf("%s", got)
	}
	r, err := generate(t, t.Context(), api, m, b)
	if err != nil || r.String() != "250 ok" {
		t.Fatalf("%v, %v", r, err)
	}
	meta := map[string]any{"http_auth": "127.0.0.1", "reception_protocol": "HTTP", "received_from": "127.0.0.1", "extra": map[string]any{"job": "42"}}
	if len(o.messages) != 1 || !reflect.DeepEqual(o.messages[0].Meta, meta) || !strings.HasSuffix(o.texts[0], "\r\n\r\nHello Bee\r\n") {
		t.Errorf("%+v\n%s", o.messages[0], o.texts[0])
	}
}

func TestGeneratorFails(t *testing.T) {
	t.Parallel()
	api, o := newAPI(t, nil)
	m, _ := deferred(t, api, o, strings.Replace(minimal, "{", `{"deferred_generation":true,`, 1))
	for body, want := range map[string]string{
		"nonsense":              "500 Failed to parse the request body as JSON: ",
		`{"envelope_sender":1}`: "500 Failed to deserialize the JSON body",
		`{"envelope_sender":"nobody","recipients":[],"content":""}`:        "500 envelope_sender: ",
		`{"envelope_sender":"","recipients":[],"content":"{{"}`:            "500 failed parsing field 'content' as template: ",
		`{"envelope_sender":"","recipients":[{"email":"x"}],"content":""}`: "250 ok",
	} {
		if r, err := generate(t, t.Context(), api, m, mtakit.Bytes(body)); err != nil || !strings.HasPrefix(r.String(), want) {
			t.Errorf("%s: %v, %v, want %s", body, r, err, want)
		}
	}
}

// A generation that the spool interrupts goes on where it was.
func TestGeneratorGoesOn(t *testing.T) {
	t.Parallel()
	updates := 0
	var trouble httpapi.Trouble
	api, o := newAPI(t, func(c *httpapi.Config) {
		c.Update = func(_ context.Context, m *mtakit.Message) error { updates++; return nil }
		c.Trouble = func() httpapi.Trouble { return trouble }
	})
	const n = 1000
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`{"email":"r%d@x.example"}`, i))
	}
	m, b := deferred(t, api, o, `{"envelope_sender":"","deferred_generation":true,"recipients":[`+strings.Join(list, ",")+`],"content":{"text_body":"x"}}`)
	trouble = httpapi.Full
	if r, err := generate(t, t.Context(), api, m, b); err != nil || r.String() != "451 4.3.0 KumoMTA internal: disk is too full" {
		t.Errorf("%v, %v", r, err)
	}
	trouble = 0
	o.fail = func(batch []mtakit.Submission) error {
		if batch[0].Message.To[0] == "r512@x.example" {
			return mtakit.ErrSpoolFull
		}
		return nil
	}
	if r, err := generate(t, t.Context(), api, m, b); err != nil || !r.Temporary() || len(o.messages) != 512 || updates != 1 {
		t.Fatalf("%v, %v, %d messages, %d updates", r, err, len(o.messages), updates)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.fail = func(batch []mtakit.Submission) error {
		if len(o.messages) > 512 {
			cancel()
			return ctx.Err()
		}
		return nil
	}
	if _, err := generate(t, ctx, api, m, b); !errors.Is(err, context.Canceled) || len(o.messages) != 768 || updates != 2 {
		t.Fatalf("%v, %d messages, %d updates", err, len(o.messages), updates)
	}
	o.fail = nil
	if r, err := generate(t, t.Context(), api, m, b); err != nil || !r.OK() || len(o.messages) != n {
		t.Fatalf("%v, %v, %d messages", r, err, len(o.messages))
	}
	for i, m := range o.messages {
		if m.To[0] != fmt.Sprintf("r%d@x.example", i) {
			t.Fatalf("message %d is to %s", i, m.To)
		}
	}
}
