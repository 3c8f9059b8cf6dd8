package smtptest

import (
	"net"
	"strings"
	"time"
)

// Rule changes what a [Peer] does at one verb. Its methods return it, so that they can be chained; call them before the
// client comes.
type Rule struct {
	peer  *Peer
	verb  string
	reply string
	match string
	skip  int // matches to pass over
	left  int // matches to come; negative is no end
	delay time.Duration
	raw   bool
	mute  bool
	close bool
	then  func(net.Conn)
}

// Reply makes the peer answer a verb with a reply of one or more lines, "451 4.7.1 slow down" or "250-a\n250 b". Verbs are those of the
// protocol, and CONNECT for the banner and "." for the end of a message. Of several rules that apply the one added
// first does. What a reply means is up to its code: 354 to DATA goes on to the message, 2xx to RCPT takes the recipient,
// and 421 closes the connection.
func (p *Peer) Reply(verb, reply string) *Rule {
	r := &Rule{peer: p, verb: strings.ToUpper(verb), reply: reply, left: -1}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
	return r
}

// On is a rule that leaves the reply as it is, for [Rule.Delay], [Rule.Hangup], [Rule.Mute] and the like.
func (p *Peer) On(verb string) *Rule { return p.Reply(verb, "") }

func (r *Rule) set(f func()) *Rule {
	r.peer.mu.Lock()
	defer r.peer.mu.Unlock()
	f()
	return r
}

// Times ends the rule after it has been applied n times.
func (r *Rule) Times(n int) *Rule { return r.set(func() { r.left = n }) }

// After passes over the first n occasions.
func (r *Rule) After(n int) *Rule { return r.set(func() { r.skip = n }) }

// If applies the rule only to command lines that contain s. At the end of a message that is its sender, or with LMTP the recipient.
func (r *Rule) If(s string) *Rule { return r.set(func() { r.match = s }) }

// Delay waits before the reply.
func (r *Rule) Delay(d time.Duration) *Rule { return r.set(func() { r.delay = d }) }

// Raw writes the reply as it is: neither codes nor line ends are added or understood.
func (r *Rule) Raw() *Rule { return r.set(func() { r.raw = true }) }

// Mute gives no reply and goes on.
func (r *Rule) Mute() *Rule { return r.set(func() { r.mute = true }) }

// Hangup closes the connection after the reply; with [Rule.Mute], instead of it.
func (r *Rule) Hangup() *Rule { return r.set(func() { r.close = true }) }

// Then hands the connection, as it is on the wire, to f after the reply, and closes it when f returns.
func (r *Rule) Then(f func(net.Conn)) *Rule { return r.set(func() { r.then = f }) }

// rule finds the rule for a command, and counts.
func (p *Peer) rule(verb, line string) (Rule, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		if r.verb != verb || r.left == 0 || !strings.Contains(line, r.match) {
			continue
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		if r.left > 0 {
			r.left--
		}
		return *r, true
	}
	return Rule{}, false
}

// Accept takes everything, as a Peer does anyway.
func Accept(*Peer) {}

// Defer refuses every recipient for now.
func Defer(p *Peer) { p.Reply("RCPT", "451 4.3.0 try again later") }

// Bounce refuses every recipient for good.
func Bounce(p *Peer) { p.Reply("RCPT", "550 5.1.1 no such user") }

// Greylist refuses the first n recipients for now.
func Greylist(n int) Preset {
	return func(p *Peer) { p.Reply("RCPT", "450 4.2.0 greylisted").Times(n) }
}

// Busy greets with 421.
func Busy(p *Peer) { p.Reply("CONNECT", "421 4.3.2 too many connections") }

// Tarpit waits before each reply.
func Tarpit(d time.Duration) Preset {
	return func(p *Peer) {
		for _, verb := range []string{"CONNECT", "EHLO", "LHLO", "STARTTLS", "AUTH", "RSET", "MAIL", "RCPT", "DATA", ".", "QUIT"} {
			p.On(verb).Delay(d)
		}
	}
}

// LMTP is [Peer.SetLMTP].
func LMTP(p *Peer) { p.SetLMTP() }

// Extensions is [Peer.SetExtensions].
func Extensions(lines ...string) Preset { return func(p *Peer) { p.SetExtensions(lines...) } }

// StartTLS offers STARTTLS with a certificate of ca for the names.
func StartTLS(ca *CA, names ...string) Preset {
	return func(p *Peer) { p.SetTLS(ca.Config(names...)) }
}
