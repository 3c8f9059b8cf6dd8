package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi/template"
	"github.com/mtakit/mtakit/queue/xfer"
)

// Config says how an API works. Fields that aren't marked as required may be zero.
type Config struct {
	// Queue is what the endpoints for administration steer. Nil: there are none.
	Queue *queue.Queue
	// Activity is what the endpoints for the history and for failures tell about. Nil: there are none.
	Activity *queue.Activity
	// Outbound and Inbound are what is watched through the websockets for traces: of the SMTP client, and of the SMTP server. Nil: there is no endpoint.
	// Close them to end the websockets, which an http.Server's Shutdown leaves open.
	Outbound, Inbound *mtakit.Traces
	// Xfer is the end of transfers of messages between nodes that is here. Nil: there are no endpoints for them.
	Xfer *xfer.Node
	// Submit takes responsibility for messages. Default: Queue's; one of both is required.
	Submit func(ctx context.Context, batch []mtakit.Submission, d mtakit.Durability) error
	// NewID makes the ids of messages. Default: Queue's; one of both is required.
	NewID func() mtakit.ID
	// Trouble says what is wrong at the moment, so that no mail is taken. Nil: nothing ever is.
	Trouble func() Trouble

	// Hostname is the name of this machine, as Received fields have it. Default: the system's.
	Hostname string
	// ListenerHostname goes into the metadata of messages. Default: Hostname.
	ListenerHostname string

	// Trusted are the networks whose clients may do everything without a password. Nil: loopback. Empty and not nil: nobody. A client on this machine has to
	// ask for an address, localhost, Hostname or the system's name, so that a page that a browser here has open can't be it.
	Trusted mtakit.Prefixes
	// Auth checks the passwords of HTTP Basic authentication. Nil: none is valid.
	Auth mtakit.Authenticator
	// Bearer checks tokens; the error wraps mtakit.ErrBadCredentials where the token is to blame. Nil: none is valid.
	Bearer func(ctx context.Context, token string) (*mtakit.Identity, error)
	// Permit decides who may do what. Nil: [DefaultPermit].
	Permit func(ctx context.Context, a *Access) (Permission, error)

	// BodyLimit is the largest request body, after decompression. Default 2 MiB.
	BodyLimit int64
	// XferLimit is BodyLimit for messages that another node sends. Default 64 MiB, or BodyLimit if that is more.
	XferLimit int64
	// BodyTimeout is how long a client may take to send its body. Default 60s; negative is no limit.
	BodyTimeout time.Duration
	// MaxInFlight is how many bytes of request bodies are worked on at once, of all injections together. Further ones wait; what waits and is large is in
	// a temporary file. Memory in use is a small multiple of it. Default 32 MiB.
	MaxInFlight int64
	// TempDir is for large bodies. Default: the system's.
	TempDir string

	// RecipientRate limits how many recipients are injected over HTTP; a request over the limit waits. It needs Throttles.
	RecipientRate mtakit.Rate
	Throttles     mtakit.Throttles

	// Generated is called for each message before it is submitted, and may change it, its body included. An error fails that
	// recipient, except a [*mtakit.Delay], which sets when the message is due. It is called concurrently.
	Generated func(ctx context.Context, s *mtakit.Submission, a *AuthInfo) error
	// Template bounds the rendering of one template.
	Template template.Limits
	// Random makes the boundaries of messages; nil is crypto/rand. Give a seeded one, safe for concurrent use, to repeat a run.
	Random io.Reader
	// Now is the clock of messages; nil is time.Now.
	Now func() time.Time

	// Answers keeps the answers to requests with an Idempotency-Key; package answerfile does so on disk. Nil: in memory, the last 10,000 of a day.
	Answers Answers
	// Update saves the envelope and metadata of a message; Update of a mtakit.Spool fits. With it, deferred generation goes on where it was when it is
	// interrupted, rather than beginning again.
	Update func(ctx context.Context, m *mtakit.Message) error

	// SetLogFilter changes what is logged; package logfilter has one that fits. Nil: there is no endpoint for it.
	SetLogFilter func(filter string) error
	// Compact gives back what the spool of that name has no use for, and returns when that is done. An error names what went wrong, for example that
	// there is no such spool. Nil: there is no endpoint for it.
	Compact func(ctx context.Context, name string) error
	// Reload reads again what may have changed without notice, at the request of the endpoint bump-config-epoch, before the queue asks Policy anew. Nil: there
	// is nothing to read.
	Reload func(ctx context.Context)

	// NodeID, Version and ProcessKind are told by the endpoint machine-info. Version is that of the program by default, ProcessKind is "kumod".
	NodeID, Version, ProcessKind string

	// Log is for what the operator should know. Nil: discarded.
	Log *slog.Logger
}

// Trouble is a set of reasons not to take mail.
type Trouble uint8

// Reasons not to take mail.
const (
	Stopping   Trouble = 1 << iota // the process is shutting down
	Overloaded                     // memory is short
	Starting                       // the spool has not been opened yet
	Full                           // storage is short
	Unhealthy                      // the spool refuses writes
)

// TroubleOf is what errors of a spool, an event log and a [queue.Queue] mean; nil ones mean nothing.
func TroubleOf(errs ...error) (t Trouble) {
	for _, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, mtakit.ErrClosed):
			t |= Stopping
		case errors.Is(err, mtakit.ErrOverloaded):
			t |= Overloaded
		case errors.Is(err, mtakit.ErrSpoolFull):
			t |= Full
		default:
			t |= Unhealthy
		}
	}
	return t
}

func (c *Config) withDefaults() error {
	if c.Queue != nil && c.Submit == nil {
		c.Submit = c.Queue.Submit
	}
	if c.Queue != nil && c.NewID == nil {
		c.NewID = c.Queue.NewID
	}
	switch {
	case c.Submit == nil:
		return errors.New("httpapi: Config has neither Queue nor Submit")
	case c.NewID == nil:
		return errors.New("httpapi: Config has neither Queue nor NewID")
	case c.BodyLimit < 0 || c.XferLimit < 0 || c.MaxInFlight < 0:
		return errors.New("httpapi: Config has a negative size")
	case !c.RecipientRate.IsZero() && c.Throttles == nil:
		return fmt.Errorf("httpapi: Config.RecipientRate is %s, but Config.Throttles is missing", c.RecipientRate)
	}
	if c.Trouble == nil {
		c.Trouble = func() Trouble { return 0 }
	}
	if c.Hostname == "" {
		var err error
		if c.Hostname, err = os.Hostname(); err != nil {
			c.Hostname = "localhost"
		}
	}
	if c.ListenerHostname == "" {
		c.ListenerHostname = c.Hostname
	}
	if c.Trusted == nil {
		c.Trusted = mtakit.Prefixes{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	if c.Permit == nil {
		c.Permit = DefaultPermit
	}
	if c.BodyLimit == 0 {
		c.BodyLimit = 2 << 20
	}
	if c.XferLimit == 0 {
		c.XferLimit = max(64<<20, c.BodyLimit)
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = time.Minute
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 32 << 20
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Answers == nil {
		c.Answers = &MemoryAnswers{}
	}
	if c.Version == "" {
		if b, ok := debug.ReadBuildInfo(); ok {
			c.Version = b.Main.Version
		}
	}
	if c.ProcessKind == "" {
		c.ProcessKind = "kumod"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}
