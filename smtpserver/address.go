package smtpserver

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/mtakit/mtakit"
)

// domains turns U-labels into A-labels. Underscores are allowed, since some domains that get mail have them.
var domains = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.BidiRule())

var (
	errAddress   = errors.New("not an address")
	errLocalPart = errors.New("bad local part")
	errDomain    = errors.New("bad domain")
	errLiteral   = errors.New("bad address literal")
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
	n, err := localPart(s)
	if err != nil {
		return "", "", err
	}
	local, rest := s[:n], s[n:]
	if !strings.HasPrefix(rest, "@") {
		if !strings.EqualFold(local, "postmaster") {
			return "", "", errAddress
		}
		address = local
	} else {
		var domain string
		if domain, rest, err = parseDomain(rest[1:]); err != nil {
			return "", "", err
		}
		if mailbox := s[n+1:]; strings.HasPrefix(mailbox, domain) {
			address = s[:n+1+len(domain)] // most often, and no copy
		} else {
			address = local + "@" + domain
		}
	}
	if bracket {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, ">"); !ok {
			return "", "", errAddress
		}
	}
	return address, rest, separate(rest)
}

// separate checks that parameters are set off by a space.
func separate(rest string) error {
	if rest != "" && rest[0] != ' ' {
		return errAddress
	}
	return nil
}

// cutRoute drops "@a,@b:" (RFC 5321, appendix C).
func cutRoute(s string) (string, error) {
	for {
		_, rest, err := parseDomain(s[1:])
		if err != nil {
			return "", err
		}
		if mailbox, ok := strings.CutPrefix(rest, ":"); ok {
			return mailbox, nil
		}
		if s = strings.TrimPrefix(rest, ","); s == rest || !strings.HasPrefix(s, "@") {
			return "", errAddress
		}
	}
}

// localPart returns how long the local part is that s begins with: a dot-string or a quoted string. RFC 5321 allows 64 octets; senders
// that put a recipient into the sender's local part need more.
func localPart(s string) (int, error) {
	if strings.HasPrefix(s, `"`) {
		for i := 1; i < len(s); i++ {
			switch c := s[i]; {
			case c == '"':
				if i > 255 {
					return 0, errLocalPart
				}
				return i + 1, nil
			case c == '\\':
				if i++; i == len(s) || s[i] < ' ' || s[i] >= 0x7f {
					return 0, errLocalPart
				}
			case c < ' ' || c == 0x7f:
				return 0, errLocalPart
			}
		}
		return 0, errLocalPart
	}
	n := 0
	for n < len(s) && (isAtext(s[n]) || s[n] == '.') {
		n++
	}
	if l := s[:n]; l == "" || n > 255 || l[0] == '.' || l[n-1] == '.' || strings.Contains(l, "..") {
		return 0, errLocalPart
	}
	return n, nil
}

// isAtext: RFC 5322, 3.2.3, and octets of UTF-8; commands are valid UTF-8.
func isAtext(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= utf8.RuneSelf ||
		strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// parseDomain reads a domain or an address literal.
func parseDomain(s string) (domain, rest string, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 || !isLiteral(s[1:end]) {
			return "", "", errLiteral
		}
		return s[:end+1], s[end+1:], nil
	}
	n, ascii := 0, true
	for n < len(s) && (isDomainByte(s[n]) || s[n] == '.') {
		ascii = ascii && s[n] < utf8.RuneSelf
		n++
	}
	domain, rest = s[:n], s[n:]
	if !ascii {
		if domain, err = domains.ToASCII(domain); err != nil {
			return "", "", errDomain
		}
	}
	if domain == "" || len(domain) > 253 {
		return "", "", errDomain
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.IndexFunc(label, notDomain) >= 0 {
			return "", "", errDomain
		}
	}
	return domain, rest, nil
}

func isDomainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c >= utf8.RuneSelf
}

func notDomain(r rune) bool { return r >= utf8.RuneSelf || !isDomainByte(byte(r)) }

// isLiteral: RFC 5321, 4.1.3, without the brackets.
func isLiteral(s string) bool {
	if v6, ok := cutPrefixFold(s, "IPv6:"); ok {
		a, err := netip.ParseAddr(v6)
		return err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
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
	if domain, rest, err := parseDomain(s); err == nil && rest == "" {
		return domain, true
	}
	return s, strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>;,"\`, r)
	}) < 0
}
