package sink

import (
	"bufio"
	"bytes"
	"fmt"
	"net/textproto"
	"os"
	"path/filepath"

	"github.com/mtakit/mtakit/examples/internal/ledger"
)

// maxHeader is how much of a message is kept to look for its id.
const maxHeader = 64 << 10

// message is what happens to a message while it is read: it is counted, its header kept for the ledger, its bytes dumped.
type message struct {
	srv  *Server
	size int64
	head []byte
	file *os.File
	err  error
}

func (m *message) begin(srv *Server) {
	m.srv, m.size, m.head, m.file, m.err = srv, 0, m.head[:0], nil, nil
	if srv.Dump != "" {
		m.file, m.err = os.CreateTemp(srv.Dump, "*.part")
	}
}

func (m *message) take(b []byte) {
	m.size += int64(len(b))
	if m.srv.Ledger != nil && len(m.head) < maxHeader {
		m.head = append(m.head, b[:min(len(b), maxHeader-len(m.head))]...)
	}
	if m.file != nil && m.err == nil {
		_, m.err = m.file.Write(b)
	}
}

// drop forgets the message.
func (m *message) drop() {
	if m.file != nil {
		m.file.Close()
		os.Remove(m.file.Name())
	}
}

// accept puts the message where it can be found: its file under its final name, its id in the ledger, on stable storage.
func (m *message) accept() error {
	if m.file != nil {
		if err := m.file.Close(); m.err == nil {
			m.err = err
		}
	}
	if m.err != nil {
		m.drop()
		return m.err
	}
	if m.file != nil {
		name := filepath.Join(m.srv.Dump, fmt.Sprintf("%08d.eml", m.srv.dumped.Add(1)))
		if err := os.Rename(m.file.Name(), name); err != nil {
			return err
		}
	}
	if m.srv.Ledger != nil {
		return m.srv.Ledger.Append(messageID(m.head))
	}
	return nil
}

// messageID is the X-Ledger-Id of a message, else its Message-ID, else "-".
func messageID(head []byte) string {
	if i := bytes.Index(head, []byte("\r\n\r\n")); i >= 0 {
		head = head[:i+4]
	}
	h, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(head))).ReadMIMEHeader() // what was read before an error counts
	for _, name := range []string{ledger.Header, "Message-Id"} {
		if id := h.Get(name); id != "" {
			return id
		}
	}
	return "-"
}
