package smtpserver

import (
	"errors"
	"strconv"
	"strings"
)

var errParam = errors.New("bad parameter")

// params are the ESMTP parameters of a command.
type params struct {
	size int64 // SIZE; 0 if absent
}

// parseParams reads what follows the path (RFC 5321, 4.1.2). SIZE, BODY and SMTPUTF8 have to make sense; others are only checked for their form
// and not given twice.
func parseParams(s string) (p params, err error) {
	var seen [8]string // of what is more than this there is no use
	n := 0
	for word := range strings.SplitSeq(s, " ") {
		if word == "" {
			continue
		}
		key, value, hasValue := strings.Cut(word, "=")
		if !isKeyword(key) || hasValue && !isParamValue(value) || n == len(seen) {
			return p, errParam
		}
		for _, k := range seen[:n] {
			if strings.EqualFold(k, key) {
				return p, errParam
			}
		}
		seen[n] = key
		n++
		switch {
		case strings.EqualFold(key, "SIZE"): // RFC 1870, 3
			if p.size, err = strconv.ParseInt(value, 10, 64); err != nil || value[0] == '+' || value[0] == '-' {
				return p, errParam
			}
		case strings.EqualFold(key, "BODY"): // RFC 6152
			if !strings.EqualFold(value, "7BIT") && !strings.EqualFold(value, "8BITMIME") {
				return p, errParam
			}
		case strings.EqualFold(key, "SMTPUTF8"): // RFC 6531
			if hasValue {
				return p, errParam
			}
		}
	}
	return p, nil
}

func isKeyword(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' && i > 0) {
			return false
		}
	}
	return s != ""
}

// isParamValue: any but space, control characters and =; UTF-8 is RFC 6531's.
func isParamValue(s string) bool { return s != "" && isPrintable(s) && !strings.Contains(s, "=") }
