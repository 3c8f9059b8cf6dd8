package queuefile

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/mtakit/mtakit"
)

// Apply is for each message at reception. It takes schedule, campaign and tenant from the headers, as the files say, checks that the
// sender may send for the tenant, and sets the metadata from which the queue's name is made: campaign, tenant, routing_domain.
//
// header returns the decoded text of the first field of a name, if there is one; (rfc5322.Header).Text does. All fields that remove
// names are to be removed from the message. The error, if any, is a [*mtakit.Reject].
func (q *Queues) Apply(m *mtakit.Message, header func(name string) (text string, ok bool)) (remove []string, err error) {
	take := func(name string, removed bool) (string, bool) {
		if name == "" {
			return "", false
		}
		text, ok := header(name)
		if ok && removed {
			remove = append(remove, name)
		}
		return text, ok
	}
	if text, ok := take(q.schedulingHeader, true); ok {
		s := &mtakit.Schedule{}
		if err := json.Unmarshal([]byte(text), s); err != nil {
			return remove, reject("'%s' header: %v", q.schedulingHeader, err)
		}
		m.Schedule = s
	}
	if m.Meta == nil {
		m.Meta = make(map[string]any)
	}
	if text, ok := take(q.campaignHeader, q.removeCampaign); ok {
		m.Meta[mtakit.MetaCampaign] = text
	}
	name, ok := take(q.tenantHeader, q.removeTenant)
	by := "'" + q.tenantHeader + "' header"
	if !ok {
		name, ok, by = q.defaultTenant, q.hasDefaultTenant, "default_tenant option"
	}
	if ok {
		if err := q.mayUse(m, name, by); err != nil {
			return remove, err
		}
		m.Meta[mtakit.MetaTenant] = name
	}
	if len(m.To) > 0 {
		domain := strings.ToLower(mtakit.Domain(m.To[0]))
		if to := q.routing(q.recipe(domain, m.MetaString(mtakit.MetaTenant), m.MetaString(mtakit.MetaCampaign))); to != "" {
			m.Meta[mtakit.MetaRoutingDomain] = to
		}
	}
	return remove, nil
}

// mayUse says why the message may not be sent for the tenant.
func (q *Queues) mayUse(m *mtakit.Message, name, by string) error {
	t := q.tenants[name]
	if t == nil {
		return reject("tenant '%s' specified by %s is not defined in your queue config", name, by)
	}
	if t.authz == nil {
		return nil
	}
	who := m.MetaString(mtakit.MetaAuthzID)
	switch {
	case who == "":
		return reject("tenant '%s' requires SMTP AUTH", name)
	case !slices.Contains(t.authz, who):
		return reject("authz_id '%s' is not authorized to send as tenant '%s'", who, name)
	}
	return nil
}

// reject answers with a text that may hold what was decoded from a header: on one line, without control characters.
func reject(format string, args ...any) error {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	return &mtakit.Reject{Response: mtakit.Response{Code: 500, Text: text}}
}

// Ready takes one unit of the rate of the message's tenant, then of that of its campaign. A [*mtakit.Delay] says that there is none; other
// errors are those of th.
func (q *Queues) Ready(ctx context.Context, th mtakit.Throttles, m *mtakit.Message) error {
	for _, r := range q.Rates(m.MetaString(mtakit.MetaTenant), m.MetaString(mtakit.MetaCampaign)) {
		wait, err := th.Take(ctx, r.Name, r.Rate, 1)
		if err != nil {
			return err
		}
		if wait > 0 {
			return &mtakit.Delay{For: wait, Reason: r.Name}
		}
	}
	return nil
}

// Rates are the rates of a tenant and a campaign, under the keys they are counted by.
func (q *Queues) Rates(tenant, campaign string) (rates mtakit.NamedRates) {
	t := q.tenants[tenant]
	if t == nil {
		return nil
	}
	if !t.rate.IsZero() {
		rates = append(rates, mtakit.NamedRate{Name: "queue-helper-tenant-overall_max_message_rate-" + tenant, Rate: t.rate})
	}
	if r := t.campaigns[campaign]; !r.IsZero() {
		rates = append(rates, mtakit.NamedRate{Name: "queue-helper-tenant-campaign-overall_max_message_rate-" + tenant + "-" + campaign, Rate: r})
	}
	return rates
}
