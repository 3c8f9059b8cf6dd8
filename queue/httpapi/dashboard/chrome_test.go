package dashboard_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// chromium is a browser without a window, spoken to by its DevTools protocol over two pipes.
type chromium struct {
	t     testing.TB
	in    io.WriteCloser
	mu    sync.Mutex
	next  int
	calls map[int]chan reply
	tabs  map[string]*tab // by session
	ended error
}

type reply struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// start runs the browser for the time of the test, which is skipped if there is none.
func start(t testing.TB) *chromium {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("there is no Chromium on this machine; the page is not tested")
	}
	toBrowser, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, fromBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "dashboard-test-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-sync",
		"--disable-background-networking", "--disable-component-update", "--mute-audio", "--hide-scrollbars", "--force-color-profile=srgb",
		"--remote-debugging-pipe", "--user-data-dir="+dir, "about:blank")
	cmd.ExtraFiles = []*os.File{toBrowser, fromBrowser}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toBrowser.Close()
	fromBrowser.Close()
	c := &chromium{t: t, in: in, calls: make(map[int]chan reply), tabs: make(map[string]*tab)}
	done := make(chan struct{})
	go func() { defer close(done); c.read(out) }()
	t.Cleanup(func() {
		c.send(nil, "Browser.close", nil, nil)
		in.Close()
		late := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait() // how it ends does not matter
		late.Stop()
		out.Close()
		<-done
		os.RemoveAll(dir) // a process that the browser left behind may still write there
	})
	return c
}

// read takes what the browser says: messages that end with a zero byte.
func (c *chromium) read(out io.Reader) {
	in := bufio.NewReaderSize(out, 1<<20)
	for {
		b, err := in.ReadBytes(0)
		if err != nil {
			c.mu.Lock()
			c.ended = err
			for id, ch := range c.calls {
				close(ch)
				delete(c.calls, id)
			}
			c.mu.Unlock()
			return
		}
		var m struct {
			ID        int
			Method    string
			SessionID string
			Params    json.RawMessage
			reply
		}
		if json.Unmarshal(b[:len(b)-1], &m) != nil {
			continue
		}
		c.mu.Lock()
		if ch := c.calls[m.ID]; m.ID != 0 && ch != nil {
			delete(c.calls, m.ID)
			ch <- m.reply
		} else if tab := c.tabs[m.SessionID]; tab != nil {
			tab.event(m.Method, m.Params)
		}
		c.mu.Unlock()
	}
}

func (c *chromium) call(tab *tab, method string, params any) (json.RawMessage, error) {
	ch := make(chan reply, 1)
	if err := c.send(tab, method, params, ch); err != nil {
		return nil, err
	}
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	select {
	case r, ok := <-ch:
		switch {
		case !ok:
			return nil, errors.New("the browser has gone")
		case r.Error != nil:
			return nil, errors.New(r.Error.Message)
		}
		return r.Result, nil
	case <-limit.C:
		return nil, fmt.Errorf("%s: %w", method, context.DeadlineExceeded)
	}
}

// send asks for something; the answer goes to ch, unless that is nil.
func (c *chromium) send(tab *tab, method string, params any, ch chan reply) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return c.ended
	}
	c.next++
	id := c.next
	if ch != nil {
		c.calls[id] = ch
	}
	if params == nil {
		params = struct{}{}
	}
	m := map[string]any{"id": id, "method": method, "params": params}
	if tab != nil {
		m["sessionId"] = tab.session
	}
	b, err := json.Marshal(m)
	if err == nil {
		_, err = c.in.Write(append(b, 0))
	}
	return err
}

// tab is a page of the browser.
type tab struct {
	t       testing.TB
	c       *chromium
	session string

	problems []string // what a developer would see in red; guarded by c.mu
	basic    string   // user:password for those who ask
}

// open makes a tab of that size and colours, light or dark.
func (c *chromium) open(t testing.TB, width, height int, colours string) *tab {
	t.Helper()
	var context struct{ BrowserContextID string }
	c.must(t, nil, "Target.createBrowserContext", nil, &context)
	var target struct{ TargetID string }
	c.must(t, nil, "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": context.BrowserContextID}, &target)
	var session struct{ SessionID string }
	c.must(t, nil, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	p := &tab{t: t, c: c, session: session.SessionID}
	c.mu.Lock()
	c.tabs[p.session] = p
	c.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		p.do(domain+".enable", nil, nil)
	}
	p.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": colours}, {"name": "prefers-reduced-motion", "value": "reduce"}}}, nil)
	p.size(width, height)
	t.Cleanup(func() {
		c.call(nil, "Target.disposeBrowserContext", map[string]any{"browserContextId": context.BrowserContextID})
	})
	return p
}

func (c *chromium) must(t testing.TB, p *tab, method string, params, result any) {
	t.Helper()
	b, err := c.call(p, method, params)
	if err == nil && result != nil {
		err = json.Unmarshal(b, result)
	}
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}

// event is called with the lock held.
func (p *tab) event(method string, params json.RawMessage) {
	var e struct {
		Type  string
		Args  []struct{ Value, Description any }
		Entry struct{ Source, Level, Text, URL string }

		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
		RequestID string
	}
	if json.Unmarshal(params, &e) != nil {
		return
	}
	switch method {
	case "Runtime.exceptionThrown":
		p.problems = append(p.problems, "exception: "+e.ExceptionDetails.Text+" "+e.ExceptionDetails.Exception.Description)
	case "Runtime.consoleAPICalled":
		if e.Type == "error" || e.Type == "warning" || e.Type == "assert" {
			p.problems = append(p.problems, fmt.Sprintf("console.%s: %v", e.Type, e.Args))
		}
	case "Log.entryAdded":
		if e.Entry.Level == "error" || e.Entry.Level == "warning" {
			p.problems = append(p.problems, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case "Fetch.requestPaused":
		go p.c.call(p, "Fetch.continueRequest", map[string]any{"requestId": e.RequestID})
	case "Fetch.authRequired":
		answer := map[string]any{"response": "CancelAuth"}
		if p.basic != "" {
			user, password, _ := strings.Cut(p.basic, ":")
			answer = map[string]any{"response": "ProvideCredentials", "username": user, "password": password}
		}
		go p.c.call(p, "Fetch.continueWithAuth", map[string]any{"requestId": e.RequestID, "authChallengeResponse": answer})
	}
}

func (p *tab) do(method string, params, result any) {
	p.t.Helper()
	p.c.must(p.t, p, method, params, result)
}

// clean takes what a developer would see in red.
func (p *tab) clean() []string {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	problems := p.problems
	p.problems = nil
	return problems
}

func (p *tab) size(width, height int) {
	p.t.Helper()
	p.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

func (p *tab) goTo(url string) {
	p.t.Helper()
	p.do("Page.navigate", map[string]any{"url": url}, nil)
}

// eval is the value of an expression, whose promise is waited for.
func (p *tab) eval(expression string) any {
	p.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	p.do("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		p.t.Fatalf("%s: %s", expression, r.ExceptionDetails.Exception.Description)
	}
	return r.Result.Value
}

// wait waits until a condition is true; what there is then is in the failure if it never is.
func (p *tab) wait(condition string) {
	p.t.Helper()
	ok := p.eval(fmt.Sprintf(`new Promise((done) => {
		const end = performance.now() + 40000;
		const ask = () => { let ok; try { ok = %s } catch { ok = false }
			if (ok) done(true); else if (performance.now() > end) done(false); else setTimeout(ask, 15); };
		ask();
	})`, condition))
	if ok != true {
		p.t.Fatalf("never: %s\nthe page says: %.2000s\nproblems: %q", condition, p.eval(`(document.querySelector("dialog[open]") ?? document.body).innerText`), p.clean())
	}
}

// key presses and releases a key: a character, or a name such as Enter.
func (p *tab) key(key string) {
	p.t.Helper()
	codes := map[string]int{"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
	down := map[string]any{"type": "keyDown", "key": key, "windowsVirtualKeyCode": codes[key]}
	switch {
	case key == "Enter":
		down["text"] = "\r"
	case codes[key] == 0:
		down["text"] = key
	}
	p.do("Input.dispatchKeyEvent", down, nil)
	p.do("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "windowsVirtualKeyCode": codes[key]}, nil)
}

func (p *tab) typeText(text string) {
	p.t.Helper()
	p.do("Input.insertText", map[string]any{"text": text}, nil)
}

// click clicks the middle of the first element that the selector finds.
func (p *tab) click(selector string) {
	p.t.Helper()
	at, ok := p.eval(fmt.Sprintf(`(() => { const e = document.querySelector(%q); if (!e) return null; e.scrollIntoView({ block: "nearest" });
		const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()`, selector)).([]any)
	if !ok {
		p.t.Fatalf("there is no %s", selector)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.do("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1}, nil)
	}
}

// shot is a picture of the whole page, as PNG.
func (p *tab) shot() []byte {
	p.t.Helper()
	var r struct{ Data string }
	p.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &r)
	b, err := base64.StdEncoding.DecodeString(r.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}
