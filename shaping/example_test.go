package shaping_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/shaping"
)

func Example() {
	dir, err := os.MkdirTemp("", "shaping")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "shaping.toml")
	if err := os.WriteFile(file, []byte(`
[default]
connection_limit = 10

["dest.example"]
max_message_rate = "50/s"
sources."ip-1".connection_limit = 2
`), 0o600); err != nil {
		panic(err)
	}
	router := mtakit.RouterFunc(func(_ context.Context, domain string) (*mtakit.Site, error) {
		return &mtakit.Site{Name: "mx." + domain, Hosts: []mtakit.Host{{Name: "mx." + domain}}}, nil
	})

	ctx := context.Background()
	s, err := shaping.Load(ctx, shaping.Config{Files: []string{file}, Router: router})
	if err != nil {
		fmt.Println(err) // FILE:LINE:COL: text, for everything that is wrong
		return
	}
	site, _ := router.Route(ctx, "dest.example")
	path, _ := s.Path(ctx, "dest.example", "ip-1", site)
	fmt.Println("connections:", path.ConnectionLimit, "messages:", path.MaxMessageRate)

	why, _ := s.Explain(ctx, "dest.example", "ip-1", site)
	fmt.Printf("%s = %s, line %d: %s\n", why[0].Option, why[0].Value, why[0].Place.Line, why[0].By)
	// Output:
	// connections: 2 messages: 50/s
	// connection_limit = {"limit":2,"force_local":false}, line 7: site mx.dest.example source ip-1
}
