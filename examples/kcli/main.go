// Kcli is the operator's command line for a running kumod, KumoMTA's as well as this module's.
//
//	kcli queue-summary --limit 10
//	kcli bounce --domain example.com --reason 'list was bought' --duration 1h
//	kcli explain user@example.com
//	kcli trace-smtp-client --domain example.com --terse
//	kcli --endpoint http://10.0.0.1:8000 top
//	source <(kcli completion bash)
//
// A command is a struct that holds its flags and knows how to run; where it posts something, it is the request's body too. What the daemon
// says is on stdout, what kcli has to say about it on stderr. The exit code is 0, 1 where the daemon can't be reached or refuses, 2 where
// the command line is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mtakit/mtakit"
)

// commands are the command line. Each flag can also come from the environment: KUMO_KCLI_ENDPOINT for --endpoint.
type commands struct {
	Endpoint endpoint        `help:"URL of the daemon's HTTP listener; user:password@ before the host signs in. Default: http://127.0.0.1:8000." default:"http://127.0.0.1:8000" placeholder:"URL"`
	CA       certificates    `name:"ca" help:"PEM file of the certificates to trust for https. Default: the system's." placeholder:"FILE"`
	Timeout  mtakit.Duration `help:"How long a request may take, with its answer. Default: 1m." default:"1m" placeholder:"DURATION"`

	Bounce       bounceCmd       `cmd:"" help:"Fail the messages of queues, those that wait and those that come."`
	BounceList   bounceListCmd   `cmd:"" help:"List the bounces in force."`
	BounceCancel bounceCancelCmd `cmd:"" help:"End a bounce before its time."`

	Suspend       suspendCmd       `cmd:"" help:"Hold the messages of scheduled queues back."`
	SuspendList   suspendListCmd   `cmd:"" help:"List the suspensions of scheduled queues."`
	SuspendCancel suspendCancelCmd `cmd:"" help:"End a suspension of scheduled queues before its time."`

	SuspendReadyQ       suspendReadyQCmd       `cmd:"" name:"suspend-ready-q" help:"Hold a ready queue back: nothing leaves by it."`
	SuspendReadyQList   suspendReadyQListCmd   `cmd:"" name:"suspend-ready-q-list" help:"List the suspensions of ready queues."`
	SuspendReadyQCancel suspendReadyQCancelCmd `cmd:"" name:"suspend-ready-q-cancel" help:"End a suspension of a ready queue before its time."`

	Rebind     rebindCmd     `cmd:"" help:"Change the metadata of waiting messages, and with it their queue."`
	Xfer       xferCmd       `cmd:"" help:"Hand waiting messages over to another node."`
	XferCancel xferCancelCmd `cmd:"" help:"Take back what was to be handed over and has not gone yet."`

	QueueSummary    queueSummaryCmd    `cmd:"" help:"Show ready and scheduled queues, and what holds them."`
	ProviderSummary providerSummaryCmd `cmd:"" help:"Show deliveries and failures by provider."`

	Top topCmd `cmd:"" help:"Watch the daemon's counters on the whole screen."`

	Explain explainCmd `cmd:"" help:"Show which way mail takes and why: settings and what set them, limits, what holds it up, the next attempt."`

	InspectMessage    inspectMessageCmd    `cmd:"" help:"Show a message."`
	InspectSchedQ     inspectSchedQCmd     `cmd:"" name:"inspect-sched-q" help:"Show a scheduled queue and some of its messages."`
	InspectReadyQ     inspectReadyQCmd     `cmd:"" name:"inspect-ready-q" help:"Show a ready queue: hosts, limits, connections."`
	AbortReadyQConn   abortReadyQConnCmd   `cmd:"" name:"abort-ready-q-conn" help:"Cut a connection of a ready queue; its message is tried again."`
	ResolveEgressPath resolveEgressPathCmd `cmd:"" help:"Show the way from a source to a domain, with its settings and limits."`

	TraceSMTPClient traceClientCmd `cmd:"" name:"trace-smtp-client" help:"Watch SMTP sessions with destinations."`
	TraceSMTPServer traceServerCmd `cmd:"" name:"trace-smtp-server" help:"Watch SMTP sessions of clients."`

	SetLogFilter setLogFilterCmd `cmd:"" help:"Change what the daemon's diagnostic log has."`
	SpoolCompact spoolCompactCmd `cmd:"" help:"Compact a spool now."`

	Completion   completionCmd   `cmd:"" help:"Print a script that lets a shell complete kcli's commands, flags and ids."`
	Complete     completeCmd     `cmd:"" hidden:"" help:"Print what may follow the words of an unfinished command line; for the scripts of completion."`
	MarkdownHelp markdownHelpCmd `cmd:"" hidden:"" help:"Print the commands and their flags as Markdown."`
}

// console is what commands work with.
type console struct {
	api      *client
	model    *kong.Application
	out, err io.Writer
	colors   bool    // out is a terminal
	screen   *screen // nil if there is none
	now      func() time.Time
}

// note tells the operator what is not the daemon's answer.
func (c *console) note(format string, args ...any) { fmt.Fprintf(c.err, format+"\n", args...) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	c := &console{out: os.Stdout, err: os.Stderr, colors: isTerminal(os.Stdout), screen: openScreen(), now: time.Now}
	os.Exit(run(ctx, os.Args[1:], c))
}

// run is main with its surroundings as arguments; it returns the exit code.
func run(ctx context.Context, args []string, c *console) int {
	var cmds commands
	exit := -1
	parser, err := newParser(&cmds, c, func(code int) { exit = code })
	var k *kong.Context
	if err == nil {
		c.model = parser.Model
		k, err = parser.Parse(args)
	}
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		c.note("kcli: %s", oneLine(err))
		return 2
	}
	c.api = newClient(cmds.Endpoint.url, cmds.CA.pool, cmds.Timeout.Std())
	k.BindTo(ctx, (*context.Context)(nil))
	err = k.Run(c)
	switch usage := (*usageError)(nil); {
	case errors.As(err, &usage):
		c.note("kcli: %s", oneLine(err))
		return 2
	case err != nil:
		c.note("Error: %s", printable(err.Error()))
		return 1
	}
	return 0
}

func newParser(cmds *commands, c *console, exit func(int)) (*kong.Kong, error) {
	return kong.New(cmds, kong.Name("kcli"), kong.Description("The operator's command line for a running kumod."), kong.DefaultEnvars("KUMO_KCLI"),
		kong.Writers(c.out, c.err), kong.Exit(exit), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
}

// usageError is a mistake in the command line that is found late.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", " ") }
