package httpapi

import (
	"context"
	"net/netip"
	"strings"
)

// Access is what a client asks to do.
type Access struct {
	Method   string
	Path     string // of the URL
	Resource string // http_listener/ADDRESS/PATH
	Auth     *AuthInfo
}

// Permission is whether it may.
type Permission uint8

// Permissions. Everything that is not Allowed is refused; the others differ in the text.
const (
	NotPermitted Permission = iota // no rule allows it
	Allowed
	Denied // a rule forbids it
)

// DefaultPermit lets anyone ask for liveness and the description of the API, clients with a trusted address or a valid password inject, and only those
// with a trusted address do everything else. A valid password alone opens neither administration nor metrics.
func DefaultPermit(_ context.Context, a *Access) (Permission, error) {
	trusted := a.Auth.Trusted()
	allowed := false
	switch {
	case under(a.Path, "/api/check-liveness"), under(a.Path, "/rapidoc"), under(a.Path, "/api-docs/openapi.json"):
		allowed = a.Method == "GET"
	case under(a.Path, "/api/inject"):
		allowed = a.Method == "POST" && (trusted || len(a.Auth.Identities) > 0)
	case under(a.Path, "/api/admin"):
		allowed = (a.Method == "GET" || a.Method == "POST" || a.Method == "DELETE") && trusted
	case under(a.Path, "/api/xfer"):
		allowed = a.Method == "POST" && trusted
	default:
		allowed = a.Method == "GET" && trusted
	}
	if allowed {
		return Allowed, nil
	}
	return NotPermitted, nil
}

// under says whether path is dir or below it.
func under(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || rest[0] == '/')
}

const (
	resourcePath  = 256 // bytes of a path that count
	resourceDepth = 10
)

// resourceOf names what a rule is about.
func resourceOf(local netip.AddrPort, path string) string {
	path = strings.ToValidUTF8(path[:min(len(path), resourcePath)], "")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	parts = parts[:min(len(parts), resourceDepth)]
	listener := "*"
	if local.IsValid() {
		listener = local.String()
	}
	return "http_listener/" + listener + "/" + strings.Join(parts, "/")
}
