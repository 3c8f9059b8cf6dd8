// Package dashboard is a page for the operator of an MTA: traffic, queues and why they wait, failures, rules, sources, live traces and explanations.
//
//	api, err := httpapi.New(httpapi.Config{Queue: q, Activity: activity, …})
//	dashboard.Mount(api)
//
// The page is at / and its files are below /dashboard/. It is plain HTML, CSS and JavaScript, embedded, and asks the endpoints below /api/admin that its
// server has, nothing else; what a server does not have, or does not permit, is missing on the page and says so. Who may see it is up to
// [httpapi.Config.Permit]. A browser whose user may not is asked for a password, if there are any. It needs a browser of 2024 or later.
//
// Everything that comes from outside, such as names of queues and answers of peers, is set as text. The Content-Security-Policy allows no script or style but
// the embedded files, no markup from strings, and no other server.
//
// The package has no goroutine and no state.
package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/mtakit/mtakit/queue/httpapi"
)

//go:embed static
var static embed.FS

// policy is the Content-Security-Policy of everything.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'"

// types are the media types of the files, by the end of their names.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// Mount adds the page and its files to api.
func Mount(api *httpapi.API) {
	files, err := fs.ReadDir(static, "static")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, f := range files {
		name := "/dashboard/" + f.Name()
		if f.Name() == "index.html" {
			name = "/"
		}
		text, err := fs.ReadFile(static, "static/"+f.Name())
		if err != nil {
			panic(err)
		}
		api.HandlePage(name, newFile(f.Name(), text))
	}
}

// file is one of the files as it is served.
type file struct {
	text      []byte
	kind, tag string
}

func newFile(name string, text []byte) *file {
	sum := sha256.Sum256(text)
	kind := types[path.Ext(name)]
	if kind == "" {
		panic(fmt.Sprintf("dashboard: %s has no type", name))
	}
	return &file{text, kind, `W/"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
}

// ServeHTTP implements [http.Handler]. A browser asks again each time, and is told that nothing has changed for as long as that is so.
func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", f.tag)
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if strings.TrimSpace(tag) == f.tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Type", f.kind)
	h.Set("Content-Length", strconv.Itoa(len(f.text)))
	w.Write(f.text)
}
