package sink

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/gcra"
)

// RulesHelp explains rules.
const RulesHelp = `A rule is words of the form key=value; it applies where all its conditions do:

  on=PHASE       connect, ehlo, mail, rcpt, data (the command) or dot (the end of the data);
                 default: rcpt with to=, mail with from=, else dot
  to=GLOB        the recipient, as *@slow.example or bounce*; at data and dot: any recipient
  from=GLOB      the sender
  percent=P      P of a hundred times, evenly spread
  first=N        the first N times
  rate=RATE      what exceeds the rate, as 100/s or 10/m,max_burst=1

and says what happens, one or more of:

  delay=DURATION waits, as 2s or 500ms
  close          hangs up, after the reply if there is one
  reply=TEXT     is the reply, to the end of the rule: reply=451 4.7.1 try again later

Rules are tried in order. The first one with a reply or close decides; delays add up. Examples:

  --rule 'to=bounce*@* reply=550 5.1.1 no such user'
  --rule 'to=*@slow.example delay=2s'
  --rule 'on=mail rate=50/s reply=421 4.7.0 too many messages from you'
  --rule 'on=dot percent=1 close'`

// phase is a moment at which rules are asked.
type phase string

const (
	onConnect phase = "connect"
	onEHLO    phase = "ehlo"
	onMail    phase = "mail"
	onRcpt    phase = "rcpt"
	onData    phase = "data"
	onDot     phase = "dot"
)

var phases = []phase{onConnect, onEHLO, onMail, onRcpt, onData, onDot}

// rule is one --rule. It is safe for concurrent use.
type rule struct {
	on       phase
	to, from *regexp.Regexp
	percent  float64 // 0 is always
	first    uint64  // 0 is always
	rate     *gcra.Bucket

	delay time.Duration
	close bool
	reply string // "" is none

	asked atomic.Uint64
}

func parseRule(text string) (*rule, error) {
	r := &rule{}
	bad := func(format string, args ...any) (*rule, error) {
		return nil, fmt.Errorf("rule %q: %s", text, fmt.Sprintf(format, args...))
	}
	conditions, reply, hasReply := strings.Cut(text, "reply=")
	if r.reply = reply; hasReply {
		if _, err := mtakit.ParseResponse(reply); err != nil || strings.ContainsAny(reply, "\r\n") {
			return bad("%q is no reply on one line", reply)
		}
	}
	for word := range strings.FieldsSeq(conditions) {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "on":
			if r.on = phase(value); !slices.Contains(phases, r.on) {
				err = fmt.Errorf("want one of %v", phases)
			}
		case "to":
			r.to = glob(value)
		case "from":
			r.from = glob(value)
		case "percent":
			r.percent, err = strconv.ParseFloat(value, 64)
			if err == nil && !(r.percent > 0 && r.percent <= 100) {
				err = errors.New("want more than 0 and up to 100")
			}
		case "first":
			r.first, err = strconv.ParseUint(value, 10, 64)
			if err == nil && r.first == 0 {
				err = errors.New("want 1 or more")
			}
		case "rate":
			var rate mtakit.Rate
			rate, err = mtakit.ParseRate(value)
			r.rate = gcra.NewStore().Bucket("", rate)
		case "delay":
			r.delay, err = time.ParseDuration(value)
			if err == nil && r.delay <= 0 {
				err = errors.New("want more than 0")
			}
		case "close":
			r.close = true
		default:
			return bad("%q is not known; --help lists the keys", key)
		}
		if err != nil {
			return bad("%s: %v", word, err)
		}
	}
	if r.delay == 0 && !r.close && !hasReply {
		return bad("it has neither delay=, close nor reply=")
	}
	switch {
	case r.on != "":
	case r.to != nil:
		r.on = onRcpt
	case r.from != nil:
		r.on = onMail
	default:
		r.on = onDot
	}
	if r.to != nil && slices.Index(phases, r.on) < slices.Index(phases, onRcpt) || r.from != nil && slices.Index(phases, r.on) < slices.Index(phases, onMail) {
		return bad("at %s the address is not known yet", r.on)
	}
	return r, nil
}

// glob matches without regard to case; * is any text, ? any character.
func glob(s string) *regexp.Regexp {
	s = strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(s))
	return regexp.MustCompile(`(?is)^` + s + `$`)
}

func (r *rule) applies(on phase, from string, to []string, now time.Time) bool {
	if r.on != on || r.from != nil && !r.from.MatchString(from) || r.to != nil && !slices.ContainsFunc(to, r.to.MatchString) {
		return false
	}
	n := r.asked.Add(1)
	if r.first != 0 && n > r.first {
		return false
	}
	if r.percent != 0 && int(float64(n)*r.percent/100) == int(float64(n-1)*r.percent/100) {
		return false
	}
	return r.rate == nil || r.rate.Take(now, 1) > 0
}

// verdict is what the rules say together.
type verdict struct {
	delay time.Duration
	reply string // "" is the ordinary one
	close bool
}

// positive says whether the command is to be accepted.
func (v verdict) positive() bool {
	if v.reply == "" {
		return !v.close
	}
	return v.reply[0] == '2' || v.reply[0] == '3'
}

// Rules are asked in order. They are safe for concurrent use.
type Rules []*rule

// ParseRules reads rules of the form that RulesHelp explains.
func ParseRules(texts []string) (Rules, error) {
	var rs Rules
	for _, text := range texts {
		r, err := parseRule(text)
		if err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	return rs, nil
}

func (rs Rules) ask(on phase, from string, to []string, now time.Time) (v verdict) {
	for _, r := range rs {
		if !r.applies(on, from, to, now) {
			continue
		}
		v.delay += r.delay
		if r.reply != "" || r.close {
			v.reply, v.close = r.reply, r.close
			return v
		}
	}
	return v
}
