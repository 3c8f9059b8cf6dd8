package sourcefile

import (
	"context"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// Live is the content of files that change: the last version of them that was good. It is safe for concurrent use.
type Live struct{ w *datafile.Watched[*Sources] }

// Watch loads the files, as [Load] does. tell, unless nil, is called from Run and Reload: with each new version once it is in force, or
// with the error of one that is not used.
func Watch(ctx context.Context, files []string, tell func(*Sources, error)) (*Live, error) {
	w, err := datafile.Open(ctx, datafile.Watch[*Sources]{
		Files: files,
		Load:  func(context.Context) (*Sources, error) { return Load(files) },
		Tell:  tell,
	})
	if err != nil {
		return nil, err
	}
	return &Live{w}, nil
}

// Run loads the files again when they change, until ctx ends; it returns nil.
func (l *Live) Run(ctx context.Context) error { return l.w.Run(ctx) }

// Reload loads the files now. With an error the old version stays.
func (l *Live) Reload(ctx context.Context) error { return l.w.Reload(ctx) }

// Current is the version in force.
func (l *Live) Current() *Sources { return l.w.Current() }

// Source is [Sources.Source] of the version in force.
func (l *Live) Source(ctx context.Context, name string) (*mtakit.Source, error) {
	return l.Current().Source(ctx, name)
}

// Pool is [Sources.Pool] of the version in force.
func (l *Live) Pool(ctx context.Context, name string) (*mtakit.Pool, error) {
	return l.Current().Pool(ctx, name)
}
