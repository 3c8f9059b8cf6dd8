package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/authfile"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/rfc5322"
	"github.com/mtakit/mtakit/shaping"
	"github.com/mtakit/mtakit/shaping/queuefile"
	"github.com/mtakit/mtakit/shaping/sourcefile"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpserver"
)

// data is what the data files say, kept up to date while the daemon runs.
type data struct {
	log     *slog.Logger
	shaping *shaping.Live
	queues  *queuefile.Live
	sources *sourcefile.Live
	users   *authfile.Live      // nil: nobody has a password
	pair    *smtpserver.KeyPair // nil: self-signed
	tls     *tls.Config         // with pair

	throttles mtakit.Throttles
	changed   atomic.Pointer[func()] // told of a new version in force
	useQueues bool
	useSource bool
	flagged   map[string]string // options of paths that a flag sets, and which
}

// load reads all data files; an error names the place.
func (f *flags) load(ctx context.Context, router mtakit.Router, log *slog.Logger) (*data, error) {
	d := &data{log: log, throttles: shaping.NewThrottles(), useQueues: len(f.Queues) > 0, useSource: len(f.Sources) > 0, flagged: make(map[string]string)}
	base := mtakit.DefaultPathConfig()
	if f.DestPort != base.SMTPPort {
		base.SMTPPort, d.flagged["smtp_port"] = f.DestPort, "--dest-port"
	}
	var err1, err2, err3, err4, err5, err6 error
	if base.ProhibitedHosts, err1 = f.prohibited(); !slices.Equal(base.ProhibitedHosts, mtakit.DefaultProhibitedHosts()) {
		d.flagged["prohibited_hosts"] = "--prohibited-hosts"
	}
	d.pair, d.tls, err2 = f.keyPair()
	d.shaping, err3 = shaping.Watch(ctx, shaping.Config{Files: f.Shaping, Router: router, Base: &base, Automation: f.Automation},
		func(s *shaping.Shaping, err error) { d.tell(s.Findings, err) })
	provider := func(ctx context.Context, domain string) string { return d.shaping.Current().Provider(ctx, domain) }
	d.queues, err4 = queuefile.Watch(ctx, queuefile.Config{Files: f.Queues, Provider: provider},
		func(q *queuefile.Queues, err error) { d.tell(q.Findings, err) })
	d.sources, err5 = sourcefile.Watch(ctx, f.Sources, func(s *sourcefile.Sources, err error) { d.tell(s.Findings, err) })
	if f.Auth != "" {
		d.users, err6 = authfile.Watch(ctx, f.Auth, func(u *authfile.Users, err error) { d.tell(u.Findings, err) })
	}
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return nil, err
	}
	d.warn(d.shaping.Current().Findings())
	d.warn(d.queues.Current().Findings())
	d.warn(d.sources.Current().Findings())
	if d.users != nil {
		d.warn(d.users.Current().Findings())
	}
	if d.useSource {
		d.warn(d.sources.Current().CheckNames(d.shaping.Current().Sources(), d.queues.Current().Pools()))
	}
	return d, nil
}

// tell hears of a new version of a file.
func (d *data) tell(findings func() mtakit.Findings, err error) {
	if err != nil {
		d.log.Error("data files not loaded; the last good version stays in force", "err", err)
		return
	}
	d.warn(findings())
	if changed := d.changed.Load(); changed != nil {
		(*changed)()
	}
}

func (d *data) warn(found mtakit.Findings) {
	for _, f := range found {
		d.log.Warn("data file", "finding", f.String())
	}
}

// live is content of files that change.
type live interface {
	Run(context.Context) error
	Reload(context.Context) error
}

func (d *data) all() []live {
	all := []live{d.shaping, d.queues, d.sources}
	if d.users != nil {
		all = append(all, d.users)
	}
	return all
}

// auth checks passwords; nil is: nobody has one.
func (d *data) auth() mtakit.Authenticator {
	if d.users == nil {
		return nil
	}
	return d.users
}

// run watches the files until ctx ends.
func (d *data) run(ctx context.Context) {
	for _, l := range d.all() {
		go func() {
			if err := l.Run(ctx); err != nil && ctx.Err() == nil {
				d.log.Error("data files are no longer watched", "err", err)
			}
		}()
	}
}

// reload reads the files again now.
func (d *data) reload(ctx context.Context) {
	for _, l := range d.all() {
		l.Reload(ctx) // a failure has been told
	}
	if d.pair != nil {
		if err := d.pair.Reload(); err != nil {
			d.log.Error("certificate not loaded; the last good one stays in use", "err", err)
		}
	}
}

// policy is what the files decide.
func (d *data) policy() queue.Policy {
	p := queue.Policy{Path: func(ctx context.Context, domain, source string, site *mtakit.Site) (*mtakit.PathConfig, error) {
		c, err := d.shaping.Path(ctx, domain, source, site)
		if err == nil {
			err = smtpclient.CheckTLS(c)
		}
		return c, err
	}}
	if d.useQueues {
		p.Settings = d.queues.Settings
		p.Ready = func(ctx context.Context, m *mtakit.Message) error {
			return d.queues.Current().Ready(ctx, d.throttles, m)
		}
	}
	if d.useSource {
		p.Pool, p.Source = d.sources.Pool, d.sources.Source
	}
	return p
}

// provenance tells where in the files the answers of policy are from.
func (d *data) provenance() queue.Provenance {
	p := queue.Provenance{Path: func(ctx context.Context, domain, source string, site *mtakit.Site) ([]mtakit.Setting, error) {
		all, err := d.shaping.Current().Explain(ctx, domain, source, site)
		for i := range all {
			if o := &all[i]; o.By == "" {
				o.By = d.flagged[o.Option]
			}
		}
		return all, err
	}}
	if d.useQueues {
		p.Settings = func(ctx context.Context, name mtakit.QueueName) ([]mtakit.Setting, error) {
			return d.queues.Current().Explain(ctx, name), nil
		}
		p.Rates = func(name mtakit.QueueName) mtakit.NamedRates {
			return d.queues.Current().Rates(name.Tenant, name.Campaign)
		}
	}
	if d.useSource {
		p.Pool = func(_ context.Context, name string) ([]mtakit.Setting, error) {
			return d.sources.Current().ExplainPool(name), nil
		}
		p.Source = func(_ context.Context, name string) ([]mtakit.Setting, error) {
			return d.sources.Current().ExplainSource(name), nil
		}
	}
	return p
}

// apply sets schedule, tenant and campaign of a message from its header, as the queue files say. Where fields of it are to go, the result is the header
// without them, else nil.
func (d *data) apply(m *mtakit.Message, header rfc5322.Header) (rfc5322.Header, error) {
	remove, err := d.queues.Current().Apply(m, header.Text)
	if err != nil || len(remove) == 0 {
		return nil, err
	}
	return header.Remove(rfc5322.Named(remove...)), nil
}

// received is apply for what comes by SMTP.
func (d *data) received(_ context.Context, _ *smtpserver.Session, m *smtpserver.Mail) error {
	if !d.useQueues {
		return nil
	}
	text := m.Text()
	old, _ := rfc5322.Split(text)
	header, err := d.apply(m.Message, old)
	if header != nil {
		m.SetText(slices.Concat(header, text[len(old):])) // with the empty line
	}
	return err
}

// generated is apply for what comes by HTTP.
func (d *data) generated(_ context.Context, s *mtakit.Submission, _ *httpapi.AuthInfo) error {
	if !d.useQueues {
		return nil
	}
	old, _, err := rfc5322.ReadHeader(s.Body, nil, rfc5322.DefaultLimit)
	if err != nil {
		return err
	}
	header, err := d.apply(s.Message, old)
	if header == nil || err != nil {
		return err
	}
	rest, err := io.ReadAll(io.NewSectionReader(s.Body, int64(len(old)), s.Body.Size()-int64(len(old))))
	if err != nil {
		return err
	}
	err = s.Body.Close()
	s.Body = mtakit.Bytes(slices.Concat(header, rest))
	return err
}

// checkCmd is "kumod check".
type checkCmd struct {
	Shaping []string `help:"Shaping file; repeatable." placeholder:"FILE" type:"path"`
	Queues  []string `help:"Queue settings file; repeatable." placeholder:"FILE" type:"path"`
	Sources []string `help:"Egress sources and pools file; repeatable." placeholder:"FILE" type:"path"`
	Auth    string   `help:"File of users." placeholder:"FILE" type:"path"`
	DNS     string   `name:"dns" help:"DNS server for the sites of domains. Default: the system's resolvers." placeholder:"ADDR"`
}

// run prints what is wrong and returns the exit code.
func (c *checkCmd) run(out, stderr io.Writer) int {
	ctx := context.Background()
	f := flags{DNS: c.DNS}
	router, _, closeDNS, err := f.routing()
	if err != nil {
		fmt.Fprintln(stderr, "kumod:", err)
		return 2
	}
	defer closeDNS()
	sh := shaping.Config{Files: c.Shaping, Router: router, Checks: shaping.AllChecks()}
	found := append(shaping.Check(ctx, sh), queuefile.Check(queuefile.Config{Files: c.Queues})...)
	found = append(found, sourcefile.Check(c.Sources)...)
	if c.Auth != "" {
		found = append(found, authfile.Check(c.Auth)...)
	}
	if found.Err() == nil && len(c.Sources) > 0 {
		// Each file is good; do they fit together?
		shape, err1 := shaping.Load(ctx, sh)
		queues, err2 := queuefile.Load(queuefile.Config{Files: c.Queues})
		sources, err3 := sourcefile.Load(c.Sources)
		if err := errors.Join(err1, err2, err3); err != nil {
			fmt.Fprintln(stderr, "kumod:", err)
			return 1
		}
		found = append(found, sources.CheckNames(shape.Sources(), queues.Pools())...)
	}
	for _, f := range found {
		fmt.Fprintln(out, f)
	}
	if found.Err() != nil {
		return 1
	}
	return 0
}
