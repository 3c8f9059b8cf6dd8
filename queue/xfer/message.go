package xfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

// Names of metadata of messages that are on their way to another node, or came from one.
const (
	MetaQueueInfo = "xfer_queue_info"  // what a message had before Redirect
	MetaPriorID   = "xfer_prior_id"    // its id at the sender
	MetaPriorNode = "xfer_prior_node"  // the sender's node id
	MetaFrom      = queue.MetaXferFrom // the sender's address
	MetaVia       = "xfer_via"         // our side of its connection, IP:port
	MetaAuth      = "xfer_auth"        // who it was by authentication, or its address
)

// ErrBadTarget is wrapped where something is not the URL of a node.
var ErrBadTarget = errors.New("not the URL of a node")

// targetMax is how long the URL of a node may be: it is in the name of a queue.
const targetMax = 512

// QueueName is the name of the queue of messages that go to target, the URL of a node such as "http://10.0.0.2:8000". A path is of no importance, but
// is kept in the name. Errors wrap ErrBadTarget.
func QueueName(target string) (mtakit.QueueName, error) {
	u, err := parseTarget(target)
	if err != nil {
		return mtakit.QueueName{}, err
	}
	name := mtakit.QueueName{Domain: u.String() + queue.XferSuffix}
	if mtakit.ParseQueueName(name.Domain) != name {
		return mtakit.QueueName{}, fmt.Errorf("xfer: %q is %w: it has an @ or ! in it", target, ErrBadTarget)
	}
	return name, nil
}

// parseTarget reads the URL of a node in the one form that stands for it: lower case, without a port that goes without saying, with a path.
func parseTarget(target string) (*url.URL, error) {
	bad := func(why string) (*url.URL, error) {
		return nil, fmt.Errorf("xfer: %.200q is %w: %s", target, ErrBadTarget, why)
	}
	u, err := url.Parse(target)
	switch {
	case len(target) > targetMax:
		return bad(fmt.Sprintf("it is longer than %d bytes", targetMax))
	case err != nil:
		return bad("it is no URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("it does not begin with http:// or https://")
	case u.Hostname() == "":
		return bad("it has no host")
	case u.User != nil:
		return bad("it has a user name, which everybody would see in the name of the queue")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return bad("it has a query or a fragment")
	}
	u.Host = strings.ToLower(u.Host)
	if u.Scheme == "http" {
		u.Host = strings.TrimSuffix(u.Host, ":80")
	} else {
		u.Host = strings.TrimSuffix(u.Host, ":443")
	}
	u.Host = strings.TrimSuffix(u.Host, ":")
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// isXfer says whether it is the name of a queue to another node.
func isXfer(q mtakit.QueueName) bool { return strings.HasSuffix(q.Domain, queue.XferSuffix) }

// Target is the URL of the node to which m is to go; "" if it is to go elsewhere.
func Target(m *mtakit.Message) string {
	q := m.Queue
	if q == (mtakit.QueueName{}) {
		q, _ = m.DeriveQueue()
	}
	if !isXfer(q) {
		return ""
	}
	return strings.TrimSuffix(q.Domain, queue.XferSuffix)
}

// queueInfo is what Redirect keeps, as the value of MetaQueueInfo.
type queueInfo struct {
	Queue    *string          `json:"queue,omitempty"`
	Routing  *string          `json:"routing_domain,omitempty"`
	Tenant   *string          `json:"tenant,omitempty"`
	Campaign *string          `json:"campaign,omitempty"`
	Schedule *mtakit.Schedule `json:"schedule,omitempty"`
	Tries    int              `json:"num_attempts"`
	Due      *time.Time       `json:"due,omitempty"`
}

// metas are the metadata of which a queue's name is made.
func (i *queueInfo) metas() map[string]**string {
	return map[string]**string{
		mtakit.MetaQueue: &i.Queue, mtakit.MetaRoutingDomain: &i.Routing, mtakit.MetaTenant: &i.Tenant, mtakit.MetaCampaign: &i.Campaign,
	}
}

// Redirect gives m the queue that goes to target, at once, and keeps in its metadata what it had: queue, schedule, due time and tries. A message that is in
// such a queue already goes elsewhere with what was kept first. It is for callbacks too: in Policy.Retry, for example, set Due and Tries before to what the
// target is to inherit. Errors leave m as it was.
func Redirect(m *mtakit.Message, target string) error {
	to, err := QueueName(target)
	if err != nil {
		return err
	}
	if Target(m) != "" && m.Meta[MetaQueueInfo] != nil {
		if m.Queue != to {
			m.Meta[mtakit.MetaQueue], m.Queue, m.Due, m.Tries = to.String(), to, time.Time{}, 0
		}
		return nil
	}
	derived, err := m.DeriveQueue()
	info := queueInfo{Tries: m.Tries, Schedule: m.Schedule}
	for key, v := range info.metas() {
		if s, ok := m.Meta[key].(string); ok {
			*v = &s
		}
	}
	switch {
	case m.Queue != (mtakit.QueueName{}) && (err != nil || m.Queue != derived): // its metadata don't lead there
		name := m.Queue.String()
		info.Queue = &name
	case err != nil:
		return err
	}
	if !m.Due.IsZero() {
		due := m.Due.UTC()
		info.Due = &due
	}
	kept, err := toJSON(&info)
	if err != nil {
		return fmt.Errorf("xfer: %w", err)
	}
	if m.Meta == nil {
		m.Meta = make(map[string]any)
	}
	for key := range info.metas() {
		delete(m.Meta, key)
	}
	m.Meta[MetaQueueInfo], m.Meta[mtakit.MetaQueue] = kept, to.String()
	m.Queue, m.Due, m.Tries, m.Schedule = to, time.Time{}, 0, nil
	return nil
}

// Restore undoes Redirect. A message that is in the queue to another node without anything kept goes where its recipient leads; others stay as they
// are. Errors leave m as it was.
func Restore(m *mtakit.Message) error {
	kept, ok := m.Meta[MetaQueueInfo]
	if !ok {
		if Target(m) == "" {
			return nil
		}
		delete(m.Meta, mtakit.MetaQueue)
		q, err := m.DeriveQueue()
		m.Queue = q
		return err
	}
	var info queueInfo
	if err := fromJSON(kept, &info); err != nil {
		return fmt.Errorf("xfer: %s: %w", MetaQueueInfo, err)
	}
	if info.Tries < 0 {
		return fmt.Errorf("xfer: %s: num_attempts is %d", MetaQueueInfo, info.Tries)
	}
	for key, v := range info.metas() {
		delete(m.Meta, key)
		if *v != nil {
			m.Meta[key] = **v
		}
	}
	delete(m.Meta, MetaQueueInfo)
	m.Queue, _ = m.DeriveQueue() // they are strings
	m.Tries, m.Schedule, m.Due = info.Tries, info.Schedule, time.Time{}
	if info.Due != nil {
		m.Due = *info.Due
	}
	return nil
}

// toJSON turns v into the values that JSON has.
func toJSON(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out any
	err = json.Unmarshal(b, &out)
	return out, err
}

func fromJSON(v, dst any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, dst)
}
