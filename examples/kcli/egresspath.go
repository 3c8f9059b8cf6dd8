package main

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
)

const egressPathPath = "/api/admin/resolve-egress-path/v1"

type resolveEgressPathCmd struct {
	Config      bool   `help:"Show the settings only." xor:"part"`
	Constraints bool   `help:"Show the limits only." xor:"part"`
	JSON        bool   `name:"json" help:"Print what the daemon answers." xor:"part"`
	Domain      string `arg:"" help:"Domain of recipients."`
	Source      string `arg:"" optional:"" default:"unspecified" help:"Egress source."`
}

// egressPath is the answer of resolve-egress-path.
type egressPath struct {
	Domain string      `json:"domain"`
	Source string      `json:"source"`
	MX     *mx         `json:"mx"`
	Queue  string      `json:"queue_name"`
	Config jsonText    `json:"path_config"`
	Limits constraints `json:"constraints"`
}

func (r *resolveEgressPathCmd) Run(ctx context.Context, c *console) error {
	q := url.Values{"domain": {r.Domain}, "source": {r.Source}}
	if r.JSON {
		return c.showJSON(ctx, "GET", egressPathPath, q, nil)
	}
	var p egressPath
	if err := c.api.get(ctx, egressPathPath, q, &p); err != nil {
		return err
	}
	w := bufio.NewWriter(c.out)
	fmt.Fprintf(w, "domain: %s\nsource: %s\nqueue:  %s\n\n", cell(p.Domain), cell(p.Source), cell(p.Queue))
	if p.MX != nil {
		p.MX.print(w)
	} else {
		fmt.Fprintln(w, "mx: <not resolved>")
	}
	if !r.Constraints {
		fmt.Fprint(w, "\n--- egress path config ---\n\n")
		if err := printTOML(w, "", p.Config); err != nil {
			return err
		}
	}
	if !r.Config {
		fmt.Fprint(w, "\n--- effective ceilings ---\n\n")
		p.Limits.print(w, "")
	}
	return w.Flush()
}
