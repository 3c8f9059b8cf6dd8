package authfile_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mtakit/mtakit/authfile"
)

func Example() {
	dir, err := os.MkdirTemp("", "users")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	line, err := authfile.Line("ann", "correct horse")
	if err != nil {
		panic(err)
	}
	file := filepath.Join(dir, "users")
	if err := os.WriteFile(file, []byte("# who may send\n"+line+"\n"), 0o600); err != nil {
		panic(err)
	}
	users, err := authfile.Load(file)
	if err != nil {
		fmt.Println(err) // FILE:LINE: text, for everything that is wrong
		return
	}
	id, err := users.Authenticate(context.Background(), "", "ann", "correct horse")
	fmt.Println(id.Authn, err)
	_, err = users.Authenticate(context.Background(), "", "ann", "battery staple")
	fmt.Println(err)
	// Output:
	// ann <nil>
	// mtakit: bad credentials
}
