package route

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/miekg/dns"
)

// udpSize is the largest answer asked for over UDP: it passes everywhere without fragments, which can be forged (RFC 9715, 3).
const udpSize = 1232

var (
	errNotOurs   = errors.New("a packet that does not answer the question")
	errCase      = errors.New("the answer spells the question differently")
	errReferral  = errors.New("the server refers to others instead of asking them")
	errTruncated = errors.New("the answer is truncated")
)

// rcodeError is an answer that is none, SERVFAIL for example.
type rcodeError int

func (e rcodeError) Error() string {
	if s := dns.RcodeToString[int(e)]; s != "" {
		return s
	}
	return "unknown response code"
}

func isRcode(err error) bool {
	_, ok := errors.AsType[rcodeError](err)
	return ok
}

// query is one question as it goes over the wire. Who wants to forge an answer without seeing the question has to guess the port, the ID and
// the case of each letter of the name (draft-vixie-dnsext-dns0x20).
type query struct {
	id     uint16
	name   string // fully qualified, in random case
	typ    uint16
	packet []byte
}

func newQuery(name string, typ uint16) (*query, error) {
	var random [2 + 32]byte // the ID, and a bit for each byte of the longest name
	rand.Read(random[:])    // never fails
	q := &query{id: binary.BigEndian.Uint16(random[:]), typ: typ}
	spelled := append([]byte(name), '.')
	for i, c := range spelled {
		if random[2+i/8]>>(i%8)&1 == 1 && 'a' <= c && c <= 'z' {
			spelled[i] = c - 'a' + 'A'
		}
	}
	q.name = string(spelled)
	m := dns.Msg{
		// AD in a question asks for AD in the answer (RFC 6840, 5.7), without the signatures that DO would bring.
		MsgHdr:   dns.MsgHdr{Id: q.id, RecursionDesired: true, AuthenticatedData: true},
		Question: []dns.Question{{Name: q.name, Qtype: typ, Qclass: dns.ClassINET}},
	}
	m.SetEdns0(udpSize, false)
	var err error
	q.packet, err = m.Pack()
	return q, err
}

// read takes a packet as the answer to q. errNotOurs means that it may be forged or late, and that the answer may still come; the other errors
// say what is wrong with the answer. anyCase is for connections, which are hard to forge.
func (q *query) read(packet []byte, anyCase bool) (*dns.Msg, error) {
	if len(packet) < 12 || binary.BigEndian.Uint16(packet) != q.id { // most of what is not ours costs no more than this
		return nil, errNotOurs
	}
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil && !m.Truncated {
		return nil, errNotOurs
	}
	if !m.Response || m.Opcode != dns.OpcodeQuery || len(m.Question) != 1 {
		return nil, errNotOurs
	}
	switch asked := m.Question[0]; {
	case asked.Qtype != q.typ || asked.Qclass != dns.ClassINET || !strings.EqualFold(asked.Name, q.name):
		return nil, errNotOurs
	case m.Truncated:
		return nil, errTruncated
	case asked.Name != q.name && !anyCase:
		return nil, errCase
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, rcodeError(m.Rcode)
	case isReferral(m):
		return nil, errReferral
	}
	return m, nil
}

// isReferral tells a server that does not resolve from one that found no record (RFC 2308, 2.2): the difference between trying elsewhere and
// sending the mail to the domain itself.
func isReferral(m *dns.Msg) bool {
	referral := false
	for _, rr := range m.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return false
		case dns.TypeNS:
			referral = true
		}
	}
	return referral && !m.Authoritative && len(m.Answer) == 0 && m.Rcode == dns.RcodeSuccess
}
