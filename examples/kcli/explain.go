package main

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/mtakit/mtakit"
)

type explainCmd struct {
	Address string `arg:"" optional:"" help:"Address of a recipient."`
	Queue   string `help:"Explain a scheduled queue, which need not exist." placeholder:"NAME"`
	ID      string `name:"id" help:"Explain a message: where it is, and when it is tried next." placeholder:"ID"`
	All     bool   `help:"Show what is left at its default too."`
	JSON    bool   `name:"json" help:"Print what the daemon answers."`
}

// subject is the query for what is to be explained; there is one such thing.
func (x *explainCmd) subject() url.Values {
	q := url.Values{}
	for _, s := range []struct{ name, value string }{{"address", x.Address}, {"queue", x.Queue}, {"id", x.ID}} {
		if s.value != "" {
			q.Set(s.name, s.value)
		}
	}
	return q
}

func (x *explainCmd) Validate() error {
	if len(x.subject()) != 1 {
		return &usageError{"say what to explain: an address, or --queue, or --id"}
	}
	return nil
}

func (x *explainCmd) Run(ctx context.Context, c *console) error {
	const path = "/api/admin/explain/v1"
	if x.JSON {
		return c.showJSON(ctx, "GET", path, x.subject(), nil)
	}
	var e explanation
	err := c.api.get(ctx, path, x.subject(), &e)
	if status, ok := errors.AsType[*statusError](err); ok && status.code == http.StatusNotFound && status.body == "" {
		return errors.New("this daemon can't explain: it is an older one, or KumoMTA's")
	}
	if err != nil {
		return err
	}
	b := bufio.NewWriter(c.out)
	(&explainPrinter{w: b, now: e.Now, all: x.All}).print(&e)
	return b.Flush()
}

// explanation is what is shown of the answer; null is what is not known.
type explanation struct {
	Now       time.Time         `json:"now"`
	Queue     string            `json:"queue"`
	Message   *explainedMessage `json:"message"`
	Next      *time.Time        `json:"next_attempt"`
	Holds     []hold            `json:"holds"`
	Scheduled *struct {
		Messages int64 `json:"messages"`
		Due      int64 `json:"due"`
		InFlight int64 `json:"in_flight"`
	} `json:"scheduled_queue"`
	Settings    []setting  `json:"settings"`
	SettingsErr string     `json:"settings_error"`
	Limits      []limitUse `json:"limits"`
	Site        *struct {
		Name  string `json:"name"`
		Hosts []struct {
			Name       string `json:"name"`
			Preference uint16 `json:"preference"`
		} `json:"hosts"`
	} `json:"site"`
	RouteErr string `json:"route_error"`
	Pool     string `json:"egress_pool"`
	PoolErr  string `json:"pool_error"`
	Chosen   string `json:"chosen_source"` // whose turn it is
	Sources  []way  `json:"sources"`
}

type explainedMessage struct {
	ID         string     `json:"id"`
	Sender     string     `json:"sender"`
	Recipients []string   `json:"recipients"`
	Size       int64      `json:"size"`
	Due        *time.Time `json:"due"`
	Expires    *time.Time `json:"expires"`
	Tries      int64      `json:"num_attempts"`
	Where      string     `json:"where"`
	ReadyQueue string     `json:"ready_queue"`
	Session    string     `json:"session_id"`
	Ahead      int64      `json:"ahead"`
}

// hold is what keeps mail from going out, until it ends, where that is known.
type hold struct {
	Reason string     `json:"reason"`
	Text   string     `json:"text"`
	Until  *time.Time `json:"until"`
}

// setting is an option that is in force, and what set it.
type setting struct {
	Option string   `json:"option"`
	Value  jsonText `json:"value"`
	By     string   `json:"by"`
	Place  *place   `json:"place"`
	Next   jsonText `json:"next"` // the value from the next refresh on, where it is another
}

// place is in a file of the daemon's machine.
type place struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

type limitUse struct {
	Setting string           `json:"setting"`
	Name    string           `json:"name"`
	Limit   string           `json:"limit"`
	Most    int64            `json:"most"`
	Used    *int64           `json:"used"`
	Wait    *mtakit.Duration `json:"wait"` // until there is room
}

// way is how mail goes by one source.
type way struct {
	Name     string       `json:"name"`
	Weight   int64        `json:"weight"`
	Share    float64      `json:"share"` // of the pool's mail
	Place    *place       `json:"place"`
	Hold     *hold        `json:"hold"`
	Err      string       `json:"error"`
	Settings []setting    `json:"settings"`
	Ready    string       `json:"ready_queue"`
	Path     []setting    `json:"path"`
	Ceilings *constraints `json:"constraints"`
	Limits   []limitUse   `json:"limits"`
}
