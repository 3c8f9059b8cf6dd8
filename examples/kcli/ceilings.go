package main

import (
	"fmt"
	"io"
)

// constraints are the limits that win on a path, as inspect-ready-q and resolve-egress-path tell them; nil is no limit.
type constraints struct {
	Dispatchers   *ceiling `json:"max_concurrent_dispatchers"`
	MessageRate   *ceiling `json:"max_message_rate"`
	Declared      *string  `json:"max_message_rate_declared"`
	Connections   *ceiling `json:"max_connection_rate"`
	SelectionRate *ceiling `json:"max_source_selection_rate"`
}

type ceiling struct {
	Display string `json:"display"`
	Source  struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"source"`
}

// from says which setting makes the ceiling; primary and additional are the settings that may.
func (c *ceiling) from(primary, additional string) string {
	switch c.Source.Kind {
	case "primary":
		return primary
	case "additional":
		return additional + " " + c.Source.Name
	case "reconnect_cycling":
		return "max_deliveries_per_connection × max_connection_rate"
	case "other":
		return c.Source.Name
	}
	return c.Source.Kind
}

func (c *constraints) print(w io.Writer, indent string) {
	for _, l := range []struct {
		label, primary, additional string
		limit                      *ceiling
	}{
		{"concurrent dispatchers:", "connection_limit", "additional_connection_limits", c.Dispatchers},
		{"message rate:", "max_message_rate", "additional_message_rate_throttles", c.MessageRate},
		{"connection rate:", "max_connection_rate", "max_connection_rate", c.Connections},
		{"source selection rate:", "source_selection_rate", "additional_source_selection_rates", c.SelectionRate},
	} {
		if l.limit == nil {
			continue
		}
		fmt.Fprintf(w, "%s%-23s %s\n", indent, l.label, cell(l.limit.Display))
		fmt.Fprintf(w, "%s  source: %s\n", indent, cell(l.limit.from(l.primary, l.additional)))
		if l.limit == c.MessageRate && c.Declared != nil {
			fmt.Fprintf(w, "%s  declared: max_message_rate = %s ← effectively unreachable\n", indent, cell(*c.Declared))
		}
	}
}
