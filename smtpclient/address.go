package smtpclient

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// appendPath appends an address as it stands between the angle brackets of MAIL and RCPT: the local part is quoted where it has to
// be, the domain has A-labels. What cannot be written so that it stays one address is an error.
func appendPath(dst []byte, addr string) ([]byte, error) {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 {
		if strings.EqualFold(addr, "postmaster") {
			return append(dst, addr...), nil
		}
		return dst, fmt.Errorf("%q has no domain", addr)
	}
	local, domain := addr[:at], addr[at+1:]
	dst, err := appendLocal(dst, local)
	if err != nil {
		return dst, fmt.Errorf("%q %w", addr, err)
	}
	if dst, err = appendDomain(append(dst, '@'), domain); err != nil {
		return dst, fmt.Errorf("%q %w", addr, err)
	}
	return dst, nil
}

// localClass says for each ASCII byte what it is in a local part.
var localClass = func() (t [128]byte) {
	for c := range t {
		switch {
		case c < ' ' || c == 0x7f:
			t[c] = 'x' // never
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(".!#$%&'*+-/=?^_`{|}~", byte(c)) >= 0:
			t[c] = 'a' // as it is
		default:
			t[c] = 'q' // quoted
		}
	}
	return t
}()

func appendLocal(dst []byte, local string) ([]byte, error) {
	quote, ascii := local == "", true
	for i := 0; i < len(local); i++ {
		if local[i] >= utf8.RuneSelf {
			ascii = false
			continue
		}
		switch localClass[local[i]] {
		case 'x':
			return dst, fmt.Errorf("has a control character")
		case 'q':
			quote = true
		}
	}
	if !ascii && !utf8.ValidString(local) {
		return dst, fmt.Errorf("is not valid UTF-8")
	}
	if !quote || isQuoted(local) {
		return append(dst, local...), nil
	}
	dst = append(dst, '"')
	for i := 0; i < len(local); i++ {
		if local[i] == '"' || local[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, local[i])
	}
	return append(dst, '"'), nil
}

// isQuoted says whether s is a quoted string (RFC 5321, 4.1.2).
func isQuoted(s string) bool {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return false
	}
	for i := 1; i < len(s)-1; i++ {
		switch s[i] {
		case '"':
			return false
		case '\\':
			if i++; i == len(s)-1 {
				return false
			}
		}
	}
	return true
}

func appendDomain(dst []byte, domain string) ([]byte, error) {
	if domain == "" {
		return dst, fmt.Errorf("has an empty domain")
	}
	if !isASCII(domain) {
		a, err := toASCII(domain)
		if err != nil {
			return dst, fmt.Errorf("has a domain that is no host name: %w", err)
		}
		domain = a
	}
	literal := domain[0] == '['
	for i := 0; i < len(domain); i++ {
		switch c := domain[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		case literal && (c == ':' || c == '[' && i == 0 || c == ']' && i == len(domain)-1):
		default:
			return dst, fmt.Errorf("has a domain with %q in it", c)
		}
	}
	return append(dst, domain...), nil
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// lookupProfile allows underscores, which hosts of mail exchangers have.
var lookupProfile = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))

// toASCII turns U-labels into A-labels.
func toASCII(name string) (string, error) {
	if isASCII(name) {
		return name, nil
	}
	return lookupProfile.ToASCII(name)
}
