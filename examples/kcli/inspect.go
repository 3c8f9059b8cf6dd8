package main

import (
	"context"
	"net/url"
	"strconv"
)

type inspectMessageCmd struct {
	WantBody bool   `help:"Show its text too."`
	ID       string `arg:"" help:"Its spool id, as log records have it."`
}

func (i *inspectMessageCmd) Run(ctx context.Context, c *console) error {
	q := url.Values{"id": {i.ID}}
	if i.WantBody {
		q.Set("want_body", "true")
	}
	return c.showJSON(ctx, "GET", "/api/admin/inspect-message/v1", q, nil)
}

type inspectSchedQCmd struct {
	WantBody bool   `help:"Show the texts of messages too."`
	Limit    *uint  `help:"How many messages to show at most. Default: 5." placeholder:"N" xor:"limit"`
	NoLimit  bool   `help:"Show all messages." xor:"limit"`
	Queue    string `arg:"" help:"Its name: CAMPAIGN:TENANT@DOMAIN, or as much of that as it has."`
}

func (i *inspectSchedQCmd) Run(ctx context.Context, c *console) error {
	q := url.Values{"queue_name": {i.Queue}}
	if i.WantBody {
		q.Set("want_body", "true")
	}
	limit := uint(5)
	if i.Limit != nil {
		limit = *i.Limit
	}
	if !i.NoLimit {
		q.Set("limit", strconv.FormatUint(uint64(limit), 10))
	}
	return c.showJSON(ctx, "GET", "/api/admin/inspect-sched-q/v1", q, nil)
}

type abortReadyQConnCmd struct {
	Queue   string `json:"queue_name" arg:"" help:"Name of the ready queue."`
	Session string `json:"session_id" arg:"" name:"uuid" help:"Id of the connection, as inspect-ready-q --connections shows it."`
}

func (a *abortReadyQConnCmd) Run(ctx context.Context, c *console) error {
	return c.showText(ctx, "POST", "/api/admin/abort-ready-q-conn/v1", a)
}
