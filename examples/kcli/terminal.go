package main

import (
	"io"
	"os"

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

// readKeys hands on what is read at once, which is one press: a key that is a sequence comes whole.
func readKeys(r io.Reader, keys chan<- string) {
	for b := make([]byte, 32); ; {
		n, err := r.Read(b)
		if err != nil {
			close(keys)
			return
		}
		keys <- string(b[:n])
	}
}

// isTerminal says whether f is one.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
