package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi"
)

// traceFlags are common to both traces.
type traceFlags struct {
	Color     string `help:"Colours: tty, which is where stdout is a terminal, yes or no." enum:"tty,yes,no" default:"tty" placeholder:"WHEN"`
	OnlyNew   bool   `help:"Leave out sessions that had begun before."`
	OnlyOne   bool   `help:"Follow the first session, and end with it."`
	Terse     bool   `help:"Show the first line only of what has several."`
	Reconnect bool   `help:"Go on when the daemon ends the trace, as it does when it restarts."`
}

type traceClientCmd struct {
	traceFlags
	Source        []cidr   `help:"Sessions from these addresses; repeatable." placeholder:"CIDR"`
	MXAddr        []cidr   `name:"mx-addr" help:"Sessions with hosts of these addresses; repeatable." placeholder:"CIDR"`
	MXHost        []string `name:"mx-host" sep:"none" help:"Sessions with this host; repeatable." placeholder:"NAME"`
	Domain        []string `sep:"none" help:"Messages for this domain; repeatable." placeholder:"NAME"`
	RoutingDomain []string `sep:"none" help:"Messages that go to the hosts of this domain; repeatable." placeholder:"NAME"`
	Campaign      []string `sep:"none" help:"Messages of this campaign; repeatable." placeholder:"NAME"`
	Tenant        []string `sep:"none" help:"Messages of this tenant; repeatable." placeholder:"NAME"`
	EgressPool    []string `sep:"none" help:"Sessions of this egress pool; repeatable." placeholder:"NAME"`
	EgressSource  []string `sep:"none" help:"Sessions of this egress source; repeatable." placeholder:"NAME"`
	MailFrom      []string `sep:"none" help:"Messages of this envelope sender; repeatable." placeholder:"ADDRESS"`
	RcptTo        []string `sep:"none" help:"Messages for this recipient; repeatable." placeholder:"ADDRESS"`
	ReadyQueue    []string `sep:"none" help:"Sessions of this ready queue; repeatable." placeholder:"NAME"`
}

// traceClientBody and traceServerBody are what the daemon reads: null where any address will do, as KumoMTA's takes an empty list for none.
type traceClientBody struct {
	httpapi.ClientTraceRequest
	SourceAddr *mtakit.Prefixes `json:"source_addr"`
	MXAddr     *mtakit.Prefixes `json:"mx_addr"`
}

type traceServerBody struct {
	httpapi.ServerTraceRequest
	SourceAddr *mtakit.Prefixes `json:"source_addr"`
}

func (t *traceClientCmd) Run(ctx context.Context, c *console) error {
	body := traceClientBody{SourceAddr: prefixes(t.Source), MXAddr: prefixes(t.MXAddr)}
	body.Terse = t.Terse
	p := newTracePrinter(c, t.traceFlags, clientSide)
	if len(t.Source) > 0 {
		p.require("source_address", nil)
	}
	if len(t.MXAddr) > 0 {
		p.require("mx_address", nil)
	}
	for _, f := range []struct {
		key  string
		from []string
		to   *[]string
	}{
		{"mx_host", t.MXHost, &body.MXHost}, {"domain", t.Domain, &body.Domain}, {"routing_domain", t.RoutingDomain, &body.RoutingDomain},
		{"campaign", t.Campaign, &body.Campaign}, {"tenant", t.Tenant, &body.Tenant}, {"egress_pool", t.EgressPool, &body.EgressPool},
		{"egress_source", t.EgressSource, &body.EgressSource}, {"sender", t.MailFrom, &body.MailFrom}, {"recipient", t.RcptTo, &body.RcptTo},
		{"ready_queue_name", t.ReadyQueue, &body.ReadyQueue},
	} {
		*f.to = append([]string{}, f.from...) // null is no list for KumoMTA
		if len(f.from) > 0 {
			p.require(f.key, f.from)
		}
	}
	return t.follow(ctx, c, "/api/admin/trace-smtp-client/v1", body, p)
}

type traceServerCmd struct {
	traceFlags
	Source []cidr `help:"Sessions of clients with these addresses; repeatable." placeholder:"CIDR"`
}

func (t *traceServerCmd) Run(ctx context.Context, c *console) error {
	body := traceServerBody{SourceAddr: prefixes(t.Source)}
	body.Terse = t.Terse
	return t.follow(ctx, c, "/api/admin/trace-smtp-server/v1", body, newTracePrinter(c, t.traceFlags, serverSide))
}

const (
	maxFrame       = 16 << 20
	reconnectDelay = time.Second
)

// errTraceDone is the end of the session that was followed.
var errTraceDone = errors.New("the session ended")

// follow prints events until ctx ends, the daemon ends the trace, or the only session of interest has ended.
func (t *traceFlags) follow(ctx context.Context, c *console, path string, body any, p *tracePrinter) error {
	for {
		err := c.api.trace(ctx, path, body, p.print)
		var refused *statusError
		switch {
		case errors.Is(err, errTraceDone), ctx.Err() != nil:
			return nil
		case !t.Reconnect, errors.As(err, &refused), p.only != "": // whose end is lost
			return err
		}
		c.note("%s; trying again", printable(err.Error()))
		p.forget()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reconnectDelay):
		}
	}
}

// trace opens a websocket, sends the request and hands events to f until one of the two, or f, ends it. The error is never nil.
func (c *client) trace(ctx context.Context, path string, body any, f func(*traceEvent) error) error {
	u := *c.base.JoinPath(path)
	u.Scheme = map[string]string{"http": "ws", "https": "wss"}[u.Scheme]
	conn, resp, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{HTTPClient: c.http})
	if err != nil {
		if resp != nil && resp.StatusCode != 101 && resp.Body != nil {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
			return &statusError{resp.StatusCode, strings.TrimSpace(string(text))}
		}
		return c.unreachable(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxFrame)
	request, err := json.Marshal(body)
	if err == nil {
		err = conn.Write(ctx, websocket.MessageText, request)
	}
	if err != nil {
		return err
	}
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("the daemon ended the trace: %w", err)
		}
		var e traceEvent
		if err := json.Unmarshal(frame, &e); err != nil {
			return fmt.Errorf("an event of the trace is not understood: %w", err)
		}
		if err := f(&e); err != nil {
			return err
		}
	}
}

// cidr is an address or a network.
type cidr struct{ prefix netip.Prefix }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *cidr) UnmarshalText(b []byte) (err error) {
	n.prefix, err = mtakit.ParsePrefix(string(b))
	return err
}

// prefixes is the list of networks, nil where there are none.
func prefixes(list []cidr) *mtakit.Prefixes {
	if len(list) == 0 {
		return nil
	}
	p := make(mtakit.Prefixes, len(list))
	for i, n := range list {
		p[i] = n.prefix
	}
	return &p
}
