package rfc5322

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// ErrBadAddress is wrapped by the errors about addresses.
var ErrBadAddress = errors.New("not an address")

// domains turns U-labels into A-labels. Underscores are allowed, since some domains that get mail have them.
var domains = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.BidiRule())

// ParseAddress checks an address as an envelope has it: local part, @ and domain (RFC 5321, 4.1.2), in UTF-8 (RFC 6531, 3.3), with or without
// angle brackets. It returns the address without them, the local part byte for byte with its quotes and an internationalised domain as
// A-labels. No address that it returns holds a control character, a bracket outside quotes, or white space outside quotes. The error wraps [ErrBadAddress].
func ParseAddress(s string) (string, error) {
	a := s
	if strings.HasPrefix(a, "<") && strings.HasSuffix(a, ">") {
		a = a[1 : len(a)-1]
	}
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("rfc5322: %.200q is %w: %s", s, ErrBadAddress, why)
	}
	if !utf8.ValidString(a) {
		return bad("it is not UTF-8")
	}
	local, rest, ok := CutLocalPart(a)
	if !ok {
		return bad("the local part is malformed")
	}
	given, ok := strings.CutPrefix(rest, "@")
	if !ok {
		return bad("there is no @ after the local part")
	}
	domain, rest, ok := CutDomain(given)
	switch {
	case ok && rest == "" && domain == given:
		return a, nil
	case ok && rest == "":
		return local + "@" + domain, nil
	case strings.HasPrefix(given, "["):
		return bad("the address literal is malformed")
	}
	return bad("the domain is malformed")
}

// CutLocalPart cuts off the local part that s begins with, a dot-string or a quoted string with its quotes; s is valid UTF-8. ok is false if there is
// none. RFC 5321 allows 64 octets; up to 256 are taken, since senders that put a recipient into the local part need more.
func CutLocalPart(s string) (local, rest string, ok bool) {
	n := 0
	if strings.HasPrefix(s, `"`) {
		n = quotedLen(s)
	} else {
		for n < len(s) && (isAtext(s[n]) || s[n] == '.') {
			n++
		}
		if l := s[:n]; n > 255 || strings.HasPrefix(l, ".") || strings.HasSuffix(l, ".") || strings.Contains(l, "..") {
			n = 0
		}
	}
	return s[:n], s[n:], n > 0
}

// quotedLen is the length of the quoted string that s begins with; 0 if it is malformed or too long.
func quotedLen(s string) int {
	for i := 1; i < len(s) && i <= 255; i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i++; i == len(s) || s[i] < ' ' || s[i] >= 0x7f {
				return 0
			}
		case c < ' ' || c == 0x7f:
			return 0
		}
	}
	return 0
}

// CutDomain cuts off the domain or address literal that s begins with; s is valid UTF-8. An internationalised domain is returned as A-labels, everything
// else as it is. ok is false if there is none.
func CutDomain(s string) (domain, rest string, ok bool) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 || !isLiteral(s[1:end]) {
			return "", s, false
		}
		return s[:end+1], s[end+1:], true
	}
	n, ascii := 0, true
	for n < len(s) && (isDomainByte(s[n]) || s[n] == '.' || s[n] >= utf8.RuneSelf) {
		ascii = ascii && s[n] < utf8.RuneSelf
		n++
	}
	domain = s[:n]
	if !ascii {
		var err error
		if domain, err = domains.ToASCII(domain); err != nil {
			return "", s, false
		}
	}
	if !isDomain(domain) {
		return "", s, false
	}
	return domain, s[n:], true
}

// isAtext: RFC 5322, 3.2.3, and octets of UTF-8 (RFC 6532, 3.2).
func isAtext(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= utf8.RuneSelf ||
		strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !isDomainByte(label[i]) {
				return false
			}
		}
	}
	return true
}

func isDomainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// isLiteral: RFC 5321, 4.1.3, without the brackets.
func isLiteral(s string) bool {
	const v6 = "IPv6:"
	if len(s) > len(v6) && strings.EqualFold(s[:len(v6)], v6) {
		a, err := netip.ParseAddr(s[len(v6):])
		return err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

// quotedMax is up to which length a display name is written as a quoted string; a longer one would make a line too long.
const quotedMax = 200

// AppendMailbox appends a display name in UTF-8 and an address as a header has them: name <address>, the name quoted or encoded (RFC
// 2047) where it must be; without a name <address>. White space in the name is collapsed, line ends included. The address is one that
// [ParseAddress] returned.
func AppendMailbox(dst []byte, name, address string) []byte {
	if name = strings.Join(strings.FieldsFunc(name, isSpace), " "); name != "" {
		dst = append(appendPhrase(dst, name), ' ')
	}
	return append(append(append(dst, '<'), address...), '>')
}

// appendPhrase appends a display name, which has no white space but single spaces.
func appendPhrase(dst []byte, name string) []byte {
	atoms, ascii := true, true
	for i := range len(name) {
		c := name[i]
		atoms = atoms && isAtext(c) && c < utf8.RuneSelf
		ascii = ascii && ' ' <= c && c < 0x7f
	}
	switch {
	case !ascii || len(name) > quotedMax || strings.Contains(name, "=?"):
		return appendWords(dst, name, true)
	case atoms:
		return append(dst, name...)
	}
	dst = append(dst, '"')
	for i := range len(name) {
		if c := name[i]; c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, name[i])
	}
	return append(dst, '"')
}

// IsAddressField says whether the field of that name holds mailboxes or addresses (RFC 5322, 3.6.2, 3.6.3, 3.6.6).
func IsAddressField(name string) bool {
	if len(name) > 7 && strings.EqualFold(name[:7], "Resent-") {
		name = name[7:]
	}
	switch len(name) {
	case 2:
		return strings.EqualFold(name, "To") || strings.EqualFold(name, "Cc")
	case 3:
		return strings.EqualFold(name, "Bcc")
	case 4:
		return strings.EqualFold(name, "From")
	case 6:
		return strings.EqualFold(name, "Sender")
	case 8:
		return strings.EqualFold(name, "Reply-To")
	}
	return false
}

// AppendAddresses appends a list of addresses, given as a header has it but in UTF-8, for a field for which [IsAddressField]: display names and
// comments that are not ASCII become encoded words (RFC 2047, 5), and the rest stays as it is, folded at white space. Addresses in UTF-8 stay (RFC 6532).
func AppendAddresses(dst []byte, list string) []byte {
	list = strings.ToValidUTF8(list, "\ufffd")
	if isASCII(list) {
		return AppendFolded(dst, strings.Map(dropControl, list))
	}
	var (
		phrase strings.Builder // decoded words of a display name, not yet written
		raw    strings.Builder // the same as it was given
		out    strings.Builder
	)
	flush := func(name bool) {
		switch text := strings.TrimSpace(raw.String()); {
		case text == "":
		case isASCII(text) || !name:
			out.WriteString(text + " ")
		default:
			name := strings.Join(strings.FieldsFunc(phrase.String(), isSpace), " ")
			out.Write(append(appendWords(nil, name, true), ' '))
		}
		phrase.Reset()
		raw.Reset()
	}
	for len(list) > 0 {
		switch c := list[0]; c {
		case '"', '(', '<', '[':
			n := enclosed(list)
			item := list[:n]
			list = list[n:]
			switch c {
			case '"':
				phrase.WriteString(unquote(item) + " ")
				raw.WriteString(item + " ")
				if strings.HasPrefix(list, "@") { // a quoted local part
					n := strings.IndexAny(list, " \t\r\n,;<>(")
					if n < 0 {
						n = len(list)
					}
					raw.WriteString(list[:n])
					out.WriteString(item + list[:n] + " ")
					list = list[n:]
					phrase.Reset()
					raw.Reset()
				}
			case '(':
				flush(false)
				if isASCII(item) {
					out.WriteString(item + " ")
				} else {
					inner := strings.TrimSuffix(item[1:], ")")
					out.WriteString("(" + string(appendWords(nil, strings.Join(strings.FieldsFunc(inner, isSpace), " "), true)) + ") ")
				}
			default:
				flush(true)
				out.WriteString(item + " ")
			}
		case ',', ';', ':':
			flush(c == ':')
			s := strings.TrimSuffix(out.String(), " ")
			out.Reset()
			out.WriteString(s + string(c) + " ")
			list = list[1:]
		case ' ', '\t', '\r', '\n':
			phrase.WriteByte(' ')
			raw.WriteByte(' ')
			list = list[1:]
		default:
			n := strings.IndexAny(list, "\"(<[,;: \t\r\n")
			if n < 0 {
				n = len(list)
			}
			n = max(n, 1)
			phrase.WriteString(list[:n])
			raw.WriteString(list[:n])
			list = list[n:]
		}
	}
	flush(false)
	return AppendFolded(dst, strings.Map(dropControl, out.String()))
}

// dropControl removes what no structured field may have.
func dropControl(r rune) rune {
	if r < ' ' && !isSpace(r) || r == 0x7f {
		return -1
	}
	return r
}

// enclosed is the length of the quoted string, comment, bracketed address or literal that s begins with; all of s if it does not end.
func enclosed(s string) int {
	end := map[byte]byte{'"': '"', '(': ')', '<': '>', '[': ']'}[s[0]]
	depth, quoted := 1, false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case s[0] == '<' && c == '"':
			quoted = !quoted
		case quoted:
		case c == end:
			if depth--; depth == 0 {
				return i + 1
			}
		case c == '(' && s[0] == '(':
			depth++
		}
	}
	return len(s)
}

func unquote(s string) string {
	s = strings.TrimSuffix(s[1:], `"`)
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
