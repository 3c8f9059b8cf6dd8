package smtpclient

import (
	"bytes"
	"context"
	"strings"
)

// Hello introduces us as name with EHLO, or LHLO, and takes in what the peer can do. The reply has to be 250; there is no second try
// with HELO. After StartTLS it is due again, since nothing of what was said before counts.
func (c *Conn) Hello(ctx context.Context, name string) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.end()
	verb := "EHLO "
	if c.path.UseLMTP {
		verb = "LHLO "
	}
	phase := PhaseHello
	if c.tls != nil {
		phase = PhaseHelloTLS
	}
	r, err := c.command(phase, verb+name, verb, name)
	if err != nil {
		return err
	}
	if r.code != 250 {
		return c.fault(phase, verb+name, c.parseReply(r, verb+name), nil)
	}
	c.learn(r.raw)
	return nil
}

// learn reads the keywords from the lines after the first.
func (c *Conn) learn(raw []byte) {
	c.ext = map[string]string{}
	for i, line := range bytes.Split(raw, crlf[1:]) {
		if line = bytes.TrimSuffix(line, crlf[:1]); i == 0 || len(line) < 5 {
			continue
		}
		keyword, param, _ := strings.Cut(strings.TrimSpace(string(line[4:])), " ")
		c.ext[strings.ToUpper(keyword)] = strings.TrimSpace(param)
	}
	has := func(keyword string) bool { _, ok := c.ext[keyword]; return ok }
	c.pipeline = c.path.EnablePipelining && has("PIPELINING")
	c.eightBit, c.utf8, c.size = has("8BITMIME"), has("SMTPUTF8"), has("SIZE")
}

// Extension says whether the peer announced the keyword, which is in upper case, and with which parameters.
func (c *Conn) Extension(keyword string) (params string, ok bool) {
	params, ok = c.ext[keyword]
	return params, ok
}
