package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// maxAnswer bounds an answer that is read as a whole.
const maxAnswer = 1 << 30

// endpoint is the URL of --endpoint. A path is kept, for daemons behind a proxy or mounted in another server.
type endpoint struct{ url *url.URL }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *endpoint) UnmarshalText(b []byte) error {
	u, err := url.Parse(string(b))
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		err = errors.New("want http://HOST:PORT or https://HOST:PORT")
	}
	if err != nil {
		shown := string(b)
		if at := strings.LastIndexByte(shown, '@'); at >= 0 { // before it is the password
			shown = "…" + shown[at:]
		}
		if parse, ok := errors.AsType[*url.Error](err); ok {
			err = parse.Err
		}
		return fmt.Errorf("%q is no endpoint: %w", shown, err)
	}
	e.url = u
	return nil
}

// certificates are those of a PEM file; nil is the system's.
type certificates struct{ pool *x509.CertPool }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *certificates) UnmarshalText(b []byte) error {
	pem, err := os.ReadFile(string(b))
	if err != nil {
		return err
	}
	c.pool = x509.NewCertPool()
	if !c.pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s has no certificate in PEM", b)
	}
	return nil
}

// client speaks HTTP with a daemon.
type client struct {
	base *url.URL
	http *http.Client
}

func newClient(base *url.URL, trusted *x509.CertPool, timeout time.Duration) *client {
	return &client{base: base, http: &http.Client{Timeout: timeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: trusted}}}}
}

// statusError is an answer other than 2xx.
type statusError struct {
	code int
	body string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("request status %d: %s. Response body: %s", e.code, cmp.Or(http.StatusText(e.code), "unknown"), e.body)
}

// do sends a request and returns its answer, which is 2xx and to be closed. A body, null where there is nothing to say, goes with every
// method: daemons expect it.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return nil, &statusError{resp.StatusCode, strings.TrimSpace(string(text))}
	}
	return resp, nil
}

// unreachable adds to an error what can be done about it.
func (c *client) unreachable(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Errorf("%w. Is the daemon up, and is its --http address %s? Use --endpoint or KUMO_KCLI_ENDPOINT if it is elsewhere", op, c.base.Host)
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%s: %w. If it is the daemon's own, name its file with --ca or KUMO_KCLI_CA", c.base.Host, cert)
	}
	if timed, ok := errors.AsType[net.Error](err); ok && timed.Timeout() {
		return fmt.Errorf("%w. Use --timeout or KUMO_KCLI_TIMEOUT to wait for longer than %s", err, mtakit.Duration(c.http.Timeout))
	}
	return err
}

// read is do for an answer that is wanted as it is.
func (c *client) read(ctx context.Context, method, path string, query url.Values, body any) ([]byte, error) {
	resp, err := c.do(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = fmt.Errorf("the answer to %s %s is larger than %d bytes", method, path, maxAnswer)
	}
	return b, c.unreachable(err)
}

// get reads JSON into v.
func (c *client) get(ctx context.Context, path string, query url.Values, v any) error {
	b, err := c.read(ctx, "GET", path, query, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("the answer to GET %s is not understood: %w", path, err)
	}
	return nil
}

// showJSON sends a request and prints its answer, which is JSON, with an indent of two.
func (c *console) showJSON(ctx context.Context, method, path string, query url.Values, body any) error {
	b, err := c.api.read(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, bytes.TrimSpace(b), "", "  "); err != nil {
		return fmt.Errorf("the answer to %s %s is not understood: %w", method, path, err)
	}
	_, err = fmt.Fprintln(c.out, printableJSON(pretty.String()))
	return err
}

// showText sends a request and prints its answer, which is text, or OK if it is empty.
func (c *console) showText(ctx context.Context, method, path string, body any) error {
	b, err := c.api.read(ctx, method, path, nil, body)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, printable(cmp.Or(strings.TrimSpace(string(b)), "OK")))
	return err
}
