package main

import (
	"context"
	"slices"
	"time"

	"github.com/mtakit/mtakit"
)

const (
	suspendPath       = "/api/admin/suspend/v1"
	suspendReadyQPath = "/api/admin/suspend-ready-q/v1"
)

type suspendCmd struct {
	Reason string `json:"reason" required:"" help:"Why; goes into log records and listings." placeholder:"TEXT"`
	criteria
	byName
	all
	Duration *mtakit.Duration `json:"duration,omitempty" help:"For how long. The daemon's default is 5m." placeholder:"DURATION"`
}

func (s *suspendCmd) Validate() error { return s.check(s.Everything, s.Queue, nil) }

func (s *suspendCmd) Run(ctx context.Context, c *console) error {
	return c.showJSON(ctx, "POST", suspendPath, nil, s)
}

type suspendListCmd struct{}

func (suspendListCmd) Run(ctx context.Context, c *console) error {
	return c.showJSON(ctx, "GET", suspendPath, nil, nil)
}

type suspendCancelCmd struct{ cancelByID }

func (s *suspendCancelCmd) Run(ctx context.Context, c *console) error {
	return c.showText(ctx, "DELETE", suspendPath, s)
}

// suspension is a suspension of scheduled queues. KumoMTA's doesn't tell Queues.
type suspension struct {
	ID string `json:"id"`
	criteria
	Queues   []string        `json:"queue_names"`
	Reason   string          `json:"reason"`
	Duration mtakit.Duration `json:"duration"`
}

func (s *suspension) matches(queue *scheduledName) bool {
	if len(s.Queues) > 0 {
		return slices.Contains(s.Queues, queue.whole)
	}
	return s.criteria.matches(queue, nil)
}

type suspendReadyQCmd struct {
	Name     string           `json:"name" required:"" help:"Name of the ready queue: SOURCE->SITE@PROTOCOL." placeholder:"NAME"`
	Reason   string           `json:"reason" required:"" help:"Why; goes into listings." placeholder:"TEXT"`
	Duration *mtakit.Duration `json:"duration,omitempty" help:"For how long. The daemon's default is 5m." placeholder:"DURATION"`
}

func (s *suspendReadyQCmd) Run(ctx context.Context, c *console) error {
	return c.showJSON(ctx, "POST", suspendReadyQPath, nil, s)
}

type suspendReadyQListCmd struct{}

func (suspendReadyQListCmd) Run(ctx context.Context, c *console) error {
	return c.showJSON(ctx, "GET", suspendReadyQPath, nil, nil)
}

type suspendReadyQCancelCmd struct{ cancelByID }

func (s *suspendReadyQCancelCmd) Run(ctx context.Context, c *console) error {
	return c.showText(ctx, "DELETE", suspendReadyQPath, s)
}

// readySuspension is a suspension of a ready queue.
type readySuspension struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Reason   string          `json:"reason"`
	Duration mtakit.Duration `json:"duration"`
	Expires  time.Time       `json:"expires"`
}
