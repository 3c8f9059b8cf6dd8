// Package uuid makes random UUIDs and writes UUIDs as text.
package uuid

import (
	"crypto/rand"
	"encoding/hex"
)

// New is a random UUID (RFC 9562, 5.4) as String writes it.
func New() string {
	var b [16]byte
	rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return String(b)
}

// String writes a UUID, which may be an mtakit.ID, in lower case and with hyphens (RFC 9562, 4).
func String(b [16]byte) string {
	var s [36]byte
	hex.Encode(s[:], b[:4])
	at := 8
	for i := 4; i < 10; i += 2 {
		s[at] = '-'
		hex.Encode(s[at+1:], b[i:i+2])
		at += 5
	}
	s[at] = '-'
	hex.Encode(s[at+1:], b[10:])
	return string(s[:])
}
