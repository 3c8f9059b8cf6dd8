package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/mtakit/mtakit"
)

// TrustedGroup is the group of clients whose address is trusted.
const TrustedGroup = "kumomta:http-listener-trusted-ip"

// Contexts of identities.
const (
	BasicAuth   = "HttpBasicAuth"
	BearerToken = "BearerToken"
	LocalSystem = "LocalSystem"
)

// Identity is who somebody is, and how we know.
type Identity struct {
	Identity string
	Context  string // one of the constants
}

// AuthInfo is what is known of a client.
type AuthInfo struct {
	PeerAddress netip.Addr // invalid is unknown
	Identities  []Identity
	Groups      []string
}

// Trusted says whether the client's address is.
func (a *AuthInfo) Trusted() bool {
	for _, g := range a.Groups {
		if g == TrustedGroup {
			return true
		}
	}
	return false
}

// Summary is the metadata http_auth of messages: the name of the client's Basic authentication, or another one, or its address.
func (a *AuthInfo) Summary() string {
	for _, i := range a.Identities {
		if i.Context == BasicAuth {
			return i.Identity
		}
	}
	if len(a.Identities) > 0 {
		return a.Identities[0].Identity
	}
	if a.PeerAddress.IsValid() {
		return a.PeerAddress.String()
	}
	return ""
}

// who is how a denial names the client.
func (a *AuthInfo) who() string {
	s := "<Unauthenticated>"
	if len(a.Identities) > 0 {
		names := make([]string, len(a.Identities))
		for i, id := range a.Identities {
			names[i] = id.Identity
		}
		s = "id=[" + strings.Join(names, ", ") + "]"
	}
	if a.PeerAddress.IsValid() {
		s += "@ ip=" + a.PeerAddress.String()
	}
	return s
}

// meta is a as metadata of a message.
func (a *AuthInfo) meta() map[string]any {
	ids := make([]any, len(a.Identities))
	for i, id := range a.Identities {
		ids[i] = map[string]any{"identity": id.Identity, "context": id.Context}
	}
	groups := make([]any, len(a.Groups))
	for i, g := range a.Groups {
		groups[i] = g
	}
	m := map[string]any{"peer_address": nil, "identities": ids, "groups": groups}
	if a.PeerAddress.IsValid() {
		m["peer_address"] = a.PeerAddress.String()
	}
	return m
}

// authInfoOf is the inverse of meta; what does not fit is left out.
func authInfoOf(meta any) *AuthInfo {
	m, _ := meta.(map[string]any)
	a := &AuthInfo{}
	if s, ok := m["peer_address"].(string); ok {
		a.PeerAddress, _ = netip.ParseAddr(s)
	}
	ids, _ := m["identities"].([]any)
	for _, v := range ids {
		id, _ := v.(map[string]any)
		name, ok1 := id["identity"].(string)
		context, ok2 := id["context"].(string)
		if ok1 && ok2 {
			a.Identities = append(a.Identities, Identity{name, context})
		}
	}
	groups, _ := m["groups"].([]any)
	for _, v := range groups {
		if g, ok := v.(string); ok {
			a.Groups = append(a.Groups, g)
		}
	}
	return a
}

// caller is the client of a request.
type caller struct {
	auth  AuthInfo
	local netip.AddrPort // our end
}

type callerKey struct{}

func withCaller(ctx context.Context, c *caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func callerOf(r *http.Request) *caller {
	c, _ := r.Context().Value(callerKey{}).(*caller)
	return c
}

// CallerOf tells a handler that was given to [API.Handle] who its client is.
func CallerOf(r *http.Request) *AuthInfo {
	if c := callerOf(r); c != nil {
		return &c.auth
	}
	return &AuthInfo{}
}

// admit finds out who the client is and whether it may do what it asks; if not, it has been answered.
func (a *API) admit(w http.ResponseWriter, r *http.Request) (*caller, bool) {
	c := &caller{}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.auth.PeerAddress = ap.Addr().Unmap().WithZone("")
	}
	if l, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if ap, err := netip.ParseAddrPort(l.String()); err == nil {
			c.local = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		}
	}
	if a.cfg.Trusted.Contains(c.auth.PeerAddress) && (!c.auth.PeerAddress.IsLoopback() || a.isOurs(r.Host)) {
		c.auth.Groups = []string{TrustedGroup}
	}
	if header, ok := r.Header["Authorization"]; ok {
		if status, body := a.authenticate(r.Context(), c, header[0]); status != 0 {
			if status == http.StatusUnauthorized {
				a.challenge(w, r, c)
			}
			text(w, status, body)
			return nil, false
		}
	}
	resource := resourceOf(c.local, r.URL.Path)
	p, err := a.cfg.Permit(r.Context(), &Access{Method: r.Method, Path: r.URL.Path, Resource: resource, Auth: &c.auth})
	switch {
	case err != nil:
		a.cfg.Log.Error("permission could not be decided", "method", r.Method, "path", r.URL.Path, "err", err)
		text(w, http.StatusInternalServerError, "try again later")
		return nil, false
	case p == Denied:
		a.challenge(w, r, c)
		text(w, http.StatusUnauthorized, fmt.Sprintf("%s denied %s on %s", c.auth.who(), r.Method, resource))
		return nil, false
	case p != Allowed:
		a.challenge(w, r, c)
		text(w, http.StatusUnauthorized, fmt.Sprintf("%s not permitted %s on %s", c.auth.who(), r.Method, resource))
		return nil, false
	}
	// A page from elsewhere in the browser of somebody whose address is trusted has no business here.
	if err := a.origin.Check(r); err != nil {
		problem(w, http.StatusForbidden, "%v", err)
		return nil, false
	}
	return c, true
}

// isOurs says whether a request that came over loopback was meant for this machine: its Host is an address, localhost or our name. It may have another one
// if somebody's browser here was led to us by a name in a page's own domain, or behind a proxy that lets others in.
func (a *API) isOurs(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	_, err := netip.ParseAddr(host)
	return err == nil || host == "" || strings.HasSuffix("."+host, ".localhost") || slices.Contains(a.names, host)
}

// authenticate adds the identity that the header proves, or says how to answer.
func (a *API) authenticate(ctx context.Context, c *caller, header string) (status int, body string) {
	for i := range len(header) {
		if header[i] < ' ' || header[i] >= 0x7f {
			return http.StatusBadRequest, "Malformed Authorization header"
		}
	}
	const bad = "Malformed or unsupported Authorization header"
	scheme, credential, _ := strings.Cut(header, " ")
	var check func() (*mtakit.Identity, error)
	var failed, name, kind string
	switch scheme {
	case "Basic":
		b, err := base64.StdEncoding.DecodeString(credential)
		if err != nil || !utf8.Valid(b) {
			return http.StatusBadRequest, bad
		}
		user, password, _ := strings.Cut(string(b), ":")
		name, kind = user, BasicAuth
		failed = "HttpBasicAuth Authentication Failed for " + oneLine(user)
		if a.cfg.Auth != nil {
			check = func() (*mtakit.Identity, error) { return a.cfg.Auth.Authenticate(ctx, "", user, password) }
		}
	case "Bearer":
		kind, failed = BearerToken, "BearerToken Authentication Failed for "
		if a.cfg.Bearer != nil {
			check = func() (*mtakit.Identity, error) { return a.cfg.Bearer(ctx, credential) }
		}
	default:
		return http.StatusBadRequest, bad
	}
	if check == nil {
		return http.StatusUnauthorized, failed
	}
	id, err := a.logins.do(a.cfg.Now(), header, check)
	switch {
	case errors.Is(err, mtakit.ErrBadCredentials):
		return http.StatusUnauthorized, failed
	case err != nil:
		a.cfg.Log.Error("authentication failed to be checked", "err", err)
		return http.StatusInternalServerError, "try again later"
	}
	if id.Authn != "" {
		name = id.Authn
	}
	c.auth.Identities = append(c.auth.Identities, Identity{name, kind})
	return 0, ""
}

// challenge has the browser of somebody who opens a page and is not known ask for a password (RFC 7617). One that is known and may not see the page would ask
// for ever.
func (a *API) challenge(w http.ResponseWriter, r *http.Request, c *caller) {
	if a.cfg.Auth != nil && a.pages[r.URL.Path] && len(c.auth.Identities) == 0 {
		w.Header().Set("WWW-Authenticate", `Basic realm="mtakit", charset="UTF-8"`)
	}
}

func oneLine(s string) string { return string(mtakit.AppendOneLine(nil, s)) }

const (
	loginKept = time.Minute
	loginsMax = 4096
)

// logins remembers for a minute how credentials were judged, since a good check of a password takes its time. The credentials themselves are not kept.
type logins struct {
	once sync.Once
	salt [32]byte

	mu    sync.Mutex
	known map[[32]byte]login
}

type login struct {
	id  *mtakit.Identity
	err error
	at  time.Time
}

func (l *logins) do(now time.Time, credential string, check func() (*mtakit.Identity, error)) (*mtakit.Identity, error) {
	l.once.Do(func() { rand.Read(l.salt[:]) })
	key := sha256.Sum256(append(l.salt[:len(l.salt):len(l.salt)], credential...))
	l.mu.Lock()
	k, ok := l.known[key]
	l.mu.Unlock()
	if ok && now.Sub(k.at) < loginKept && now.Sub(k.at) >= 0 {
		return k.id, k.err
	}
	id, err := check()
	if err == nil && id == nil {
		err = errors.New("httpapi: the authenticator gave no identity")
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil, err // of this request only
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) >= loginsMax {
		l.known = nil // somebody is guessing; checks cost again what they cost
	}
	if l.known == nil {
		l.known = make(map[[32]byte]login)
	}
	l.known[key] = login{id, err, now}
	return id, err
}
