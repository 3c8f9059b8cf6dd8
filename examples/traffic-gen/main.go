// Traffic-gen makes mail: it sends messages over many SMTP connections, as fast as it can or at a rate, and says how long each took.
//
//	go run ./examples/traffic-gen --smtp 127.0.0.1:2525 --messages 10000 --connections 50
//	go run ./examples/traffic-gen --duration 1m --rate 500/s --size 10k --domains 100
//	go run ./examples/traffic-gen --ledger sent --duration 10s --tolerate    # for a test of loss, with sink --ledger received
//	go run ./examples/traffic-gen compare sent received
//
// It prints a line of progress on stderr while it runs and a summary at the end. The exit code is 1 where a message was not
// acknowledged, unless --tolerate, and where compare finds one lost.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/examples/internal/ledger"
)

type cli struct {
	Send    sendCmd    `cmd:"" help:"Send messages over SMTP, as fast as they go or at a rate. \"send\" may be left out; \"traffic-gen compare --help\" tells about comparing ledgers."`
	Compare compareCmd `cmd:"" help:"Compare the ledger of what was sent with that of what arrived; exit code 1 if a message is lost."`
}

// sendCmd is the command line of send. Each flag can also come from the environment: TRAFFIC_GEN_SMTP for --smtp.
type sendCmd struct {
	SMTP          string        `name:"smtp" help:"Where to send." default:"127.0.0.1:2525" placeholder:"ADDR"`
	Messages      int64         `help:"How many. Default: 1000, without end where --duration is given." placeholder:"N"`
	Duration      time.Duration `help:"How long; 0 is until all are sent." default:"0s" placeholder:"DURATION"`
	Connections   int           `help:"How many at a time." default:"10" placeholder:"N"`
	PerConnection int64         `help:"Messages after which a connection is closed and a new one opened; 0 is never." default:"0" placeholder:"N"`
	Rate          string        `help:"Messages in all connections together, as 500/s or 10/m; default as fast as they go." placeholder:"RATE"`
	Size          size          `help:"Of a message with its header, as 1024, 10k or 1M." default:"1k" placeholder:"BYTES"`
	From          template      `help:"Sender. {n} is the message's number, {conn} the connection's, {domain} its domain." default:"sender@sender.example" placeholder:"ADDRESS"`
	To            template      `help:"Recipient, likewise." default:"user{n}@{domain}" placeholder:"ADDRESS"`
	Domain        []string      `help:"Domain of recipients; repeatable, they take turns." default:"example.com" placeholder:"NAME"`
	Domains       int           `help:"Put d0. to dN-1. before the domain; 0 leaves it." default:"0" placeholder:"N"`
	Header        []string      `help:"Further header field, as 'X-Campaign: spring'; repeatable." sep:"none" placeholder:"FIELD"`
	EHLO          string        `name:"ehlo" help:"Name to greet with." default:"traffic-gen.example" placeholder:"NAME"`
	StartTLS      bool          `name:"starttls" help:"Encrypt, whatever the certificate; without STARTTLS the connection fails."`
	Pipelining    bool          `help:"Use PIPELINING where it is offered, and send the next envelope with the end of a message." default:"true" negatable:""`
	Timeout       time.Duration `help:"For each reply, and for how long to try to connect." default:"60s" placeholder:"DURATION"`
	Ledger        string        `help:"File for the X-Ledger-Id of each message acknowledged, on stable storage at once." placeholder:"FILE" type:"path"`
	Tolerate      bool          `help:"Exit with 0 although messages were not acknowledged."`
	Progress      time.Duration `help:"How often to print a line of progress; 0 is never." default:"1s" placeholder:"DURATION"`
	JSON          bool          `name:"json" help:"Print the summary as JSON."`
}

type compareCmd struct {
	Sent     string `arg:"" help:"Ledger of what was acknowledged to the generator." type:"existingfile"`
	Received string `arg:"" help:"Ledger of what the destination acknowledged." type:"existingfile"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends the process
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments; it returns the exit code. When ctx ends, what is in hand is finished.
func run(ctx context.Context, args []string, out, stderr io.Writer) int {
	var c cli
	exit := -1
	parser, err := kong.New(&c, kong.Name("traffic-gen"), kong.Description("Load generator for SMTP."), kong.DefaultEnvars("TRAFFIC_GEN"),
		kong.Writers(out, stderr), kong.Exit(func(code int) { exit = code }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	var k *kong.Context
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"send"}, args...)
	}
	if err == nil {
		k, err = parser.Parse(args)
	}
	if exit >= 0 { // --help
		return exit
	}
	var cfg *config
	if err == nil && k.Command() == "send" {
		cfg, err = c.Send.config()
	}
	if err != nil {
		fmt.Fprintln(stderr, "traffic-gen:", err)
		return 2
	}
	ok := false
	if cfg != nil {
		ok, err = c.Send.run(ctx, cfg, out, stderr)
	} else {
		ok, err = c.Compare.run(out)
	}
	if err != nil {
		fmt.Fprintln(stderr, "traffic-gen:", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

// config checks what kong can't.
func (c *sendCmd) config() (*config, error) {
	cfg := &config{
		addr: c.SMTP, messages: c.Messages, connections: c.Connections, perConnection: c.PerConnection, ehlo: c.EHLO, startTLS: c.StartTLS,
		pipelining: c.Pipelining, timeout: c.Timeout, from: c.From, to: c.To, size: int(c.Size), header: c.Header,
	}
	switch {
	case c.Messages < 0:
		return nil, fmt.Errorf("--messages is %d, want 0 or more", c.Messages)
	case c.Duration < 0:
		return nil, fmt.Errorf("--duration is %v, want 0 or more", c.Duration)
	case c.Connections < 1:
		return nil, fmt.Errorf("--connections is %d, want 1 or more", c.Connections)
	case c.PerConnection < 0:
		return nil, fmt.Errorf("--per-connection is %d, want 0 or more", c.PerConnection)
	case c.Domains < 0:
		return nil, fmt.Errorf("--domains is %d, want 0 or more", c.Domains)
	case c.Timeout <= 0:
		return nil, fmt.Errorf("--timeout is %v, want more than 0", c.Timeout)
	}
	if c.Messages == 0 && c.Duration == 0 {
		cfg.messages = 1000
	}
	if c.Rate != "" {
		r, err := mtakit.ParseRate(c.Rate)
		if err != nil {
			return nil, fmt.Errorf("--rate: %w", err)
		}
		cfg.interval = time.Duration(float64(time.Second) / r.PerSecond())
	}
	for _, h := range c.Header {
		if name, _, ok := strings.Cut(h, ":"); !ok || name == "" || strings.ContainsAny(name, " \t") || strings.ContainsAny(h, "\r\n") {
			return nil, fmt.Errorf("--header: %q is not NAME: VALUE", h)
		}
	}
	for _, d := range c.Domain {
		if c.Domains == 0 {
			cfg.domains = append(cfg.domains, d)
		}
		for i := range c.Domains {
			cfg.domains = append(cfg.domains, "d"+strconv.Itoa(i)+"."+d)
		}
	}
	return cfg, nil
}

func (c *sendCmd) run(ctx context.Context, cfg *config, out, stderr io.Writer) (ok bool, err error) {
	if c.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Duration)
		defer cancel()
	}
	if c.Ledger != "" {
		if cfg.ledger, err = ledger.Open(c.Ledger); err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, cfg.ledger.Close()) }()
	}
	g := newGenerator(*cfg)
	ended := make(chan error, 1)
	go func() { ended <- g.run(ctx) }()
	var tick <-chan time.Time
	if c.Progress > 0 {
		ticker := time.NewTicker(c.Progress)
		defer ticker.Stop()
		tick = ticker.C
	}
	for last := int64(0); ; {
		select {
		case <-tick:
			now := g.acknowledged.Load()
			fmt.Fprintf(stderr, "%d acknowledged, %.0f/s; %d failed; %d connections\n", now, float64(now-last)/c.Progress.Seconds(), g.failed.Load(), g.open.Load())
			last = now
		case err := <-ended:
			r := g.report()
			if c.JSON {
				out.Write(r.json())
			} else {
				out.Write(r.text())
			}
			return c.Tolerate || r.Failed == 0 && err == nil, err
		}
	}
}

func (c *compareCmd) run(out io.Writer) (ok bool, err error) {
	sent, err := os.Open(c.Sent)
	if err != nil {
		return false, err
	}
	defer sent.Close()
	received, err := os.Open(c.Received)
	if err != nil {
		return false, err
	}
	defer received.Close()
	cmp, err := ledger.Compare(sent, received)
	if err != nil {
		return false, err
	}
	fmt.Fprintf(out, "sent=%d received=%d lost=%d repeated=%d unknown=%d\n", cmp.Sent, cmp.Received, len(cmp.Lost), cmp.Repeated, cmp.Unknown)
	for i, id := range cmp.Lost {
		if i == 20 {
			fmt.Fprintln(out, "lost: …")
			break
		}
		fmt.Fprintln(out, "lost:", id)
	}
	return len(cmp.Lost) == 0, nil
}
