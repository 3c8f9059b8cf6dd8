package dashboard_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi"
)

var screenshots = flag.String("screenshots", "", "a directory for pictures of the page")

// keep saves a picture for those who want to look.
func keep(t *testing.T, p *tab, name string) {
	t.Helper()
	if *screenshots == "" {
		return
	}
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), p.shot(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func noProblems(t *testing.T, p *tab) {
	t.Helper()
	for _, s := range p.clean() {
		t.Errorf("the browser complains: %s", s)
	}
}

// view goes to a view and waits until there is what it shows.
func (p *tab) view(s *station, view string) {
	p.t.Helper()
	p.goTo(s.url + "/#/" + view)
	p.wait(fmt.Sprintf(`document.querySelector("main").dataset.view === %q && document.querySelector("main .panel") && !document.querySelector("main > .skeleton")`, strings.Split(view, "?")[0]))
}

// audit lists what has no name, or too little contrast (WCAG 2.2, 1.4.3), or an id that is there twice.
const audit = `(() => {
	const found = [];
	const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const rgba = (c) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
	const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] / 255 + b[i] * (1 - a[3] / 255)).concat(255);
	const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const back = (e) => e ? over(rgba(getComputedStyle(e).backgroundColor), back(e.parentElement)) : [255, 255, 255, 255];
	const name = (e) => (e.getAttribute("aria-label") ?? "") + (e.getAttribute("aria-labelledby") ?? "") + e.textContent + [...(e.labels ?? [])].map((l) => l.textContent).join("");
	for (const e of document.querySelectorAll("button, a, input, select, textarea, dialog")) if (!name(e).trim()) found.push("no name: " + e.outerHTML.slice(0, 120));
	for (const e of document.querySelectorAll("table")) if (!e.caption?.textContent) found.push("no caption: " + e.outerHTML.slice(0, 80));
	const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
	for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) found.push("twice: #" + id);
	const levels = [...document.querySelectorAll("main h1, main h2, main h3")].map((e) => +e.tagName[1]);
	if (document.querySelectorAll("main h1").length !== 1 || levels.some((l, i) => l > (levels[i - 1] ?? 0) + 1)) found.push("headings: " + levels);
	const modal = document.querySelector("dialog[open]");
	const seen = new Set();
	const walk = document.createTreeWalker(modal ?? document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || e.closest(".sr, .skip, .toast, option, noscript, script, [aria-pressed=false]")) continue;
		const style = getComputedStyle(e);
		const [bg, fg] = [back(e), e.closest("svg") ? style.fill : style.color];
		const [a, b] = [light(over(rgba(fg), bg)), light(bg)];
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		const key = (e.className.baseVal ?? e.className) + e.tagName + ratio.toFixed(1);
		if (ratio < 4.5 && !seen.has(key)) { seen.add(key); found.push("contrast " + ratio.toFixed(2) + ": " + e.tagName + "." + (e.className.baseVal ?? e.className) + " " + walk.currentNode.data.slice(0, 40)); }
	}
	return found;
})()`

// TestPage is about what needs one MTA and one browser, which take their time to start.
func TestPage(t *testing.T) {
	c := start(t)
	s := newStation(t, nil)

	// In both colours, at the width of a desktop and a phone, nothing is wrong, and nothing is wider than the screen.
	t.Run("views", func(t *testing.T) {
		for _, size := range [][2]int{{1440, 1000}, {390, 844}} {
			for _, colours := range []string{"light", "dark"} {
				p := c.open(t, size[0], size[1], colours)
				for _, view := range []string{"overview", "queues", "queues?kind=ready", "failures", "rules", "sources", "trace", "explain"} {
					p.view(s, view)
					if over := p.eval(`document.documentElement.scrollWidth - innerWidth`).(float64); over > 0 {
						t.Errorf("%s at %d: %v wider than the screen", view, size[0], over)
					}
					if high := p.eval(`Math.max(...[...document.querySelectorAll("main tr")].map((r) => r.clientHeight))`); high != nil && high.(float64) > 220 {
						t.Errorf("%s at %d: a row is %v high", view, size[0], high)
					}
					noProblems(t, p)
					keep(t, p, fmt.Sprintf("%s-%d-%s", strings.ReplaceAll(view, "?kind=", "-"), size[0], colours))
				}
			}
		}
	})

	// What is to be read has contrast, and what is to be used has a name.
	t.Run("access", func(t *testing.T) {
		for _, colours := range []string{"light", "dark"} {
			p := c.open(t, 1440, 1000, colours)
			for _, view := range []string{"overview", "queues", "queues?kind=ready", "failures", "rules", "sources", "trace", "explain?queue=autumn%3Ashop%40throttled.example", "queues?open=scheduled%3Aautumn%3Ashop%40slow.example"} {
				p.view(s, view)
				if strings.Contains(view, "explain") {
					p.wait(`document.querySelector(".callout")`)
				}
				if strings.Contains(view, "open=") {
					p.wait(`document.querySelector("dialog.drawer .callout")`)
				}
				for _, what := range p.eval(audit).([]any) {
					t.Errorf("%s, %s: %s", view, colours, what)
				}
			}
		}
	})

	t.Run("search", func(t *testing.T) {
		p := c.open(t, 1200, 800, "light")
		p.view(s, "overview")
		p.key("/") // there is no search here: it is that of the queues
		p.wait(`document.activeElement.type === "search"`)
		p.typeText("TENANT3@D1")
		p.wait(`[...document.querySelectorAll("main tbody .name")].length === 3 && [...document.querySelectorAll("main tbody .name")].every((n) => n.textContent.startsWith("tenant3@d1"))`)
		p.wait(`location.hash === "#/queues?q=TENANT3%40D1" && document.activeElement.type === "search" && document.querySelector("main .note").textContent === "3 matches"`)
		p.eval(`document.activeElement.select()`)
		p.typeText("no such queue")
		p.wait(`document.querySelector("main .empty")?.textContent.includes("no such queue")`)
		p.eval(`document.activeElement.select()`)
		p.typeText("autumn")
		p.wait(`document.querySelectorAll("main tbody tr").length > 4`)
		p.click(`th:nth-child(5) .sort`)
		p.wait(`document.querySelector("th[aria-sort]")?.textContent.includes("Due") && document.querySelector("main tbody .name").textContent === "autumn:shop@slow.example"`)
		p.eval(`document.activeElement.blur(); location.hash = "#/queues?q=tenant4"`) // a link, or a step back
		p.wait(`document.querySelector("main input[type=search]").value === "tenant4" && [...document.querySelectorAll("main tbody .name")].every((n) => n.textContent.startsWith("tenant4"))`)
		noProblems(t, p)
	})

	t.Run("keyboard", func(t *testing.T) {
		p := c.open(t, 1200, 800, "dark")
		p.view(s, "overview")
		p.key("2")
		p.wait(`location.hash === "#/queues" && document.querySelectorAll("main tbody tr").length === 50`)
		p.key("j")
		p.key("j")
		p.wait(`document.activeElement.textContent === document.querySelectorAll("main tbody .name")[1].textContent`)
		name := p.eval(`document.activeElement.textContent`).(string)
		p.key("Enter")
		p.wait(`document.querySelector("dialog.drawer[open] h2")?.textContent === ` + fmt.Sprintf("%q", name))
		p.wait(`document.querySelector("dialog.drawer .callout").textContent.includes("Ready queue full") && document.querySelector("dialog.drawer .callout").textContent.includes("waits for room in ip-198-51-100-")`)
		p.wait(`document.querySelectorAll("dialog.drawer table tbody tr").length >= 2`)
		if p.eval(`document.querySelector("dialog.drawer").contains(document.activeElement)`) != true {
			t.Error("the focus is not in the dialog")
		}
		keep(t, p, "detail-scheduled")
		p.eval(`document.querySelector("dialog.drawer tbody a").focus()`)
		p.key("Enter")
		p.wait(`document.querySelector("dialog.drawer .eyebrow").textContent === "Ready queue" && document.querySelectorAll("dialog.drawer .facts div").length > 5`)
		keep(t, p, "detail-ready")
		p.key("Escape")
		p.wait(`!document.querySelector("dialog[open]") && !location.hash.includes("open=")`)
		p.wait(fmt.Sprintf(`document.activeElement.textContent === %q`, name))
		p.key("?")
		p.wait(`document.querySelector("dialog.modal kbd")`)
		p.key("Escape")
		p.wait(`!document.querySelector("dialog[open]")`)
		p.key("1")
		p.wait(`document.querySelector(".plot")`)
		p.eval(`document.querySelector(".plot").focus()`)
		p.key("ArrowLeft")
		p.wait(`document.querySelector(".plot .tip dd").textContent.includes("/s") && document.querySelector(".chart p").textContent.includes("per second")`)
		p.eval(`window.was = [document.querySelector(".plot"), document.querySelector(".foot").textContent]`) // which has the time that the server is up
		p.wait(`document.querySelector(".foot").textContent !== was[1] && document.querySelector(".plot") === was[0] && document.activeElement === was[0] && document.querySelector(".plot .tip")`)
		keep(t, p, "chart")
		p.key("t")
		p.wait(`document.documentElement.dataset.theme === "light"`)
		noProblems(t, p)
	})

	// Names and answers are text, whatever they look like.
	t.Run("hostile", func(t *testing.T) {
		p := c.open(t, 1200, 900, "light")
		p.do("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": `window.alert = () => { window.fooled = true }`}, nil)
		p.view(s, "queues?q=%3CIMG")
		shown := fmt.Sprintf(`[...document.querySelectorAll(".name, h2")].some((n) => n.textContent === %q)`, hostile)
		p.wait(shown)
		p.key("j")
		p.key("Enter")
		p.wait(fmt.Sprintf(`document.querySelector("dialog.drawer h2").textContent === %q`, hostile))
		p.wait(fmt.Sprintf(`document.querySelector("dialog.drawer .events").textContent.includes(%q)`, hostileAnswer))
		keep(t, p, "hostile")
		p.view(s, "failures")
		p.wait(fmt.Sprintf(`document.querySelector("main").textContent.includes(%q)`, hostileAnswer))
		if p.eval(`window.fooled === true || document.querySelectorAll("img, main script, dialog script, main b[onmouseover], main u").length > 0`) == true {
			t.Error("what should be text has become markup")
		}
		noProblems(t, p)
	})

	t.Run("rules", func(t *testing.T) {
		p := c.open(t, 1200, 900, "light")
		p.view(s, "queues?q=tenant5%40d5.")
		p.click("main tbody a")
		p.wait(`document.querySelector("dialog.drawer .buttons .btn")`)
		p.click("dialog.drawer .buttons .btn")
		p.wait(`document.activeElement.name === "reason"`)
		p.typeText("incident <7>")
		keep(t, p, "suspend")
		p.key("Enter")
		p.wait(`document.querySelector("dialog.drawer .callout.warn")?.textContent.includes("Suspended: incident <7>")`)
		if rules := s.queue.Suspensions(); len(rules) != 1 || rules[0].Match.QueueNames[0] != "tenant5@d5.example" || rules[0].Reason != "incident <7>" {
			t.Errorf("suspended: %+v", rules)
		}
		p.key("Escape")
		p.key("4") // at once: the dialog is still closing
		p.wait(`document.querySelectorAll("main .panel")[1]?.textContent.includes("tenant5@d5.example")`)
		keep(t, p, "rules-filled")
		p.click(`main .panel:nth-of-type(2) tbody .btn`)
		p.wait(`document.querySelector("main .panel:nth-of-type(2)").textContent.includes("No scheduled queue is suspended")`)
		if rules := s.queue.Suspensions(); len(rules) != 0 {
			t.Errorf("still suspended: %+v", rules)
		}

		// A bounce is for what was said, never by mistake for all.
		p.click(`main .panel:nth-of-type(1) header .btn`)
		p.wait(`document.querySelector("dialog.modal [name=domain]")`)
		p.eval(`document.querySelector("[name=reason]").focus()`)
		p.typeText("spam run")
		p.key("Enter")
		p.wait(`document.querySelector("dialog.modal .error").textContent.startsWith("Say which queues")`)
		keep(t, p, "bounce")
		if rules := s.queue.Bounces(); len(rules) != 0 {
			t.Fatalf("bounced: %+v", rules)
		}
		p.eval(`document.querySelector("[name=domain]").focus()`)
		p.typeText("d7.example")
		p.key("Enter")
		p.wait(`document.querySelector("main .panel:nth-of-type(1) tbody td.r")?.textContent === "1"`)
		if rules := s.queue.Bounces(); len(rules) != 1 || *rules[0].Match.Domain != "d7.example" || rules[0].Match.Tenant != nil {
			t.Errorf("bounced: %+v", rules)
		}
		p.click(`main .panel:nth-of-type(1) tbody .btn`)
		p.wait(`document.querySelector("main .panel:nth-of-type(1)").textContent.includes("Nothing is being bounced")`)

		p.click(`main .panel:nth-of-type(3) header .btn`)
		p.wait(`document.activeElement.name === "name"`)
		p.typeText("ip-198-51-100-7->mx.slow.example@smtp_client")
		p.eval(`document.querySelector("[name=reason]").focus()`)
		p.typeText("their wish")
		p.key("Enter")
		p.wait(`document.querySelector("main .panel:nth-of-type(3)").textContent.includes("their wish")`)
		p.click(`main .panel:nth-of-type(3) tbody .btn`)
		p.wait(`document.querySelector("main .panel:nth-of-type(3)").textContent.includes("No ready queue is suspended")`)
		if rules := s.queue.ReadySuspensions(); len(rules) != 0 {
			t.Errorf("still suspended: %+v", rules)
		}
		noProblems(t, p)
	})

	t.Run("explain", func(t *testing.T) {
		p := c.open(t, 1200, 900, "light")
		p.view(s, "explain")
		p.wait(`document.activeElement.type === "search"`)
		p.typeText("someone@fine.example")
		p.key("Enter")
		p.wait(`location.hash === "#/explain?address=someone%40fine.example" && document.querySelector(".callout.good")?.textContent.includes("Nothing holds it: the next message leaves by ip-198-51-100-")`)
		p.wait(`document.querySelector(".way").textContent === "fine.example→pool pool→" + document.querySelector(".callout").textContent.match(/by (.*)\./)[1] + "→mx.fine.example→mx.fine.example"`)
		keep(t, p, "explain-address")
		p.view(s, "explain?queue=autumn%3Ashop%40throttled.example")
		p.wait(`document.querySelector(".callout.warn")?.textContent.includes("Rate used up")`)
		keep(t, p, "explain-queue")
		p.view(s, "explain?queue="+url.QueryEscape(hostile))
		p.wait(fmt.Sprintf(`document.querySelector(".subject").textContent.includes(%q)`, hostile))
		p.view(s, "queues?q=shop%40throttled&open=scheduled%3Aautumn%3Ashop%40throttled.example")
		p.wait(`document.querySelector("dialog.drawer .tree, dialog.drawer [aria-label='Settings of the queue']")`)
		keep(t, p, "detail-throttled")
		p.click(`dialog.drawer [aria-label="Messages"] tbody a`)
		p.wait(`location.hash.startsWith("#/explain?id=") && document.querySelector(".out [aria-label=Message]")`)
		keep(t, p, "explain-message")
		noProblems(t, p)
		p.goTo(s.url + "/#/explain?id=00000000000000000000000000000001")
		p.wait(`document.querySelector(".out .empty")?.textContent.includes("Nothing is known of this message")`)
	})

	t.Run("failures", func(t *testing.T) {
		p := c.open(t, 1200, 900, "dark")
		p.view(s, "failures")
		p.eval(`[...document.querySelectorAll("main tbody a")].find((a) => a.textContent === "InvalidRecipient").click()`)
		p.wait(`document.querySelectorAll(".chip").length === 2 && [...document.querySelectorAll("main .panel:nth-of-type(2) tbody tr")].every((r) => r.textContent.includes("nobody.example"))`)
		p.click(".chip")
		p.wait(`document.querySelectorAll(".chip").length === 1 && !location.hash.includes("class=")`)
		noProblems(t, p)
	})

	t.Run("trace", func(t *testing.T) {
		p := c.open(t, 1200, 900, "dark")
		p.view(s, "trace?ready_queue=ip-198-51-100-7-%3Emx.busy.example%40smtp_client")
		p.wait(`document.querySelector(".trace .note").textContent.startsWith("Listening")`)
		for deadline := time.Now().Add(20 * time.Second); !s.outbound.Watched(); {
			if time.Now().After(deadline) {
				t.Fatal("nobody watches")
			}
			runtime.Gosched()
		}
		s.talk("ip-198-51-100-7->mx.busy.example@smtp_client")
		p.wait(`document.querySelector(".log").lastChild.textContent.includes("closed")`)
		p.wait(fmt.Sprintf(`[...document.querySelectorAll(".log .c4 .said")].some((n) => n.textContent.includes(%q)) && !document.querySelector(".log script, .log b")`, hostileAnswer))
		keep(t, p, "trace-live")
		p.click(".trace .actions .btn:last-child")
		p.wait(`document.querySelector(".trace .note").textContent === "Stopped"`)
		noProblems(t, p)
	})

	// The links to traces say what sessions have: the name of a ready queue may be a list, and the hosts of another domain are not the domain.
	t.Run("traced", func(t *testing.T) {
		s.inject(t, mtakit.QueueName{Tenant: "shop", Domain: "routed.example", Routing: "relay.example"}, 1, time.Hour)
		p := c.open(t, 1200, 900, "light")
		p.view(s, "queues?open="+url.QueryEscape("scheduled:shop@routed.example!relay.example"))
		p.wait(`document.querySelector("dialog.drawer a[href^='#/trace']")`)
		if to := p.eval(`document.querySelector("dialog.drawer a[href^='#/trace']").getAttribute("href")`); to != "#/trace?domain=routed.example" {
			t.Errorf("the trace of a queue with a routing domain is %v", to)
		}
		const list = "ip 1->mx_list:a.example,b.example@smtp_client"
		p.view(s, "trace?ready_queue="+url.QueryEscape(list))
		p.wait(`document.querySelector(".trace .note").textContent.startsWith("Listening")`)
		s.talk(list)
		s.talk("ip-198-51-100-7->mx.busy.example@smtp_client")
		p.wait(`document.querySelector(".trace .note").textContent === "Listening: 12 events of 1 connection"`)
	})

	// The last: the server goes away.
	t.Run("stopped", func(t *testing.T) {
		p := c.open(t, 1200, 900, "light")
		p.view(s, "overview")
		p.wait(`document.querySelector("#pulse").textContent === "Live" && document.querySelector("#banner").hidden`)
		s.server.CloseClientConnections()
		s.server.Close()
		p.wait(`!document.querySelector("#banner").hidden && document.querySelector("#pulse").textContent === "No answer" && document.querySelector(".tile .big")`)
		keep(t, p, "stopped")
		p.goTo(s.url + "/#/sources") // a view that has shown nothing yet
		p.wait(`document.querySelector("main .problem.away") && document.querySelector("main .btn").textContent === "Try again"`)
	})
}

// What a server does not have or does not permit is missing on the page, and it says so.
func TestLess(t *testing.T) {
	c := start(t)
	var locked atomic.Bool
	s := newStation(t, func(cfg *httpapi.Config) {
		cfg.Activity = nil
		cfg.Permit = func(ctx context.Context, a *httpapi.Access) (httpapi.Permission, error) {
			if strings.HasPrefix(a.Path, "/api/admin/rules") || strings.HasPrefix(a.Path, "/api/admin/summary") && locked.Load() {
				return httpapi.Denied, nil
			}
			return httpapi.DefaultPermit(ctx, a)
		}
	})
	p := c.open(t, 1200, 900, "light")
	p.view(s, "overview")
	p.wait(`document.querySelectorAll("main .tile").length === 3`)
	p.wait(`document.body.innerText.includes("This server has no endpoint for history.") && document.body.innerText.includes("This server has no endpoint for failures.")`)
	p.wait(`document.body.innerText.includes("You are not permitted to see rules.")`)
	keep(t, p, "less")
	locked.Store(true) // while it is looked at
	p.wait(`document.querySelector("main > .callout.bad")?.textContent.includes("denied GET on http_listener/") && document.querySelectorAll("main .tile").length === 3`)
	locked.Store(false)
	p.wait(`!document.querySelector("main > .callout.bad")`)
	p.goTo(s.url + "/#/rules")
	p.wait(`document.querySelector("main .problem.denied")`)
}

type users map[string]string

func (u users) Authenticate(_ context.Context, _, authn, password string) (*mtakit.Identity, error) {
	if password == "" || u[authn] != password {
		return nil, mtakit.ErrBadCredentials
	}
	return &mtakit.Identity{Authn: authn, Authz: authn}, nil
}

// Who is not trusted is asked for a password by the browser, which then gives it to the endpoints, too.
func TestPassword(t *testing.T) {
	c := start(t)
	s := newStation(t, func(cfg *httpapi.Config) {
		cfg.Trusted, cfg.Auth = mtakit.Prefixes{}, users{"ann": "secret"}
		cfg.Permit = func(_ context.Context, a *httpapi.Access) (httpapi.Permission, error) {
			if len(a.Auth.Identities) > 0 {
				return httpapi.Allowed, nil
			}
			return httpapi.NotPermitted, nil
		}
	})
	p := c.open(t, 1200, 900, "light")
	p.do("Fetch.enable", map[string]any{"handleAuthRequests": true}, nil)
	p.goTo(s.url + "/")
	p.wait(`document.body?.innerText.includes("not permitted GET on http_listener/")`)
	p.basic = "ann:secret"
	p.goTo("about:blank")
	p.goTo(s.url + "/#/queues")
	p.wait(`document.querySelectorAll("main tbody tr").length === 50`)
	p.view(s, "trace?domain=x.example") // a websocket has the password, too
	p.wait(`document.querySelector(".trace .note").textContent.startsWith("Listening")`)
}

func get(t *testing.T, s *station, path string, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// The headers keep out what is not ours, and files are sent once.
func TestFiles(t *testing.T) {
	t.Parallel()
	s := newStation(t, nil)
	files, err := filepath.Glob("static/*")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		path := "/dashboard/" + filepath.Base(f)
		if path == "/dashboard/index.html" {
			path = "/"
		}
		r := get(t, s, path)
		tag := r.Header.Get("ETag")
		if r.StatusCode != 200 || tag == "" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		}
		policy := r.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'; script-src 'self'; style-src 'self';") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: policy is %q", path, policy)
		}
		if again := get(t, s, path, "If-None-Match", `"x", `+tag); again.StatusCode != 304 {
			t.Errorf("%s: %d for those who have it", path, again.StatusCode)
		}
		if again := get(t, s, path, "If-None-Match", `W/"x"`); again.StatusCode != 200 {
			t.Errorf("%s: %d for those who have another", path, again.StatusCode)
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "style=", "onclick=", "<style", "http://", "https://"} {
			for line := range strings.SplitSeq(string(text), "\n") {
				if strings.Contains(line, bad) && !strings.Contains(line, "http://www.w3.org/2000/svg") {
					t.Errorf("%s has %s: %s", f, bad, line)
				}
			}
		}
	}
}
