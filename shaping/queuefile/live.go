package queuefile

import (
	"context"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// Live is the content of files that change: the last version of them that was good. It is safe for concurrent use.
type Live struct{ w *datafile.Watched[*Queues] }

// Watch loads the files, as [Load] does. tell, unless nil, is called from Run and Reload: with each new version once it is in force, so
// that the epoch of the queue's configuration can move on, or with the error of one that is not used.
func Watch(ctx context.Context, cfg Config, tell func(*Queues, error)) (*Live, error) {
	w, err := datafile.Open(ctx, datafile.Watch[*Queues]{
		Files: cfg.Files,
		Load:  func(context.Context) (*Queues, error) { return Load(cfg) },
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
func (l *Live) Current() *Queues { return l.w.Current() }

// Settings is [Queues.Settings] of the version in force.
func (l *Live) Settings(ctx context.Context, name mtakit.QueueName) (*mtakit.QueueSettings, error) {
	return l.Current().Settings(ctx, name)
}
