package httpapi

import (
	"encoding/json"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mtakit/mtakit"
)

// failures is the recipients that got no message, with the reasons, as JSON already: there may be many.
type failures struct {
	count              int
	recipients, errors []byte
}

func (f *failures) add(email string, err error) {
	if f.count++; f.count > 1 {
		f.recipients, f.errors = append(f.recipients, ','), append(f.errors, ',')
	}
	f.recipients = appendString(f.recipients, email)
	f.errors = appendString(f.errors, email+": "+string(mtakit.AppendOneLine(nil, err.Error())))
}

// appendString appends a JSON string; what is not UTF-8 is replaced.
func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // the error says only that it was not
	return b
}

// result is the answer to the request.
func (in *injection) result() []byte { return resultJSON(in.accepted, &in.failures) }

// restore takes up again what result returned.
func (in *injection) restore(result []byte) error {
	var r struct {
		Accepted   int               `json:"success_count"`
		Recipients []json.RawMessage `json:"failed_recipients"`
		Errors     []json.RawMessage `json:"errors"`
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return err
	}
	in.accepted = r.Accepted
	in.failures = failures{count: len(r.Recipients)}
	for i, v := range r.Recipients {
		if i > 0 {
			in.failures.recipients = append(in.failures.recipients, ',')
		}
		in.failures.recipients = append(in.failures.recipients, v...)
	}
	for i, v := range r.Errors {
		if i > 0 {
			in.failures.errors = append(in.failures.errors, ',')
		}
		in.failures.errors = append(in.failures.errors, v...)
	}
	return nil
}

func resultJSON(accepted int, f *failures) []byte {
	b := make([]byte, 0, 96+len(f.recipients)+len(f.errors))
	b = strconv.AppendInt(append(b, `{"success_count":`...), int64(accepted), 10)
	b = strconv.AppendInt(append(b, `,"fail_count":`...), int64(f.count), 10)
	b = append(append(b, `,"failed_recipients":[`...), f.recipients...)
	b = append(append(b, `],"errors":[`...), f.errors...)
	return append(b, "]}"...)
}
