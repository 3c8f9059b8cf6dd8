package main

import "context"

type setLogFilterCmd struct {
	Filter string `json:"filter" arg:"" help:"For example kumod=trace."`
}

func (s *setLogFilterCmd) Run(ctx context.Context, c *console) error {
	return c.showText(ctx, "POST", "/api/admin/set_diagnostic_log_filter/v1", s)
}

type spoolCompactCmd struct {
	Name string `json:"name" required:"" help:"Name of the spool." placeholder:"NAME"`
}

func (s *spoolCompactCmd) Run(ctx context.Context, c *console) error {
	_, err := c.api.read(ctx, "POST", "/api/admin/spool-compact/v1", nil, s)
	return err
}
