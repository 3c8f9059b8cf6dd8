package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
)

type rebindCmd struct {
	Reason string `required:"" help:"Why; goes into log records." placeholder:"TEXT"`
	criteria
	routing
	all
	Data               metadata          `help:"Metadata to set, as a JSON object of strings." placeholder:"JSON"`
	Set                map[string]string `mapsep:"none" help:"Metadata to set; repeatable, wins over --data." placeholder:"KEY=VALUE"`
	TriggerRebindEvent bool              `help:"Hand the metadata to the daemon's policy instead of setting it."`
	AlwaysFlush        bool              `help:"Make messages due now even if their queue stays the same."`
	SuppressLogging    bool              `help:"Write no AdminRebind records."`
}

// metadata is a JSON object whose values are strings.
type metadata map[string]string

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *metadata) UnmarshalText(b []byte) error {
	if err := json.Unmarshal(b, (*map[string]string)(m)); err != nil {
		return fmt.Errorf("want a JSON object of strings: %w", err)
	}
	return nil
}

// rebindBody is what the daemon reads.
type rebindBody struct {
	Reason string `json:"reason"`
	criteria
	routing
	Data               metadata `json:"data"`
	SuppressLogging    bool     `json:"suppress_logging,omitempty"`
	TriggerRebindEvent bool     `json:"trigger_rebind_event,omitempty"`
	AlwaysFlush        bool     `json:"always_flush,omitempty"`
}

func (r *rebindCmd) Validate() error { return r.check(r.Everything, nil, r.RoutingDomain) }

func (r *rebindCmd) Run(ctx context.Context, c *console) error {
	data := metadata{}
	maps.Copy(data, r.Data)
	maps.Copy(data, r.Set)
	body := rebindBody{r.Reason, r.criteria, r.routing, data, r.SuppressLogging, r.TriggerRebindEvent, r.AlwaysFlush}
	if _, err := c.api.read(ctx, "POST", "/api/admin/rebind/v1", nil, body); err != nil {
		return err
	}
	c.note("The rebind runs in the background; there is an AdminRebind record for each message that changes its queue.")
	return nil
}
