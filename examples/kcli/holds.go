package main

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// holds are the rules and states that keep queues from sending.
type holds struct {
	suspended []suspension
	bounced   []bounceEntry
	ready     map[string]string // reason of the suspension by ready queue
	states    map[string]map[string]condition
}

// readHolds asks for all of them, in the order in which the original's kcli does.
func readHolds(ctx context.Context, api *client) (*holds, error) {
	h := &holds{ready: make(map[string]string)}
	if err := api.get(ctx, suspendPath, nil, &h.suspended); err != nil {
		return nil, err
	}
	if err := api.get(ctx, bouncePath, nil, &h.bounced); err != nil {
		return nil, err
	}
	var ready []readySuspension
	if err := api.get(ctx, suspendReadyQPath, nil, &ready); err != nil {
		return nil, err
	}
	for _, s := range ready {
		h.ready[s.Name] = s.Reason
	}
	var states struct {
		ByQueue map[string]map[string]condition `json:"states_by_ready_queue"`
	}
	if err := api.get(ctx, "/api/admin/ready-q-states/v1", nil, &states); err != nil {
		return nil, err
	}
	h.states = states.ByQueue
	return h, nil
}

// ofReady tells what holds a ready queue; "" is nothing.
func (h *holds) ofReady(name string) string {
	var status []string
	if reason, ok := h.ready[name]; ok {
		status = append(status, "🛑suspend: "+reason)
	}
	states := h.states[name]
	for _, state := range slices.Sorted(maps.Keys(states)) {
		status = append(status, state+": "+states[state].Context+" @ "+states[state].Since)
	}
	return strings.Join(status, ", ")
}

// ofScheduled tells what befalls a scheduled queue; "" is nothing.
func (h *holds) ofScheduled(name string) string {
	q := parseScheduled(name)
	for _, b := range h.bounced {
		if b.matches(q) {
			return "🗑️ bounce: " + b.Reason
		}
	}
	for _, s := range h.suspended {
		if s.matches(q) {
			return "🛑suspend: " + s.Reason
		}
	}
	return ""
}
