package authfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/authfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cheap is a hash that takes no time.
func cheap(password string) string {
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return string(h)
}

func write(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// replace puts another file in place of the one there is, which is not seen half written.
func replace(t *testing.T, file, text string) {
	t.Helper()
	if err := os.Rename(write(t, text), file); err != nil {
		t.Fatal(err)
	}
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	htpasswd := strings.Replace(cheap("from htpasswd"), "$2a$", "$2y$", 1)
	u, err := authfile.Load(write(t, "# people\n\nann:"+cheap("secret")+"\r\nbob:"+htpasswd+"\njörg@example.com:{PLAIN}in: clear \n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, authz, authn, password string
		ok                           bool
	}{
		{"right", "", "ann", "secret", true},
		{"right again", "", "ann", "secret", true},
		{"right, for oneself", "ann", "ann", "secret", true},
		{"for another", "bob", "ann", "secret", false},
		{"wrong after right", "", "ann", "secret2", false},
		{"empty", "", "ann", "", false},
		{"of another", "", "bob", "secret", false},
		{"htpasswd", "", "bob", "from htpasswd", true},
		{"in clear", "", "jörg@example.com", "in: clear ", true},
		{"in clear, wrong", "", "jörg@example.com", "in: clear", false},
		{"in clear, with the mark", "", "jörg@example.com", "{PLAIN}in: clear ", false},
		{"the hash itself", "", "bob", htpasswd, false},
		{"nobody", "", "eve", "secret", false},
		{"nobody, with the decoy's password", "", "eve", "from htpasswd", false},
		{"nobody again", "", "eve", "from htpasswd", false},
		{"no name", "", "", "", false},
	} {
		id, err := u.Authenticate(t.Context(), c.authz, c.authn, c.password)
		switch {
		case c.ok && (err != nil || *id != mtakit.Identity{Authn: c.authn, Authz: c.authn}):
			t.Errorf("%s: %v, %v", c.name, id, err)
		case !c.ok && !errors.Is(err, mtakit.ErrBadCredentials):
			t.Errorf("%s: %v, %v", c.name, id, err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	defer authfile.Occupy(u)()
	if _, err := u.Authenticate(ended, "", "ann", "secret"); err != nil {
		t.Errorf("a known password needs no waiting: %v", err)
	}
	if _, err := u.Authenticate(ended, "", "ann", "secret2"); !errors.Is(err, context.Canceled) {
		t.Errorf("one that has to wait, for a client that has gone: %v", err)
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	good := cheap("x")
	for _, c := range []struct{ name, file, want string }{
		{"good", "ann:" + good, ""},
		{"empty", "", ""},
		{"no colon", "# c\nann\n", "users:2: error: expected NAME:HASH"},
		{"no name", ":" + good, "users:1: error: the name is not 1 to 255 printable characters"},
		{"space around", " ann:" + good, "users:1: error: the name is not 1 to 255 printable characters"},
		{"control", "a\tb:" + good, "users:1: error: the name is not 1 to 255 printable characters"},
		{"no UTF-8", "\xff:" + good, "users:1: error: the name is not 1 to 255 printable characters"},
		{"long", strings.Repeat("a", 256) + ":" + good, "users:1: error: the name is not 1 to 255 printable characters"},
		{"twice", "ann:" + good + "\nann:" + good, "users:2: error: ann is in line 1, too"},
		{"in clear by mistake", "ann:hunter2", "users:1: error: ann: expected a hash of bcrypt, as htpasswd -nB prints it, or {PLAIN} and a password"},
		{"another hash", "ann:$apr1$x$y", "users:1: error: ann: expected a hash of bcrypt, as htpasswd -nB prints it, or {PLAIN} and a password"},
		{"cost", "ann:" + strings.Replace(good, "$04$", "$16$", 1), "users:1: error: ann: the hash has cost 16, which takes too long; at most 15"},
		{"in clear", "ann:{PLAIN}hunter2", "users:1: warning: the password is in clear"},
		{"many in clear", "x:" + good + "\nann:{PLAIN}hunter2\nbob:{PLAIN}hunter2\n!", "users:2: warning: the password is in clear; so are 1 more\nusers:4: error: expected NAME:HASH"},
		{"in clear and empty", "ann:{PLAIN}", "users:1: error: ann: the password is empty or not UTF-8"},
		{"all of them", "x\ny\n", "users:1: error: expected NAME:HASH\nusers:2: error: expected NAME:HASH"},
	} {
		file := write(t, c.file)
		var got []string
		for _, f := range authfile.Check(file) {
			f.File = filepath.Base(f.File)
			got = append(got, f.String())
		}
		if strings.Join(got, "\n") != c.want {
			t.Errorf("%s: got  %s\nwant %s", c.name, strings.Join(got, "\n"), c.want)
		}
		if _, err := authfile.Load(file); (err != nil) != strings.Contains(c.want, "error") {
			t.Errorf("%s: Load: %v", c.name, err)
		}
		if strings.Contains(strings.Join(got, ""), "hunter2") {
			t.Errorf("%s: the password is told", c.name)
		}
	}
	if f := authfile.Check(filepath.Join(t.TempDir(), "none")); f.Err() == nil {
		t.Error("a file that isn't there is no error")
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	line, err := authfile.Line("ann", "secret")
	if err != nil {
		t.Fatal(err)
	}
	u, err := authfile.Load(write(t, line))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Authenticate(t.Context(), "", "ann", "secret"); err != nil {
		t.Error(err)
	}
	for _, bad := range [][2]string{{"", "x"}, {"a:b", "x"}, {"#a", "x"}, {"a\nb", "x"}, {"a", ""}, {"a", strings.Repeat("x", 73)}} {
		if line, err := authfile.Line(bad[0], bad[1]); err == nil {
			t.Errorf("%q: %s", bad, line)
		}
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	file := write(t, "ann:"+cheap("old"))
	told := make(chan error, 4)
	l, err := authfile.Watch(t.Context(), file, func(_ *authfile.Users, err error) { told <- err })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	replace(t, file, "ann:"+cheap("new"))
	if err := <-told; err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	try := func(password string) error {
		_, err := l.Authenticate(t.Context(), "", "ann", password)
		return err
	}
	if err := errors.Join(try("new")); err != nil || try("old") == nil {
		t.Errorf("%v; the old password is taken: %v", err, try("old") == nil)
	}
	replace(t, file, "ann")
	if err := l.Reload(t.Context()); err == nil {
		t.Error("a bad file was taken")
	}
	if err := <-told; err == nil {
		t.Error("nobody was told of a bad file")
	}
	if try("new") != nil {
		t.Error("the last good version is not in force")
	}
}

// FuzzCheck: whatever is in a file, if it is good, everybody whose password is in clear can log in.
func FuzzCheck(f *testing.F) {
	f.Add("ann:{PLAIN}x\n")
	f.Add("# c\r\nann:$2y$10$abc")
	f.Fuzz(func(t *testing.T, text string) {
		file := write(t, text)
		u, err := authfile.Load(file)
		if err != nil {
			return
		}
		for line := range strings.Lines(text) {
			name, password, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":{PLAIN}")
			if !ok || strings.ContainsAny(name, ":") || strings.HasPrefix(name, "#") {
				continue
			}
			if _, err := u.Authenticate(t.Context(), "", name, password); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	u, err := authfile.Load(write(b, "ann:"+cheap("secret")))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Authenticate(b.Context(), "", "ann", "secret"); err != nil {
			b.Fatal(err)
		}
	}
}
