package main

import (
	"bytes"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen is a terminal that is drawn on as a whole.
type screen struct {
	out  io.Writer
	size func() (width, height int)
	keys <-chan string                      // one press each, as the terminal sends it
	raw  func() (restore func(), err error) // keys come at once and unseen
}

// openScreen is the terminal of stdin and stderr; nil where one of them is something else.
func openScreen() *screen {
	in, out := int(os.Stdin.Fd()), int(os.Stderr.Fd())
	if !term.IsTerminal(in) || !term.IsTerminal(out) {
		return nil
	}
	keys := make(chan string)
	return &screen{
		out: os.Stderr,
		size: func() (int, int) {
			w, h, err := term.GetSize(out)
			if err != nil {
				return 80, 24
			}
			return w, h
		},
		keys: keys,
		raw: func() (func(), error) {
			old, err := term.MakeRaw(in)
			if err != nil {
				return nil, err
			}
			go readKeys(os.Stdin, keys) // until the program ends
			return func() { term.Restore(in, old) }, nil
		},
	}
}

// readKeys hands on what is read, key by key, until there is nothing more.
func readKeys(r io.Reader, keys chan<- string) {
	defer close(keys)
	for b := make([]byte, 256); ; {
		n, err := r.Read(b)
		for rest := b[:n]; len(rest) > 0; {
			n := keyLen(rest)
			keys <- string(rest[:n])
			rest = rest[n:]
		}
		if err != nil {
			return
		}
	}
}

// keyLen is the length of the first key in b: a rune, or a control sequence (ECMA-48, 5.4), which comes whole.
func keyLen(b []byte) int {
	if !bytes.HasPrefix(b, []byte("\x1b[")) {
		_, n := utf8.DecodeRune(b)
		return n
	}
	if end := bytes.IndexFunc(b[2:], func(r rune) bool { return r >= '@' && r <= '~' }); end >= 0 {
		return 2 + end + 1
	}
	return len(b)
}

// isTerminal says whether f is one.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
