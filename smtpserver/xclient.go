package smtpserver

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/mtakit/mtakit"
)

// xclient is XCLIENT: a client that is trusted says whose session this really is. It begins anew, with the banner.
func (s *Session) xclient(arg string) {
	switch {
	case !on(s.opt.AllowXCLIENT):
		s.reply(550, enhanced{}, "insufficient authorization")
		return
	case s.open:
		s.reply(503, enhanced{}, "mail transaction in progress")
		return
	}
	peer, err := parseXClient(arg, s.peer)
	if err != nil {
		s.reply(501, enhanced{}, err.Error())
		return
	}
	s.moved(s.peer, peer)
	s.helo, s.identity = "", nil
	for _, k := range [...]string{mtakit.MetaEHLODomain, mtakit.MetaAuthnID, mtakit.MetaAuthzID} {
		delete(s.meta, k)
	}
	if s.parameters() {
		s.banner()
	}
}

// parseXClient changes the parts of peer that are named.
func parseXClient(arg string, peer mtakit.Peer) (mtakit.Peer, error) {
	for word := range strings.FieldsSeq(arg) {
		name, value, _ := strings.Cut(word, "=")
		name = strings.ToUpper(name)
		at := &peer.Addr
		if strings.HasPrefix(name, "DEST") {
			at = &peer.Local
		}
		switch name {
		case "ADDR", "DESTADDR":
			v6, _ := cutPrefixFold(value, "IPV6:")
			a, err := netip.ParseAddr(v6)
			if err != nil {
				return peer, fmt.Errorf("%s %s is invalid", name, value)
			}
			*at = netip.AddrPortFrom(a.Unmap().WithZone(""), at.Port())
		case "PORT", "DESTPORT":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return peer, fmt.Errorf("%s %s is invalid", name, value)
			}
			*at = netip.AddrPortFrom(at.Addr(), uint16(n))
		default:
			return peer, fmt.Errorf("parameter %s is not supported", name)
		}
	}
	return peer, nil
}
