package smtpserver

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mtakit/mtakit"
)

// authLine is how long a line of the exchange may be (RFC 4954, 4).
const authLine = 16384

// auth is AUTH with PLAIN (RFC 4616) or LOGIN. An error is the connection's.
func (s *Session) auth(arg string) error {
	if s.srv.Auth == nil {
		s.reply(502, enhanced{5, 5, 1}, "Command unimplemented")
		return nil
	}
	mech, initial, _ := strings.Cut(strings.Trim(arg, " "), " ")
	mech = strings.ToUpper(mech)
	switch {
	case mech == "":
		s.syntaxError("")
		return nil
	case s.identity != nil:
		s.reply(503, enhanced{5, 5, 1}, "AUTH me once, can't get authed again!")
		return nil
	case s.open:
		s.reply(503, enhanced{5, 5, 1}, "AUTH not permitted inside a transaction")
		return nil
	case mech != "PLAIN" && mech != "LOGIN":
		s.reply(504, enhanced{5, 5, 4}, "AUTH ", mech, " not supported")
		return nil
	case s.tls == nil:
		s.reply(524, enhanced{5, 7, 11}, "AUTH ", mech, " requires an encrypted channel")
		return nil
	}
	if mech == "LOGIN" {
		return s.authLogin(initial)
	}
	token, ok, err := s.authResponse(initial, " ")
	if err != nil || !ok {
		return err
	}
	fields := bytes.Split(token, []byte{0})
	switch {
	case len(fields) != 3:
		s.reply(501, enhanced{5, 5, 2}, "Invalid decoded PLAIN response")
	case !utf8.Valid(token):
		s.reply(501, enhanced{5, 5, 2}, "Invalid UTF8 in decoded PLAIN response")
	default:
		s.authenticate(string(fields[0]), string(fields[1]), string(fields[2]))
	}
	return nil
}

// authLogin asks for name and password one after the other.
func (s *Session) authLogin(initial string) error {
	name, ok, err := s.authResponse(initial, "VXNlcm5hbWU6")
	if err != nil || !ok {
		return err
	}
	password, ok, err := s.authResponse("", "UGFzc3dvcmQ6")
	if err != nil || !ok {
		return err
	}
	if !utf8.Valid(name) || !utf8.Valid(password) {
		s.reply(501, enhanced{5, 5, 2}, "Invalid UTF8 in decoded LOGIN response")
		return nil
	}
	s.authenticate("", string(name), string(password))
	return nil
}

// authResponse decodes the client's answer: the initial response, or if there is none the line that follows a challenge. If ok is false, the
// client has been told why.
func (s *Session) authResponse(initial, challenge string) (token []byte, ok bool, err error) {
	line := []byte(initial)
	if initial == "" {
		if s.reply(334, enhanced{}, challenge) != 334 {
			return nil, false, nil
		}
		s.authing = true
		line, err = s.line(authLine)
		s.authing = false
		switch {
		case err == errLineTooLong:
			s.reply(500, enhanced{5, 5, 6}, "authentication exchange line too long")
			return nil, false, nil
		case err != nil:
			return nil, false, err
		case !utf8.Valid(line):
			s.reply(501, enhanced{5, 5, 2}, "Invalid UTF-8 in authentication exchange")
			return nil, false, nil
		case string(line) == "*":
			s.reply(501, enhanced{5, 5, 0}, "AUTH cancelled by client")
			return nil, false, nil
		}
	} else if initial == "=" { // RFC 4954, 4: empty
		return nil, true, nil
	}
	token = make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Decode(token, line)
	if err != nil {
		s.reply(501, enhanced{5, 5, 2}, "Invalid base64 response")
		return nil, false, nil
	}
	return token[:n], true, nil
}

// authenticate asks the Authenticator, unless there were too many failures for the address or the user.
func (s *Session) authenticate(authz, authn, password string) {
	if authz == "" {
		authz = authn
	}
	keys := [...]string{"address " + s.peer.Addr.Addr().String(), "user " + authn}
	if !s.srv.authLimit.allow(time.Now(), keys[:]...) {
		s.log(slog.LevelWarn, "smtp auth", "authn_id", authn, "authz_id", authz, "result", "too many failures")
		s.reply(421, enhanced{4, 7, 0}, s.opt.Hostname, " too many authentication failures. Try later")
		return
	}
	id, err := call(s, s.ctx, "smtp_server_auth_plain", func(ctx context.Context) (*mtakit.Identity, error) {
		return s.srv.Auth.Authenticate(ctx, authz, authn, password)
	})
	if err == nil && id == nil {
		err = errors.New("smtpserver: the Authenticator returned no identity")
	}
	if err != nil {
		s.log(slog.LevelWarn, "smtp auth", "authn_id", authn, "authz_id", authz, "result", "failed", "err", err)
		if errors.Is(err, mtakit.ErrBadCredentials) {
			s.srv.authLimit.failed(time.Now(), keys[:]...)
			s.reply(535, enhanced{5, 7, 8}, "AUTH invalid")
			return
		}
		s.refuse(err)
		return
	}
	who := *id
	if who.Authz == "" {
		who.Authz = who.Authn
	}
	s.log(slog.LevelInfo, "smtp auth", "authn_id", who.Authn, "authz_id", who.Authz, "result", "ok")
	s.identity, s.domains = &who, nil
	s.meta[mtakit.MetaAuthnID] = who.Authn
	s.meta[mtakit.MetaAuthzID] = who.Authz
	s.reply(235, enhanced{2, 7, 0}, "AUTH OK!")
}
