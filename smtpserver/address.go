package smtpserver

import (
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/rfc5322"
)

// parsePath reads the argument of MAIL FROM: or RCPT TO: (RFC 5321, 4.1.2; RFC 6531, 3.3) up to the parameters, which it returns as rest. The
// brackets may be missing, and a source route is dropped. The address is as it will be given to the next host: the local part
// byte for byte with its quotes, an internationalised domain as A-labels. "" is the null path.
func parsePath(s string) (address, rest string, err error) {
	s = strings.TrimLeft(s, " ")
	s, bracket := strings.CutPrefix(s, "<")
	if bracket {
		if rest, ok := strings.CutPrefix(s, ">"); ok {
			return "", rest, separate(rest)
		}
		if strings.HasPrefix(s, "@") {
			if s, err = cutRoute(s); err != nil {
				return "", "", err
			}
		}
	}
	local, rest, ok := rfc5322.CutLocalPart(s)
	if !ok {
		return "", "", rfc5322.ErrBadAddress
	}
	if given, ok := strings.CutPrefix(rest, "@"); ok {
		var domain string
		if domain, rest, ok = rfc5322.CutDomain(given); !ok {
			return "", "", rfc5322.ErrBadAddress
		}
		if strings.HasPrefix(given, domain) {
			address = s[:len(local)+len("@")+len(domain)] // most often, and no copy
		} else {
			address = local + "@" + domain
		}
	} else if address = local; !strings.EqualFold(local, "postmaster") {
		return "", "", rfc5322.ErrBadAddress
	}
	if bracket {
		if rest, ok = strings.CutPrefix(rest, ">"); !ok {
			return "", "", rfc5322.ErrBadAddress
		}
	}
	return address, rest, separate(rest)
}

// separate checks that parameters are set off by a space.
func separate(rest string) error {
	if rest != "" && rest[0] != ' ' {
		return rfc5322.ErrBadAddress
	}
	return nil
}

// cutRoute drops "@a,@b:" (RFC 5321, appendix C).
func cutRoute(s string) (string, error) {
	for {
		_, rest, ok := rfc5322.CutDomain(s[1:])
		if !ok {
			return "", rfc5322.ErrBadAddress
		}
		if mailbox, ok := strings.CutPrefix(rest, ":"); ok {
			return mailbox, nil
		}
		if s = strings.TrimPrefix(rest, ","); s == rest || !strings.HasPrefix(s, "@") {
			return "", rfc5322.ErrBadAddress
		}
	}
}

func cutPrefixFold(s, prefix string) (rest string, ok bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

func lowerDomain(address string) string { return strings.ToLower(mtakit.Domain(address)) }

// parseHelo checks what a client calls itself: a domain or a literal by the book, in practice any word. What could break out of the
// Received field is refused.
func parseHelo(s string) (string, bool) {
	s = strings.Trim(s, " ")
	if s == "" || len(s) > 255 {
		return "", false
	}
	if domain, rest, ok := rfc5322.CutDomain(s); ok && rest == "" {
		return domain, true
	}
	return s, strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>;,"\`, r)
	}) < 0
}
