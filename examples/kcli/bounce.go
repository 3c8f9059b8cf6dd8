package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/mtakit/mtakit"
)

const bouncePath = "/api/admin/bounce/v1"

type bounceCmd struct {
	Reason string `json:"reason" required:"" help:"Why; goes into log records and listings." placeholder:"TEXT"`
	criteria
	routing
	byName
	all
	SuppressLogging bool             `json:"suppress_logging,omitempty" help:"Write no AdminBounce records."`
	Duration        *mtakit.Duration `json:"duration,omitempty" help:"How long the bounce stays in force for messages that come. The daemon's default is 5m." placeholder:"DURATION"`
}

func (b *bounceCmd) Validate() error { return b.check(b.Everything, b.Queue, b.RoutingDomain) }

func (b *bounceCmd) Run(ctx context.Context, c *console) error {
	var answer struct {
		ID string `json:"id"`
	}
	text, err := c.api.read(ctx, "POST", bouncePath, nil, b)
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		return err
	}
	c.note("The bounce runs in the background; bounce-list shows how far it is, and bounce-cancel --id ends it:")
	_, err = fmt.Fprintln(c.out, printable(answer.ID))
	return err
}

// bounceEntry is a bounce in force. KumoMTA's doesn't tell Queues.
type bounceEntry struct {
	ID string `json:"id"`
	criteria
	routing
	Queues   []string        `json:"queue_names"`
	Reason   string          `json:"reason"`
	Duration mtakit.Duration `json:"duration"`
	Total    int64           `json:"total_bounced"`
}

func (e *bounceEntry) matches(queue *scheduledName) bool {
	if len(e.Queues) > 0 {
		return slices.Contains(e.Queues, queue.whole)
	}
	return e.criteria.matches(queue, e.RoutingDomain)
}

type bounceListCmd struct {
	JSON bool `name:"json" help:"Print what the daemon answers, with the count for each queue."`
}

func (l *bounceListCmd) Run(ctx context.Context, c *console) error {
	if l.JSON {
		return c.showJSON(ctx, "GET", bouncePath, nil, nil)
	}
	var entries []bounceEntry
	if err := c.api.get(ctx, bouncePath, nil, &entries); err != nil {
		return err
	}
	t := table{head: []column{left("ID"), left("REASON"), left("REMAIN"), right("BOUNCED"), left("CRITERIA")}}
	for _, e := range entries {
		t.add(e.ID, e.Reason, brief(e.Duration), thousands(e.Total), e.describe(e.RoutingDomain, e.Queues))
	}
	return t.print(c.out)
}

// cancelByID is the body that ends what has an id.
type cancelByID struct {
	ID string `json:"id" required:"" help:"Its id, as the listing shows it." placeholder:"UUID"`
}

type bounceCancelCmd struct{ cancelByID }

func (b *bounceCancelCmd) Run(ctx context.Context, c *console) error {
	return c.showText(ctx, "DELETE", bouncePath, b)
}
