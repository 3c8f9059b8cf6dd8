package route

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestResolvConf(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	written := time.Now()
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		written = written.Add(time.Second)
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := &servers{path: path}
		want := func(step string, want ...string) {
			t.Helper()
			if got, err := s.current(); !slices.Equal(got, want) || (err != nil) != (want == nil) {
				t.Errorf("%s: %v, %v, want %v", step, got, err, want)
			}
		}
		want("no file")
		write("# nothing\n")
		want("no server is the one on this machine", "127.0.0.1:53")
		write("search a.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions timeout:1\n")
		want("too early to look", "127.0.0.1:53")
		<-time.After(5 * time.Second)
		want("changed", "192.0.2.1:53", "[2001:db8::1]:53")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * time.Second)
		want("gone", "192.0.2.1:53", "[2001:db8::1]:53")
	})
}
