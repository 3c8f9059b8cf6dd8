package authfile

import (
	"context"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// Live is the content of a file that changes: the last version of it that was good. It is safe for concurrent use, and a [mtakit.Authenticator].
type Live struct{ w *datafile.Watched[*Users] }

// Watch loads the file, as [Load] does. tell, unless nil, is called from Run and Reload: with each new version once it is in force, or with the error of
// one that is not used.
func Watch(ctx context.Context, file string, tell func(*Users, error)) (*Live, error) {
	w, err := datafile.Open(ctx, datafile.Watch[*Users]{
		Files: []string{file},
		Load:  func(context.Context) (*Users, error) { return Load(file) },
		Tell:  tell,
	})
	if err != nil {
		return nil, err
	}
	return &Live{w}, nil
}

// Run loads the file again when it changes, until ctx ends; it returns nil.
func (l *Live) Run(ctx context.Context) error { return l.w.Run(ctx) }

// Reload loads the file now. With an error the old version stays.
func (l *Live) Reload(ctx context.Context) error { return l.w.Reload(ctx) }

// Current is the version in force.
func (l *Live) Current() *Users { return l.w.Current() }

// Authenticate is [Users.Authenticate] of the version in force.
func (l *Live) Authenticate(ctx context.Context, authz, authn, password string) (*mtakit.Identity, error) {
	return l.Current().Authenticate(ctx, authz, authn, password)
}
