package mtakit

import (
	"context"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind is the type of a record.
type Kind string

// Kinds of records.
const (
	Reception               Kind = "Reception"
	Delivered               Kind = "Delivery"
	TransientFailure        Kind = "TransientFailure"
	Bounce                  Kind = "Bounce"
	Expiration              Kind = "Expiration"
	AdminBounce             Kind = "AdminBounce"
	OOB                     Kind = "OOB"
	Feedback                Kind = "Feedback"
	Rejection               Kind = "Rejection"
	AdminRebind             Kind = "AdminRebind"
	DeferredInjectionRebind Kind = "DeferredInjectionRebind"
	Delayed                 Kind = "Delayed"
	XferOut                 Kind = "XferOut"
	XferIn                  Kind = "XferIn"
)

// Record is one event. Its JSON form is KumoMTA's log record, with the stream and its sequence number after it.
type Record struct {
	Kind       Kind
	ID         ID // zero for Rejection
	Sender     string
	To         []string // those that the event is about
	Queue      QueueName
	Site       string // name of the ready queue; "" for reception and most of what happens in scheduled queues
	Size       int64
	Response   Response
	PeerName   string         // host name of the peer, or what it called itself
	PeerAddr   netip.AddrPort // invalid is no peer; printed without the port if that is 0
	PeerSecure bool           // the address came from a DNSSEC-secure answer
	Time       time.Time
	Created    time.Time // of the message
	Tries      int       // attempts before this one
	Class      Class     // "" is written Uncategorized

	Pool, Source      string // egress pool and source; "" is none
	SourceAddr        netip.AddrPort
	ProxyServer       netip.AddrPort
	ProxyProtocol     string
	DeliveryProtocol  string // ESMTP …; "" is none
	ReceptionProtocol string // ESMTP, HTTP …; "" is none
	NodeID            string // a UUID
	TLSCipher         string // "" without TLS
	TLSVersion        string
	TLSSubject        []string
	Provider          string
	SessionID         string         // a UUID; "" is none
	FeedbackReport    any            // for Feedback
	Meta              map[string]any // captured
	Headers           map[string]any // captured: string or []string
	Stream            string         // names an unbroken sequence of records; set by what keeps them
	Seq               uint64         // position in the stream, from 1

	// Message and Body are what the event is about, so that a Recorder can capture metadata and headers. They are valid only
	// while Record runs, and not part of the JSON form; each may be nil.
	Message *Message
	Body    Body
}

// Recorder takes records as they happen. Record must not block and must not keep r or what it points to. It is called concurrently.
type Recorder interface{ Record(r *Record) }

// RecorderFunc is a function as a Recorder.
type RecorderFunc func(*Record)

// Record calls f.
func (f RecorderFunc) Record(r *Record) { f(r) }

// Tee gives every record to each of its Recorders, in order.
type Tee []Recorder

// Record implements [Recorder].
func (t Tee) Record(r *Record) {
	for _, rec := range t {
		rec.Record(r)
	}
}

// Pace asks each that is a [Pacer].
func (t Tee) Pace(ctx context.Context) error {
	for _, rec := range t {
		if p, ok := rec.(Pacer); ok {
			if err := p.Pace(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush asks each that is a [Flusher].
func (t Tee) Flush(ctx context.Context) error {
	for _, rec := range t {
		if f, ok := rec.(Flusher); ok {
			if err := f.Flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// WantsBody says whether any of them does.
func (t Tee) WantsBody() bool {
	for _, rec := range t {
		if b, ok := rec.(BodyRecorder); ok && b.WantsBody() {
			return true
		}
	}
	return false
}

// Pacer is a Recorder that can fall behind. Record still takes what comes; before new work begins (a message is accepted, or taken for
// delivery) Pace is asked, so that nothing is lost and nothing in progress is held up.
type Pacer interface {
	Recorder
	// Pace returns nil at once if there is room, else waits for room or the end of ctx, whose error it returns.
	Pace(ctx context.Context) error
}

// Flusher is a Recorder that keeps records in memory for a moment. Before a step that makes an event irreversible (a message leaves the
// spool) Flush returns once what was recorded survives the end of the process; all who wait share one write.
type Flusher interface {
	Recorder
	// Flush returns nil when everything recorded before the call is written, or the error of ctx if that ends first.
	Flush(ctx context.Context) error
}

// BodyRecorder is a Recorder that captures headers, so that records of messages that aren't in memory come with their Body opened.
type BodyRecorder interface {
	Recorder
	WantsBody() bool
}

// AppendJSON appends the record as one JSON object, keys in the order of KumoMTA's records. It does not allocate, but for captured values other than
// strings. Invalid UTF-8 is replaced by U+FFFD.
func (r *Record) AppendJSON(b []byte) []byte {
	b = appendStr(append(b, `{"type":`...), string(r.Kind))
	b = append(b, `,"id":"`...)
	if !r.ID.IsZero() {
		b = r.ID.Append(b)
	}
	b = appendStr(append(b, `","sender":`...), r.Sender)
	b = append(b, `,"recipient":`...)
	switch len(r.To) {
	case 0:
		b = append(b, `""`...)
	case 1:
		b = appendStr(b, r.To[0])
	default:
		b = appendStrs(b, r.To)
	}
	b = append(b, `,"queue":"`...)
	q := r.Queue
	if q.Campaign != "" {
		b = append(appendStrBody(b, q.Campaign), ':')
	}
	b = appendStrBody(b, q.Tenant)
	if q.Campaign != "" || q.Tenant != "" {
		b = append(b, '@')
	}
	b = appendStrBody(b, q.Domain)
	if q.Routing != "" {
		b = appendStrBody(append(b, '!'), q.Routing)
	}
	b = appendStr(append(b, `","site":`...), r.Site)
	b = strconv.AppendInt(append(b, `,"size":`...), r.Size, 10)
	b = r.Response.appendJSON(append(b, `,"response":`...))
	b = append(b, `,"peer_address":`...)
	if r.PeerAddr.IsValid() || r.PeerName != "" {
		b = appendStr(append(b, `{"name":`...), r.PeerName)
		b = appendAddrPort(append(b, `,"addr":"`...), r.PeerAddr)
		b = append(b, '"')
		if r.PeerSecure {
			b = append(b, `,"is_secure":true`...)
		}
		b = append(b, '}')
	} else {
		b = append(b, "null"...)
	}
	b = strconv.AppendInt(append(b, `,"timestamp":`...), r.Time.Unix(), 10)
	b = AppendTimestamp(append(b, `,"event_time":"`...), r.Time)
	b = strconv.AppendInt(append(b, `","created":`...), r.Created.Unix(), 10)
	b = AppendTimestamp(append(b, `,"created_time":"`...), r.Created)
	b = strconv.AppendInt(append(b, `","num_attempts":`...), int64(r.Tries), 10)
	class := r.Class
	if class == "" {
		class = Uncategorized
	}
	b = appendStr(append(b, `,"bounce_classification":`...), string(class))
	b = appendOptStr(append(b, `,"egress_pool":`...), r.Pool)
	b = appendOptStr(append(b, `,"egress_source":`...), r.Source)
	b = append(b, `,"source_address":`...)
	if r.SourceAddr.IsValid() {
		b = append(r.SourceAddr.AppendTo(append(b, `{"address":"`...)), '"')
		if r.ProxyServer.IsValid() {
			b = append(r.ProxyServer.AppendTo(append(b, `,"server":"`...)), '"')
		}
		if r.ProxyProtocol != "" {
			b = appendStr(append(b, `,"protocol":`...), r.ProxyProtocol)
		}
		b = append(b, '}')
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"feedback_report":`...)
	if r.FeedbackReport != nil {
		b = appendAny(b, r.FeedbackReport)
	} else {
		b = append(b, "null"...)
	}
	b = appendMap(append(b, `,"meta":`...), r.Meta)
	b = appendMap(append(b, `,"headers":`...), r.Headers)
	b = appendOptStr(append(b, `,"delivery_protocol":`...), r.DeliveryProtocol)
	b = appendOptStr(append(b, `,"reception_protocol":`...), r.ReceptionProtocol)
	b = appendStr(append(b, `,"nodeid":`...), r.NodeID)
	if r.TLSVersion != "" {
		b = appendStr(append(b, `,"tls_cipher":`...), r.TLSCipher)
		b = appendStr(append(b, `,"tls_protocol_version":`...), r.TLSVersion)
		b = appendStrs(append(b, `,"tls_peer_subject_name":`...), r.TLSSubject)
	}
	if r.Provider != "" {
		b = appendStr(append(b, `,"provider_name":`...), r.Provider)
	}
	if r.SessionID != "" {
		b = appendStr(append(b, `,"session_id":`...), r.SessionID)
	}
	if r.Stream != "" {
		b = appendStr(append(b, `,"stream":`...), r.Stream)
		b = strconv.AppendUint(append(b, `,"seq":`...), r.Seq, 10)
	}
	return append(b, '}')
}

// MarshalJSON is [Record.AppendJSON].
func (r *Record) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

func (r *Response) appendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"code":`...), int64(r.Code), 10)
	if e := r.Enhanced; e[0] != 0 {
		b = strconv.AppendUint(append(b, `,"enhanced_code":{"class":`...), uint64(e[0]), 10)
		b = strconv.AppendUint(append(b, `,"subject":`...), uint64(e[1]), 10)
		b = strconv.AppendUint(append(b, `,"detail":`...), uint64(e[2]), 10)
		b = append(b, `},"content":`...)
	} else {
		b = append(b, `,"enhanced_code":null,"content":`...)
	}
	text := r.Text
	if strings.ContainsAny(text, "\r\n") {
		text = string(AppendOneLine(nil, text))
	}
	b = appendStr(b, text)
	if r.Command == "" {
		return append(b, `,"command":null}`...)
	}
	b = appendStrBody(append(b, `,"command":"`...), r.Command)
	return append(b, `\r\n"}`...)
}

// MarshalJSON writes code, enhanced_code, content on one line, and the command with its CRLF.
func (r Response) MarshalJSON() ([]byte, error) { return r.appendJSON(nil), nil }

// UnmarshalJSON reads what MarshalJSON writes; the command may lack its CRLF.
func (r *Response) UnmarshalJSON(b []byte) error {
	var j struct {
		Code     int `json:"code"`
		Enhanced *struct {
			Class, Subject, Detail uint16
		} `json:"enhanced_code"`
		Content string  `json:"content"`
		Command *string `json:"command"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*r = Response{Code: j.Code, Text: j.Content}
	if e := j.Enhanced; e != nil {
		r.Enhanced = [3]uint16{e.Class, e.Subject, e.Detail}
	}
	if j.Command != nil {
		r.Command = strings.TrimSuffix(*j.Command, "\r\n")
	}
	return nil
}

// UnmarshalJSON reads what AppendJSON writes, and the records of other versions: unknown keys are passed over, event_time and created_time are
// optional.
func (r *Record) UnmarshalJSON(b []byte) error {
	var j struct {
		Type      Kind            `json:"type"`
		ID        ID              `json:"id"`
		Sender    string          `json:"sender"`
		Recipient json.RawMessage `json:"recipient"`
		Queue     QueueName       `json:"queue"`
		Site      string          `json:"site"`
		Size      int64           `json:"size"`
		Response  Response        `json:"response"`
		Peer      *struct {
			Name, Addr string
			IsSecure   bool `json:"is_secure"`
		} `json:"peer_address"`
		Timestamp   int64      `json:"timestamp"`
		EventTime   *time.Time `json:"event_time"`
		Created     int64      `json:"created"`
		CreatedTime *time.Time `json:"created_time"`
		Tries       int        `json:"num_attempts"`
		Class       Class      `json:"bounce_classification"`
		Pool        string     `json:"egress_pool"`
		Source      string     `json:"egress_source"`
		SourceAddr  *struct {
			Address, Server netip.AddrPort
			Protocol        string
		} `json:"source_address"`
		FeedbackReport    any            `json:"feedback_report"`
		Meta              map[string]any `json:"meta"`
		Headers           map[string]any `json:"headers"`
		DeliveryProtocol  string         `json:"delivery_protocol"`
		ReceptionProtocol string         `json:"reception_protocol"`
		NodeID            string         `json:"nodeid"`
		TLSCipher         string         `json:"tls_cipher"`
		TLSVersion        string         `json:"tls_protocol_version"`
		TLSSubject        []string       `json:"tls_peer_subject_name"`
		Provider          string         `json:"provider_name"`
		SessionID         string         `json:"session_id"`
		Stream            string         `json:"stream"`
		Seq               uint64         `json:"seq"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*r = Record{
		Kind: j.Type, ID: j.ID, Sender: j.Sender, Queue: j.Queue, Site: j.Site, Size: j.Size, Response: j.Response,
		Time: time.Unix(j.Timestamp, 0).UTC(), Created: time.Unix(j.Created, 0).UTC(), Tries: j.Tries, Class: j.Class,
		Pool: j.Pool, Source: j.Source, FeedbackReport: j.FeedbackReport, Meta: j.Meta, Headers: j.Headers,
		DeliveryProtocol: j.DeliveryProtocol, ReceptionProtocol: j.ReceptionProtocol, NodeID: j.NodeID,
		TLSCipher: j.TLSCipher, TLSVersion: j.TLSVersion, TLSSubject: j.TLSSubject, Provider: j.Provider,
		SessionID: j.SessionID, Stream: j.Stream, Seq: j.Seq,
	}
	if len(j.Recipient) > 0 && j.Recipient[0] == '[' {
		if err := json.Unmarshal(j.Recipient, &r.To); err != nil {
			return err
		}
	} else if len(j.Recipient) > 0 {
		var to string
		if err := json.Unmarshal(j.Recipient, &to); err != nil {
			return err
		}
		if to != "" {
			r.To = []string{to}
		}
	}
	if j.EventTime != nil {
		r.Time = j.EventTime.UTC()
	}
	if j.CreatedTime != nil {
		r.Created = j.CreatedTime.UTC()
	}
	if p := j.Peer; p != nil {
		r.PeerName, r.PeerSecure = p.Name, p.IsSecure
		if ap, err := netip.ParseAddrPort(p.Addr); err == nil {
			r.PeerAddr = ap
		} else if a, err := netip.ParseAddr(p.Addr); err == nil {
			r.PeerAddr = netip.AddrPortFrom(a, 0)
		} // else a Unix socket, which is not kept
	}
	if s := j.SourceAddr; s != nil {
		r.SourceAddr, r.ProxyServer, r.ProxyProtocol = s.Address, s.Server, s.Protocol
	}
	return nil
}

// AppendTimestamp appends t as RFC 3339 in UTC, with 0, 3, 6 or 9 digits of the second: the fewest that are exact.
func AppendTimestamp(b []byte, t time.Time) []byte {
	layout := "2006-01-02T15:04:05.000000000Z"
	switch ns := t.Nanosecond(); {
	case ns == 0:
		layout = "2006-01-02T15:04:05Z"
	case ns%1e6 == 0:
		layout = "2006-01-02T15:04:05.000Z"
	case ns%1e3 == 0:
		layout = "2006-01-02T15:04:05.000000Z"
	}
	return t.UTC().AppendFormat(b, layout)
}

func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	switch {
	case !a.IsValid():
		return b
	case a.Port() == 0:
		return a.Addr().AppendTo(b)
	}
	return a.AppendTo(b)
}

func appendOptStr(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendStr(b, s)
}

func appendStrs(b []byte, s []string) []byte {
	b = append(b, '[')
	for i, e := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendStr(b, e)
	}
	return append(b, ']')
}

func appendStr(b []byte, s string) []byte { return append(appendStrBody(append(b, '"'), s), '"') }

// appendStrBody escapes s as the inside of a JSON string.
func appendStrBody(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, `\n`...)
			case '\r':
				b = append(b, `\r`...)
			case '\t':
				b = append(b, `\t`...)
			case '\b':
				b = append(b, `\b`...)
			case '\f':
				b = append(b, `\f`...)
			default:
				const hex = "0123456789abcdef"
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(append(b, s[start:i]...), "\ufffd"...)
			i++
			start = i
			continue
		}
		i += n
	}
	return append(b, s[start:]...)
}

// appendMap writes keys in order, so that the same record is always the same bytes.
func appendMap(b []byte, m map[string]any) []byte {
	switch len(m) {
	case 0:
		return append(b, "{}"...)
	case 1:
		for k, v := range m {
			b = append(appendStr(append(b, '{'), k), ':')
			return append(appendAny(b, v), '}')
		}
	}
	return appendAny(b, m)
}

func appendAny(b []byte, v any) []byte {
	if s, ok := v.(string); ok {
		return appendStr(b, s)
	}
	j, err := json.Marshal(v)
	if err != nil {
		return append(b, "null"...) // a value that policy put there and JSON cannot express
	}
	return append(b, j...)
}
