package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/authfile"
	"github.com/mtakit/mtakit/internal/uuid"
	"github.com/mtakit/mtakit/queue/httpapi/logfilter"
	"github.com/mtakit/mtakit/smtpclient/route"
	"github.com/mtakit/mtakit/smtpserver"
)

// flags are the command line. Each can also come from the environment: KUMOD_HTTP for --http.
type flags struct {
	Hostname        string         `help:"Name in the banner, EHLO and Received. Default: the host's name." placeholder:"NAME"`
	SMTP            []string       `name:"smtp" help:"ESMTP listener; repeatable. Port 0 takes a free one." default:"127.0.0.1:2525" placeholder:"ADDR"`
	HTTP            string         `name:"http" help:"HTTP: injection, administration, metrics." default:"127.0.0.1:8000" placeholder:"ADDR"`
	HTTPTLS         bool           `name:"http-tls" help:"Serve HTTPS instead, with the certificate of --tls-cert."`
	Data            string         `help:"Directory that holds spool/ and logs/ unless the next two say otherwise." default:"./kumod-data" placeholder:"DIR"`
	Spool           string         `help:"Spool directory." placeholder:"DIR"`
	Logs            string         `help:"Directory of the log segments." placeholder:"DIR"`
	RelayFrom       []netip.Prefix `help:"Clients that may relay without authentication; repeatable." default:"127.0.0.0/8,::1/128" placeholder:"CIDR"`
	TrustHTTP       []string       `name:"trust-http" help:"Clients that may do everything over HTTP without a password; repeatable, 'none' clears." default:"127.0.0.0/8,::1/128" placeholder:"CIDR"`
	Auth            string         `help:"File of users for SMTP AUTH and HTTP Basic, a line NAME:HASH each; \"kumod user NAME\" makes one." placeholder:"FILE" type:"path"`
	DNS             string         `name:"dns" help:"DNS server for MX and addresses; its AD bit is trusted. Default: the system's resolvers." placeholder:"ADDR"`
	DestPort        uint16         `help:"Destination port for SMTP." default:"25" placeholder:"N"`
	ProhibitedHosts []string       `help:"Addresses mail is never sent to; repeatable, 'none' clears. A shaping file's value wins; a host named by --relay-to is exempt." default:"127.0.0.0/8,::1,0.0.0.0,::" placeholder:"CIDR"`
	RelayTo         []string       `help:"Smart host; repeatable: everything goes there, in the order given, without MX look-up." placeholder:"HOST[:PORT]"`
	Shaping         []string       `help:"Shaping file, TOML or JSON; repeatable, later ones are merged over earlier ones." placeholder:"FILE" type:"path"`
	Queues          []string       `help:"Queue settings file; repeatable." placeholder:"FILE" type:"path"`
	Sources         []string       `help:"Egress sources and pools file; repeatable." placeholder:"FILE" type:"path"`
	TLSCert         string         `name:"tls-cert" help:"Certificate for STARTTLS, read again when it changes. Default: self-signed, made at start." placeholder:"FILE" type:"path"`
	TLSKey          string         `name:"tls-key" help:"Its key." placeholder:"FILE" type:"path"`
	ShutdownTimeout time.Duration  `help:"How long what is in flight may take to finish after SIGTERM or SIGINT." default:"60s" placeholder:"DURATION"`
	LogLevel        string         `help:"Diagnostic log on stderr: debug, info, warn or error, also for parts of the program: info,queue=debug." default:"info" placeholder:"LEVEL"`
	Automation      bool           `kong:"-"` // that the rules of the shaping files are carried out, outside the daemon
	LogFormat       string         `help:"Its form: text or json." enum:"text,json" default:"text" placeholder:"FORMAT"`
}

type cli struct {
	Run   flags    `cmd:"" help:"Run the daemon; \"run\" may be left out."`
	Check checkCmd `cmd:"" help:"Validate the data files named and print each finding as FILE:LINE:COL: level: text."`
	Demo  demoCmd  `cmd:"" help:"Show the daemon at work, with destinations and traffic of its own on loopback."`
	User  userCmd  `cmd:"" help:"Print the line of a user for the file of --auth, with the hash of the password that is on standard input."`
}

// run is main with its surroundings as arguments; it returns the exit code.
func run(args []string, out, stderr *os.File) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("kumod"), kong.Description("The reference daemon of mtakit: an MTA on embedded defaults. \"kumod check --help\" tells about checking data files."),
		kong.DefaultEnvars("KUMOD"), kong.Writers(out, stderr), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(stderr, "kumod:", err)
		return 2
	}
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"run"}, args...)
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(stderr, "kumod:", err)
		return 2
	}
	switch name, _, _ := strings.Cut(k.Command(), " "); name {
	case "check":
		return c.Check.run(out, stderr)
	case "user":
		return c.User.run(os.Stdin, out, stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once: what was accepted is in the spool
	}()
	if k.Command() == "demo" {
		return c.Demo.run(ctx, out, stderr)
	}
	return c.Run.run(ctx, stderr, func(a addrs) {
		fmt.Fprintf(out, "kumod ready smtp=%s http=%s spool=%d\n", strings.Join(a.smtp, ","), a.http, a.spooled)
	})
}

// run is "kumod run".
func (f *flags) run(ctx context.Context, stderr io.Writer, ready func(addrs)) int {
	if err := f.complete(); err != nil {
		fmt.Fprintln(stderr, "kumod:", strings.ReplaceAll(err.Error(), "\n", "; "))
		return 2
	}
	logs, err := f.logs(stderr)
	if err != nil {
		fmt.Fprintln(stderr, "kumod:", err)
		return 2
	}
	if err := serve(ctx, f, logs, ready); err != nil {
		fmt.Fprintln(stderr, "kumod:", err)
		return 1
	}
	return 0
}

// logs makes the diagnostic log. Its parts have names, so that each can have a level of its own.
func (f *flags) logs(out io.Writer) (*logfilter.Filter, error) {
	opts := &slog.HandlerOptions{Level: logfilter.Trace}
	var h slog.Handler = slog.NewTextHandler(out, opts)
	if f.LogFormat == "json" {
		h = slog.NewJSONHandler(out, opts)
	}
	logs := logfilter.New("kumod", h)
	for _, part := range [...]string{"config", "spool", "logs", "queue", "smtp", "http", "smtpclient", "xfer"} {
		logs.Logger(part)
	}
	if err := logs.Set(f.LogLevel); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	return logs, nil
}

// complete fills in what depends on the machine and checks what kong can't.
func (f *flags) complete() error {
	if f.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("--hostname is needed, since the host has no name: %w", err)
		}
		f.Hostname = name
	}
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if f.HTTPTLS && f.TLSCert == "" {
		return errors.New("--http-tls needs --tls-cert and --tls-key")
	}
	if f.DestPort == 0 {
		return errors.New("--dest-port is 0, want 1 to 65535")
	}
	for _, h := range f.RelayTo {
		if _, err := mtakit.ParseHost(h); err != nil {
			return fmt.Errorf("--relay-to: %w", err)
		}
	}
	_, err1 := f.prohibited()
	_, err2 := f.trusted()
	err := errors.Join(err1, err2, listener("--http", f.HTTP))
	for _, a := range f.SMTP {
		err = errors.Join(err, listener("--smtp", a))
	}
	if f.DNS != "" {
		if _, e := mtakit.ParseHost(f.DNS); e != nil {
			err = errors.Join(err, fmt.Errorf("--dns: %w", e))
		}
	}
	return err
}

// listener checks the value of a flag that is where to listen.
func listener(flag, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

func (f *flags) prohibited() (mtakit.Prefixes, error) {
	return prefixes("--prohibited-hosts", f.ProhibitedHosts)
}
func (f *flags) trusted() (mtakit.Prefixes, error) { return prefixes("--trust-http", f.TrustHTTP) }

// prefixes is the value of a flag that is a list of networks, where "none" forgets those before it.
func prefixes(flag string, list []string) (mtakit.Prefixes, error) {
	p := mtakit.Prefixes{}
	for _, s := range list {
		if s == "none" {
			p = mtakit.Prefixes{}
			continue
		}
		n, err := mtakit.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		p = append(p, n)
	}
	return p, nil
}

func (f *flags) spoolDir() string { return orJoin(f.Spool, f.Data, "spool") }
func (f *flags) logsDir() string  { return orJoin(f.Logs, f.Data, "logs") }

func orJoin(dir, data, name string) string {
	if dir != "" {
		return dir
	}
	return filepath.Join(data, name)
}

// routing makes the router: smart hosts, or the DNS.
func (f *flags) routing() (mtakit.Router, mtakit.Resolver, func() error, error) {
	var cfg route.ResolverConfig
	if f.DNS != "" {
		cfg.Servers, cfg.TrustAD = []string{f.DNS}, true
	}
	resolver, err := route.NewResolver(cfg)
	if err != nil {
		return nil, nil, nil, err
	}
	if len(f.RelayTo) > 0 {
		r, err := route.Static(f.RelayTo...)
		return r, resolver, resolver.Close, err
	}
	return route.New(route.Config{Resolver: resolver}), resolver, resolver.Close, nil
}

// keyPair is the certificate of the flags; nil is none.
func (f *flags) keyPair() (*smtpserver.KeyPair, *tls.Config, error) {
	if f.TLSCert == "" {
		return nil, nil, nil
	}
	pair, err := smtpserver.LoadKeyPair(f.TLSCert, f.TLSKey)
	if err != nil {
		return nil, nil, err
	}
	return pair, &tls.Config{GetCertificate: pair.GetCertificate}, nil
}

// nodeID is the UUID that names this node in records: KUMO_NODE_ID, or one kept in the data directory from the first start on.
func nodeID(dir string) (string, error) {
	if id := os.Getenv("KUMO_NODE_ID"); id != "" {
		_, err := mtakit.ParseID(id)
		if err != nil {
			return "", fmt.Errorf("KUMO_NODE_ID: %w", err)
		}
		return id, nil
	}
	name := filepath.Join(dir, "node-id")
	b, err := os.ReadFile(name)
	if err == nil {
		id := strings.TrimSpace(string(b))
		if _, err := mtakit.ParseID(id); err != nil {
			return "", fmt.Errorf("%s: %w; remove it to have a new one made", name, err)
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := uuid.New()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return id, os.WriteFile(name, []byte(id+"\n"), 0o644)
}

// userCmd is "kumod user".
type userCmd struct {
	Name string `arg:"" help:"Name of the user."`
}

func (c *userCmd) run(in io.Reader, out, stderr io.Writer) int {
	password, err := bufio.NewReader(io.LimitReader(in, 1<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		fmt.Fprintln(stderr, "kumod:", err)
		return 1
	}
	line, err := authfile.Line(c.Name, strings.TrimRight(password, "\r\n"))
	if err != nil {
		fmt.Fprintln(stderr, "kumod:", err)
		return 2
	}
	fmt.Fprintln(out, line)
	return 0
}
