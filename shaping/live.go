package shaping

import (
	"context"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// Live is the shaping of files that change: the last version of them that was good. It is safe for concurrent use.
type Live struct{ w *datafile.Watched[*Shaping] }

// refresh is how often sites are looked up again.
const refresh = time.Minute

// Watch loads the files, as [Load] does. tell, unless nil, is called from Run and Reload: with each new version once it is in force, so
// that the epoch of the queue's configuration can move on, or with the error of one that is not used.
func Watch(ctx context.Context, cfg Config, tell func(*Shaping, error)) (*Live, error) {
	w, err := datafile.Open(ctx, datafile.Watch[*Shaping]{
		Files:   cfg.Files,
		Load:    func(ctx context.Context) (*Shaping, error) { return Load(ctx, cfg) },
		Same:    func(a, b *Shaping) bool { return a.Hash() == b.Hash() },
		Tell:    tell,
		Refresh: refresh,
	})
	if err != nil {
		return nil, err
	}
	return &Live{w}, nil
}

// Run loads the files again when they change, and looks up the sites of domains every minute, until ctx ends; it returns nil.
func (l *Live) Run(ctx context.Context) error { return l.w.Run(ctx) }

// Reload loads the files now. With an error the old version stays.
func (l *Live) Reload(ctx context.Context) error { return l.w.Reload(ctx) }

// Current is the version in force.
func (l *Live) Current() *Shaping { return l.w.Current() }

// Path is [Shaping.Path] of the version in force.
func (l *Live) Path(ctx context.Context, domain, source string, site *mtakit.Site) (*mtakit.PathConfig, error) {
	return l.Current().Path(ctx, domain, source, site)
}
