// Package authfile reads the file of users who may log in with a password, over SMTP and HTTP: a [mtakit.Authenticator].
//
//	# name:hash, one user a line
//	ann:$2y$10$0ZtX1WcVt7Zsw4mGLqCn5e4TtT5wM1QeKcJ0ZrhnWm8Wv5m6lGf2a
//	robot:{PLAIN}in clear, and said so
//
// A hash is bcrypt's, as htpasswd -nB or [Line] write it. What is wrong with a file is told as FILE:LINE: text ([mtakit.Findings]), without secrets.
//
// A [Users] does not change and starts no goroutine; [Live.Run] is the caller's.
package authfile

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

const (
	plain   = "{PLAIN}"
	maxName = 255
	maxCost = 15 // a second and a half for each login, and nobody has more time than that
)

// Users is the content of a file. It is safe for concurrent use, and a [mtakit.Authenticator].
type Users struct {
	secrets  map[string]string
	decoy    string // a hash, for users who don't exist
	findings mtakit.Findings

	// Hashes are made to take long. At most so many are computed at once, and a password that was right once is known by a hash that is quick.
	slots  chan struct{}
	salt   [sha256.Size]byte
	mu     sync.Mutex
	proven map[string][sha256.Size]byte
}

// Load reads a file. Its error is [mtakit.Findings], with everything that is wrong.
func Load(file string) (*Users, error) {
	u := read(file)
	if err := u.findings.Err(); err != nil {
		return nil, err
	}
	return u, nil
}

// Check is Load for those who want to know of warnings too.
func Check(file string) mtakit.Findings { return read(file).findings }

// Findings are the warnings of Load: passwords in clear.
func (u *Users) Findings() mtakit.Findings { return u.findings }

func read(file string) *Users {
	u := &Users{secrets: make(map[string]string), slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), proven: make(map[string][sha256.Size]byte)}
	rand.Read(u.salt[:])
	r := &datafile.Report{}
	b, err := datafile.ReadFile(file)
	if err != nil {
		r.Errorf(mtakit.Place{File: file}, "%v", datafile.Reason(err))
	}
	lines := make(map[string]int)
	var clear []mtakit.Place
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		at := mtakit.Place{File: file, Line: n}
		name, secret, ok := strings.Cut(line, ":")
		switch {
		case !ok:
			r.Errorf(at, "expected NAME:HASH")
		case !validName(name):
			r.Errorf(at, "the name is not 1 to %d printable characters", maxName)
		case lines[name] > 0:
			r.Errorf(at, "%s is in line %d, too", name, lines[name])
		default:
			lines[name] = n
			u.add(at, name, secret, &clear, r)
		}
	}
	switch len(clear) {
	case 0:
	case 1:
		r.Warnf(clear[0], "the password is in clear")
	default:
		r.Warnf(clear[0], "the password is in clear; so are %d more", len(clear)-1)
	}
	r.Sort([]string{file})
	u.findings = r.Findings
	return u
}

func (u *Users) add(at mtakit.Place, name, secret string, clear *[]mtakit.Place, r *datafile.Report) {
	if password, ok := strings.CutPrefix(secret, plain); ok {
		if password == "" || !utf8.ValidString(password) {
			r.Errorf(at, "%s: the password is empty or not UTF-8", name)
			return
		}
		u.secrets[name] = secret
		*clear = append(*clear, at)
		return
	}
	cost, err := bcrypt.Cost([]byte(secret))
	switch {
	case err != nil:
		r.Errorf(at, "%s: expected a hash of bcrypt, as htpasswd -nB prints it, or %s and a password", name, plain)
	case cost > maxCost:
		r.Errorf(at, "%s: the hash has cost %d, which takes too long; at most %d", name, cost, maxCost)
	default:
		u.secrets[name], u.decoy = secret, secret
	}
}

func validName(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, unicode.IsControl)
}

// Authenticate implements [mtakit.Authenticator]. Nobody acts on behalf of another. It may wait for others whose passwords are being checked.
func (u *Users) Authenticate(ctx context.Context, authz, authn, password string) (*mtakit.Identity, error) {
	secret, known := u.secrets[authn]
	if !known {
		secret = u.decoy // takes the same time, so that names can't be found out
	}
	ok, err := u.matches(ctx, authn, secret, password)
	switch {
	case err != nil:
		return nil, err
	case !ok || !known || authz != "" && authz != authn:
		return nil, mtakit.ErrBadCredentials
	}
	return &mtakit.Identity{Authn: authn, Authz: authn}, nil
}

func (u *Users) matches(ctx context.Context, name, secret, password string) (bool, error) {
	sum := u.sum(password)
	if clear, ok := strings.CutPrefix(secret, plain); ok {
		want := u.sum(clear)
		return subtle.ConstantTimeCompare(sum[:], want[:]) == 1, nil
	}
	u.mu.Lock()
	proven, ok := u.proven[name]
	u.mu.Unlock()
	if ok && subtle.ConstantTimeCompare(sum[:], proven[:]) == 1 {
		return true, nil
	}
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	err := bcrypt.CompareHashAndPassword([]byte(secret), []byte(password))
	if err == nil && u.secrets[name] == secret {
		u.mu.Lock()
		u.proven[name] = sum
		u.mu.Unlock()
	}
	return err == nil, nil
}

func (u *Users) sum(password string) [sha256.Size]byte {
	h := sha256.New()
	h.Write(u.salt[:])
	h.Write([]byte(password))
	return [sha256.Size]byte(h.Sum(nil))
}

// Line is a line for the file, without its end. The password has 1 to 72 bytes, which is what bcrypt looks at.
func Line(name, password string) (string, error) {
	switch {
	case !validName(name) || strings.Contains(name, ":") || name[0] == '#':
		return "", fmt.Errorf("authfile: a name is 1 to %d printable characters without a colon, and doesn't begin with #", maxName)
	case password == "":
		return "", errors.New("authfile: the password is empty")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return "", fmt.Errorf("authfile: %w", err)
	}
	return name + ":" + string(hash), nil
}
