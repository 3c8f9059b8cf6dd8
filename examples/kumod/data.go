package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/shaping"
)

// data is what the data files say, kept up to date while the daemon runs.
type data struct {
	base    mtakit.PathConfig
	shaping *shaping.Live
	tls     *tls.Config
}

// load reads all data files; an error names the place.
func (f *flags) load(ctx context.Context, router mtakit.Router, changed func(error)) (*data, error) {
	d := &data{base: mtakit.DefaultPathConfig()}
	d.base.SMTPPort = f.DestPort
	var err error
	if d.base.ProhibitedHosts, err = f.prohibited(); err != nil {
		return nil, err
	}
	if d.tls, err = f.tlsConfig(); err != nil {
		return nil, err
	}
	d.shaping, err = shaping.Watch(ctx, shaping.Config{Files: f.Shaping, Router: router, Base: &d.base},
		func(_ *shaping.Shaping, err error) { changed(err) })
	return d, err
}

// run watches the files until ctx ends.
func (d *data) run(ctx context.Context, log *slog.Logger) {
	if err := d.shaping.Run(ctx); err != nil && ctx.Err() == nil {
		log.Error("data files are no longer watched", "err", err)
	}
}

// reload reads the files again now.
func (d *data) reload(ctx context.Context) { d.shaping.Reload(ctx) }

func (d *data) policy() queue.Policy {
	return queue.Policy{Path: d.shaping.Path}
}

// checkCmd is "kumod check".
type checkCmd struct {
	Shaping []string `help:"Shaping file; repeatable." placeholder:"FILE" type:"path"`
}

func (c *checkCmd) run(out io.Writer) int {
	found := shaping.Check(context.Background(), shaping.Config{Files: c.Shaping})
	for _, f := range found {
		fmt.Fprintln(out, f)
	}
	if errors.Is(found.Err(), nil) {
		return 0
	}
	return 1
}
