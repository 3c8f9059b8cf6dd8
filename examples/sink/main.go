// Sink is a destination for mail: it accepts, defers, throttles or refuses by rule, and counts.
//
//	go run ./examples/sink                                               # accepts everything on 127.0.0.1:2526
//	go run ./examples/sink --rule 'to=*@slow.example delay=2s' --rule 'percent=5 reply=451 4.3.0 try later'
//	go run ./examples/sink --help                                        # explains rules
//
// It prints "sink ready smtp=ADDR" when it listens, a line of progress on stderr while mail comes in, and on SIGUSR1 and at the
// end a summary as one JSON object.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mtakit/mtakit/examples/internal/ledger"
	"github.com/mtakit/mtakit/examples/internal/sink"
)

// flags are the command line. Each can also come from the environment: SINK_LISTEN for --listen.
type flags struct {
	Listen   string        `help:"Address to listen on; port 0 takes a free one." default:"127.0.0.1:2526" placeholder:"ADDR"`
	Hostname string        `help:"Name in the banner and in the certificate." default:"sink.example" placeholder:"NAME"`
	Rule     []string      `help:"What happens to some of the mail; repeatable, the first that decides wins. See above." sep:"none" placeholder:"RULE"`
	TLS      bool          `name:"tls" help:"Offer STARTTLS, with a self-signed certificate."`
	Dump     string        `help:"Directory for the messages accepted, byte by byte as they came." placeholder:"DIR" type:"path"`
	Ledger   string        `help:"File for the X-Ledger-Id (else the Message-ID) of each message, on stable storage before the message is accepted." placeholder:"FILE" type:"path"`
	Messages int64         `help:"End after that many messages; 0 goes on." default:"0" placeholder:"N"`
	Progress time.Duration `help:"How often to print a line of progress, if there is any; 0 is never." default:"1s" placeholder:"DURATION"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments; it returns the exit code. The end of ctx is the ordinary end.
func run(ctx context.Context, args []string, out, stderr io.Writer) int {
	var f flags
	exit := -1
	parser, err := kong.New(&f, kong.Name("sink"), kong.Description("A destination for mail that accepts, defers, throttles or refuses by rule, and counts.\n\n"+sink.RulesHelp),
		kong.DefaultEnvars("SINK"), kong.Writers(out, stderr), kong.Exit(func(code int) { exit = code }))
	if err == nil {
		_, err = parser.Parse(args)
	}
	if exit >= 0 { // --help
		return exit
	}
	var rules sink.Rules
	if err == nil {
		rules, err = sink.ParseRules(f.Rule)
	}
	if err == nil && f.Messages < 0 {
		err = fmt.Errorf("--messages is %d, want 0 or more", f.Messages)
	}
	if err != nil {
		fmt.Fprintln(stderr, "sink:", err)
		return 2
	}
	if err := f.serve(ctx, rules, out, stderr); err != nil {
		fmt.Fprintln(stderr, "sink:", err)
		return 1
	}
	return 0
}

func (f *flags) serve(ctx context.Context, rules sink.Rules, out, stderr io.Writer) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &sink.Server{Hostname: f.Hostname, Rules: rules, Dump: f.Dump, Limit: f.Messages, Stop: stop}
	if f.TLS {
		if s.TLS, err = sink.SelfSigned(f.Hostname); err != nil {
			return err
		}
	}
	if f.Dump != "" {
		if err := os.MkdirAll(f.Dump, 0o755); err != nil {
			return err
		}
	}
	if f.Ledger != "" {
		if s.Ledger, err = ledger.Open(f.Ledger); err != nil {
			return err
		}
		defer s.Ledger.Close()
	}
	l, err := net.Listen("tcp", f.Listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "sink ready smtp=%s\n", l.Addr())

	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	defer signal.Stop(usr1)
	var tick <-chan time.Time
	if f.Progress > 0 {
		ticker := time.NewTicker(f.Progress)
		defer ticker.Stop()
		tick = ticker.C
	}
	for last := s.Summary(); ; {
		select {
		case <-tick:
			if line, news := s.Progress(&last, f.Progress); news {
				fmt.Fprintln(stderr, line)
			}
		case <-usr1:
			out.Write(s.Summary().JSON())
		case err := <-ended:
			out.Write(s.Summary().JSON())
			return err
		}
	}
}
