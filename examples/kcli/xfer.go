package main

import (
	"context"
	"fmt"
	"net/url"
)

type xferCmd struct {
	Reason string `json:"reason" required:"" help:"Why; goes into log records." placeholder:"TEXT"`
	Target string `json:"target" required:"" help:"URL of the HTTP listener of the node that takes the messages." placeholder:"URL"`
	criteria
	routing
	byName
	all
}

func (x *xferCmd) Validate() error {
	if u, err := url.Parse(x.Target); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("--target is %q, want http://HOST:PORT or https://HOST:PORT", x.Target)
	}
	return x.check(x.Everything, x.Queue, x.RoutingDomain)
}

func (x *xferCmd) Run(ctx context.Context, c *console) error {
	if _, err := c.api.read(ctx, "POST", "/api/admin/xfer/v1", nil, x); err != nil {
		return err
	}
	c.note("The transfer runs in the background; there are XferOut records for what went.")
	return nil
}

type xferCancelCmd struct {
	Reason    string `json:"reason" required:"" help:"Why; goes into log records." placeholder:"TEXT"`
	QueueName string `json:"queue_name" arg:"" help:"The queue that waits for transfer: its name ends in .xfer.kumomta.internal."`
}

func (x *xferCancelCmd) Run(ctx context.Context, c *console) error {
	return c.showJSON(ctx, "POST", "/api/admin/xfer/cancel/v1", nil, x)
}
