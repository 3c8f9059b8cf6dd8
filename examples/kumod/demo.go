package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mtakit/mtakit/examples/internal/demo"
)

// demoHTTP is where the demo answers, unless another program is there already.
const demoHTTP = "127.0.0.1:8000"

func taken(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return true
	}
	l.Close()
	return false
}

// demoCmd is "kumod demo".
type demoCmd struct {
	Duration time.Duration `help:"Ends after that; 0 goes on until interrupted." default:"0" placeholder:"DURATION"`
	Rate     int           `help:"Messages a second." default:"200" placeholder:"N"`
	SMTP     string        `name:"smtp" help:"ESMTP listener. Port 0 takes a free one." default:"127.0.0.1:0" placeholder:"ADDR"`
	HTTP     string        `name:"http" help:"Dashboard, injection, administration, metrics. Another port is taken where the default is in use." default:"127.0.0.1:8000" placeholder:"ADDR"`
	LogLevel string        `help:"Diagnostic log on stderr: debug, info, warn or error." default:"error" placeholder:"LEVEL"`
}

// run is the daemon with all its surroundings in one process and a temporary directory.
func (c *demoCmd) run(ctx context.Context, out, stderr io.Writer) (code int) {
	if c.Rate < 1 || c.Duration < 0 {
		fmt.Fprintln(stderr, "kumod: --rate is 1 or more, --duration 0 or more")
		return 2
	}
	dir, err := os.MkdirTemp("", "kumod-demo-")
	if err != nil {
		fmt.Fprintln(stderr, "kumod:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	world, err := demo.New(dir)
	if err != nil {
		fmt.Fprintln(stderr, "kumod:", err)
		return 1
	}
	defer world.Close()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if c.HTTP == demoHTTP && taken(demoHTTP) {
		c.HTTP = "127.0.0.1:0"
	}
	f, err := c.flags(world, dir)
	if err != nil {
		fmt.Fprintln(stderr, "kumod:", err)
		return 2
	}
	up, done := make(chan addrs, 1), make(chan int, 1)
	go func() { done <- f.run(ctx, stderr, func(a addrs) { up <- a }) }()
	var a addrs
	select {
	case a = <-up:
	case code := <-done:
		return code
	}
	d := demo.Daemon{SMTP: a.smtp[0], HTTP: "http://" + a.http, Logs: f.logsDir()}
	fmt.Fprintf(out, `The daemon takes mail at %s and answers at %s; open that in a browser.
Its data files are in %s: change them, and see what happens.
A few lines of Go follow the log and do what the automation rules of shaping.toml say; lines with * are about that.
%d messages a second to %d destinations, %s:

`, d.SMTP, d.HTTP, dir, c.Rate, world.Destinations(), until(c.Duration))
	traffic := ctx
	if c.Duration > 0 {
		var cancel context.CancelFunc
		traffic, cancel = context.WithTimeout(ctx, c.Duration)
		defer cancel()
	}
	err = world.Run(traffic, d, c.Rate, out)
	stop()
	code = <-done
	if err != nil {
		fmt.Fprintln(stderr, "kumod:", err)
		return 1
	}
	return code
}

// flags are those of "kumod run" for that.
func (c *demoCmd) flags(w *demo.World, dir string) (*flags, error) {
	args := []string{"run", "--smtp", c.SMTP, "--http", c.HTTP, "--data", filepath.Join(dir, "data"), "--log-level", c.LogLevel, "--dns", w.DNS,
		"--hostname", "mta.sender.example", "--prohibited-hosts", "none", "--shutdown-timeout", "5s"}
	for flag, files := range map[string][]string{"--shaping": w.Shaping, "--queues": w.Queues, "--sources": w.Sources} {
		for _, f := range files {
			args = append(args, flag, f)
		}
	}
	var of cli
	parser, err := kong.New(&of)
	if err != nil {
		return nil, err
	}
	if _, err := parser.Parse(args); err != nil {
		return nil, err
	}
	of.Run.Automation = true
	return &of.Run, nil
}

func until(d time.Duration) string {
	if d == 0 {
		return "until you press Ctrl-C"
	}
	return "for " + d.String()
}
