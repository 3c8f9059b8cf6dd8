package main

import (
	"errors"
	"strings"

	"github.com/mtakit/mtakit"
)

// criteria choose scheduled queues by the parts of their names, which must all agree; nil agrees with any. Present and empty differs
// from absent: campaign:@domain has an empty tenant.
type criteria struct {
	Domain   *string `json:"domain,omitempty" help:"Queues of this recipient domain." placeholder:"NAME"`
	Campaign *string `json:"campaign,omitempty" help:"Queues of this campaign." placeholder:"NAME"`
	Tenant   *string `json:"tenant,omitempty" help:"Queues of this tenant." placeholder:"NAME"`
}

// routing is one more criterion, where a request has it.
type routing struct {
	RoutingDomain *string `json:"routing_domain,omitempty" help:"Queues whose mail goes to the hosts of this domain." placeholder:"NAME"`
}

// byName chooses scheduled queues by their whole names.
type byName struct {
	Queue []string `json:"queue_names,omitempty" name:"queue" sep:"none" help:"The scheduled queue of this name; repeatable. Excludes other criteria." placeholder:"NAME"`
}

// all chooses all.
type all struct {
	Everything bool `json:"-" help:"All queues. Excludes other criteria."`
}

// check makes sure that what is chosen was meant: all only if that is said.
func (c *criteria) check(everything bool, names []string, routingDomain *string) error {
	some := c.Domain != nil || c.Campaign != nil || c.Tenant != nil || routingDomain != nil
	switch {
	case everything && (some || len(names) > 0):
		return errors.New("--everything excludes other criteria")
	case some && len(names) > 0:
		return errors.New("--queue excludes other criteria")
	case !everything && !some && len(names) == 0:
		return errors.New("say which queues: some criteria, or --everything")
	}
	return nil
}

// scheduledName is the name of a scheduled queue, taken apart once for many rules.
type scheduledName struct {
	mtakit.QueueName
	whole       string
	hasCampaign bool // perhaps an empty one
	hasTenant   bool
}

func parseScheduled(name string) *scheduledName {
	q := &scheduledName{QueueName: mtakit.ParseQueueName(name), whole: name}
	var prefix string
	prefix, _, q.hasTenant = strings.Cut(name, "@")
	q.hasCampaign = q.hasTenant && strings.Contains(prefix, ":")
	return q
}

// matches says whether a queue is chosen.
func (c *criteria) matches(q *scheduledName, routingDomain *string) bool {
	agrees := func(want *string, part string, present bool) bool { return want == nil || present && part == *want }
	return agrees(c.Domain, q.Domain, true) && agrees(c.Campaign, q.Campaign, q.hasCampaign) &&
		agrees(c.Tenant, q.Tenant, q.hasTenant) && agrees(routingDomain, q.Routing, q.Routing != "")
}

// describe lists the criteria, or the names of queues, besides which they don't count, for a daemon that tells them.
func (c *criteria) describe(routingDomain *string, names []string) string {
	if len(names) > 0 {
		return "queue=" + listSome(names)
	}
	var parts []string
	for _, p := range []struct {
		name string
		v    *string
	}{{"campaign", c.Campaign}, {"tenant", c.Tenant}, {"domain", c.Domain}, {"routing_domain", routingDomain}} {
		if p.v != nil {
			parts = append(parts, p.name+"="+*p.v)
		}
	}
	if len(parts) == 0 {
		return "everything"
	}
	return strings.Join(parts, ", ")
}
