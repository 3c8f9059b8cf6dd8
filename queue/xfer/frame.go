package xfer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/metajson"
)

// ErrMalformed is wrapped where what a node sent is not a message.
var ErrMalformed = errors.New("malformed transfer")

const (
	envelopeMax = 4 << 20 // of the line of JSON
	rcptsMax    = 100_000
)

// envelope is the line before the bytes of a message.
type envelope struct {
	ID     mtakit.ID    `json:"id"`
	Sender string       `json:"sender"`
	To     recipients   `json:"recipient"`
	Meta   metajson.Map `json:"meta"`
}

// recipients are written as a list, and read as one or as a single text.
type recipients []string

// UnmarshalJSON implements json.Unmarshaler.
func (r *recipients) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*r = make(recipients, 1)
		return json.Unmarshal(b, &(*r)[0])
	}
	return json.Unmarshal(b, (*[]string)(r))
}

// appendEnvelope appends the line for m, as the node called node sends it.
func appendEnvelope(b []byte, m *mtakit.Message, node string) ([]byte, error) {
	meta := make(map[string]any, len(m.Meta)+2)
	for k, v := range m.Meta {
		meta[k] = v
	}
	meta[MetaPriorID], meta[MetaPriorNode] = m.ID.String(), node
	w := bytes.NewBuffer(b)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(envelope{m.ID, m.Sender, m.To, meta}); err != nil { // with a line end
		return nil, fmt.Errorf("xfer: %w", err)
	}
	return w.Bytes(), nil
}

// split takes a payload apart; body shares its memory. Errors wrap ErrMalformed.
func split(payload []byte) (e *envelope, body []byte, err error) {
	line, body, ok := bytes.Cut(payload, []byte("\n"))
	switch {
	case !ok:
		return nil, nil, fmt.Errorf("%w: there is no line end after the envelope", ErrMalformed)
	case len(line) > envelopeMax:
		return nil, nil, fmt.Errorf("%w: the envelope is longer than %d bytes", ErrMalformed, envelopeMax)
	}
	e = new(envelope)
	if err := json.Unmarshal(line, e); err != nil {
		return nil, nil, fmt.Errorf("%w: envelope: %w", ErrMalformed, err)
	}
	switch {
	case e.ID.Time().IsZero():
		return nil, nil, fmt.Errorf("%w: the id carries no time", ErrMalformed)
	case len(e.To) == 0 || len(e.To) > rcptsMax:
		return nil, nil, fmt.Errorf("%w: %d recipients", ErrMalformed, len(e.To))
	}
	for _, a := range append([]string{e.Sender}, e.To...) {
		if strings.ContainsFunc(a, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, nil, fmt.Errorf("%w: %.100q is no address", ErrMalformed, a)
		}
	}
	return e, body, nil
}
