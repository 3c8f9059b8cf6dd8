package httpapi_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi"
)

// An application mounts the API where it likes, with endpoints of its own behind the same authentication.
func Example() {
	var ids mtakit.IDSource
	api, err := httpapi.New(httpapi.Config{
		// In a real program these two are methods of a *queue.Queue.
		Submit: func(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
			for _, s := range batch {
				fmt.Println("to", s.Message.To[0], "in queue", s.Message.Queue)
			}
			return nil
		},
		NewID: func() mtakit.ID { return ids.New(epoch) },
		Generated: func(_ context.Context, s *mtakit.Submission, _ *httpapi.AuthInfo) error {
			s.Message.Meta[mtakit.MetaTenant] = "acme" // policy: tenants, signatures, refusals
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	api.Handle("GET", "/metrics", http.NotFoundHandler()) // of a metrics.Registry
	srv := httptest.NewServer(api)
	defer srv.Close()

	r, err := http.Post(srv.URL+"/api/inject/v1", "application/json", strings.NewReader(`{
		"envelope_sender": "noreply@example.com",
		"recipients": [{"email": "jane@example.net", "name": "Jane"}, {"email": "nobody"}],
		"content": {"subject": "Hi {{ name }}", "text_body": "Hello {{ name }}!"}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Body.Close()
	answer, _ := io.ReadAll(r.Body)
	fmt.Println(r.StatusCode, string(answer))
	// Output:
	// to jane@example.net in queue acme@example.net
	// 200 {"success_count":1,"fail_count":1,"failed_recipients":["nobody"],"errors":["nobody: rfc5322: \"nobody\" is not an address: there is no @ after the local part"]}
}
