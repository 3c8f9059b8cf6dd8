package queuefile_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/shaping/queuefile"
)

func Example() {
	dir, err := os.MkdirTemp("", "queues")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "queues.toml")
	if err := os.WriteFile(file, []byte(`
tenant_header = "X-Tenant"
remove_tenant_header = true

[tenant.acme]
egress_pool = "pool-a"

[queue.default]
max_age = "24 hours"
`), 0o600); err != nil {
		panic(err)
	}
	q, err := queuefile.Load(queuefile.Config{Files: []string{file}})
	if err != nil {
		fmt.Println(err) // FILE:LINE:COL: text, for everything that is wrong
		return
	}

	m := &mtakit.Message{To: []string{"user@dest.example"}}
	header := func(name string) (string, bool) { return "acme", name == "X-Tenant" } // (rfc5322.Header).Text
	remove, err := q.Apply(m, header)
	if err != nil {
		fmt.Println(err) // a *mtakit.Reject
		return
	}
	name, _ := m.DeriveQueue()
	s, _ := q.Settings(context.Background(), name)
	fmt.Println(name, remove, s.EgressPool, s.MaxAge)
	// Output:
	// acme@dest.example [X-Tenant] pool-a 1day
}
