package sourcefile_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mtakit/mtakit/shaping/sourcefile"
)

func Example() {
	dir, err := os.MkdirTemp("", "sources")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "sources.toml")
	if err := os.WriteFile(file, []byte(`
[source."ip-1"]
source_address = "192.0.2.1"
[source."ip-2"]
source_address = "192.0.2.2"
[pool.warm."ip-1"]
weight = 2
[pool.warm."ip-2"]
`), 0o600); err != nil {
		panic(err)
	}
	s, err := sourcefile.Load([]string{file})
	if err != nil {
		fmt.Println(err) // FILE:LINE:COL: text, for everything that is wrong
		return
	}
	pool, _ := s.Pool(context.Background(), "warm")
	for _, e := range pool.Entries {
		source, _ := s.Source(context.Background(), e.Name)
		fmt.Println(source.Name, source.SourceAddress, e.Weight)
	}
	// Output:
	// ip-1 192.0.2.1 2
	// ip-2 192.0.2.2 1
}
