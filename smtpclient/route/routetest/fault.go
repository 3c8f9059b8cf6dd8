package routetest

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/miekg/dns"
)

// Fault is what goes wrong with answers. Fields can be combined; the zero Fault is none.
type Fault struct {
	Network string // only over udp or tcp; "" is both
	Times   int    // so many answers, then no more; 0 is all

	Rcode         string        // SERVFAIL, REFUSED …: in place of an answer
	Drop          bool          // no answer
	Delay         time.Duration // a late one
	Truncate      bool          // over UDP it says that it is not complete, and is empty
	WrongID       bool
	WrongQuestion bool   // it repeats another question
	WrongCase     bool   // it spells the question in the other case
	Answer        string // zone lines put before the answers
	Extra         string // zone lines put into the additional section

	Packet func([]byte) []byte // changes what is sent; nil is not sent
}

// Fail makes answers go wrong: those for a name, for one type of a name ("example.com", "example.com/MX"), or all (""), which counts
// where nothing closer does. A zero Fault sets it right. It panics if zone lines of f can't be read.
func (s *Server) Fail(what string, f Fault) {
	for _, text := range []string{f.Answer, f.Extra} {
		if _, err := records(text); err != nil {
			panic(fmt.Sprintf("routetest: fault: %v", err))
		}
	}
	if _, ok := dns.StringToRcode[f.Rcode]; f.Rcode != "" && !ok {
		panic(fmt.Sprintf("routetest: fault: there is no response code %q", f.Rcode))
	}
	if name, typ, ok := strings.Cut(what, "/"); ok {
		what = strings.ToLower(name) + "/" + strings.ToUpper(typ)
	} else {
		what = strings.ToLower(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[what] = &f
}

// change applies to m what can be said in a message.
func (f *Fault) change(network string, m *dns.Msg) {
	before, _ := records(f.Answer) // Fail has read them
	m.Answer = append(before, m.Answer...)
	extra, _ := records(f.Extra)
	m.Extra = append(m.Extra, extra...)
	if f.Truncate && network == "udp" {
		m.Answer, m.Ns = nil, nil
	}
	q := &m.Question[0]
	if f.WrongID {
		m.Id ^= 1
	}
	if f.WrongQuestion {
		q.Name = "other." + q.Name
	}
	if f.WrongCase {
		q.Name = strings.Map(func(r rune) rune {
			if unicode.IsUpper(r) {
				return unicode.ToLower(r)
			}
			return unicode.ToUpper(r)
		}, q.Name)
	}
}
