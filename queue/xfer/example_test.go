package xfer_test

import (
	"fmt"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/xfer"
)

// A policy that sends a message to another node rather than trying it again here: what it had is in its metadata meanwhile.
func ExampleRedirect() {
	m := &mtakit.Message{To: []string{"user@example.com"}, Meta: map[string]any{"tenant": "acme"}, Tries: 3}
	if err := xfer.Redirect(m, "http://10.0.0.2:8000"); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Queue, m.Tries)
	if err := xfer.Restore(m); err != nil { // as the other node does
		fmt.Println(err)
		return
	}
	fmt.Println(m.Queue, m.Tries)
	// Output:
	// http://10.0.0.2:8000/.xfer.kumomta.internal 0
	// acme@example.com 3
}
