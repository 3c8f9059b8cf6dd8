package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// The programs that the world sends and receives mail with, each where it is installed. Servers among them run as instances of the test, with
// their own configuration and spool, on loopback.

// bodies are what mail systems have to carry unchanged, by the local part of the recipient.
func bodies() map[string]string {
	var big strings.Builder
	for big.Len() < 20<<20-4000 {
		big.WriteString(strings.Repeat("0123456789", 7) + "\r\n")
	}
	return map[string]string{
		"dots":     ".\r\n..\r\n.a\r\n...\r\nb.\r\n.\r\n",
		"8-bit":    "gr\xc3\xbc\xc3\x9fe \x80\xff\xc3\xa4\r\n\xfe\r\n",
		"998":      strings.Repeat("x", 998) + "\r\n" + strings.Repeat(".", 998) + "\r\n",
		"empty":    "",
		"blank":    "\r\n\r\n\r\n",
		"spaces":   " a \t\r\n\t\r\nb  \r\n",
		"from":     "From here\r\n>From there\r\n",
		"one-byte": "x\r\n",
		"big":      big.String(),
	}
}

// text is a whole message around a body, with every header that others like to add.
func text(name, body string) string {
	return "Date: Mon, 2 Jan 2006 15:04:05 +0000\r\nFrom: <a@x.test>\r\nTo: <" + name + "@dest.test>\r\nMessage-Id: <" + name + "@x.test>\r\nSubject: " + name + "\r\n\r\n" + body
}

func stuffed(text string) string { return strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")[2:] }

// sendBodies hands all of bodies to addr.
func sendBodies(t *testing.T, addr string) map[string]string {
	t.Helper()
	c, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all := bodies()
	for name, body := range all {
		if err := c.send("a@x.test", name+"@dest.test", stuffed(text(name, body))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return all
}

// arrived checks that messages with these bodies came to peer, once each, byte for byte behind what was added at the top.
func arrived(t *testing.T, peer *smtptest.Peer, want map[string]string, most time.Duration) {
	t.Helper()
	ctx, cancel := contextFor(t, most)
	defer cancel()
	if err := peer.Wait(ctx, len(want)); err != nil {
		t.Errorf("%d of %d messages arrived within %v", len(peer.Messages()), len(want), most)
	}
	seen := map[string]bool{}
	for _, m := range peer.Messages() {
		name, _, _ := strings.Cut(m.To[0], "@")
		if seen[name] {
			t.Errorf("%s came twice", name)
		}
		seen[name] = true
		sameEnd(t, name, m.Data, text(name, want[name]))
	}
}

func sameEnd(t *testing.T, name string, got []byte, want string) {
	t.Helper()
	if bytes.HasSuffix(got, []byte(want)) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[len(got)-1-i] == want[len(want)-1-i] {
		i++
	}
	t.Errorf("%s: the last %d of %d bytes are right, the end should be the %d bytes sent; before that: %.200q", name, i, len(got), len(want),
		got[max(0, len(got)-i-100):len(got)-i])
}

// program finds a program, also where only root looks for it, or skips the test.
func program(t testing.TB, name string) string {
	t.Helper()
	for _, p := range []string{name, "/usr/sbin/" + name, "/usr/lib/postfix/sbin/" + name} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// lookUp skips the test if there is no such user.
func lookUp(t testing.TB, name string) (uid int) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Skip(err)
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start it")
	}
}

// freeAddr is a loopback address that nobody listens at.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// background runs a server until the test ends, and returns once it accepts connections at addr. It is stopped with the command stop, or by
// SIGTERM if that is nil.
func background(t testing.TB, addr string, stop []string, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if stop != nil {
			exec.Command(stop[0], stop[1:]...).Run()
		} else {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
		}
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left of the group
		if t.Failed() {
			t.Logf("%s:\n%s", argv[0], log.String())
		}
	})
	for end := time.Now().Add(20 * time.Second); ; {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Skipf("%s does not run here: %v\n%s", argv[0], err, log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not listen at %s\n%s", argv[0], addr, log.String())
		}
	}
}

// certificate writes a certificate for 127.0.0.1 and gives the names of the files: it, its key, and the CA's.
func certificate(t testing.TB, ca *smtptest.CA) (cert, key, root string) {
	t.Helper()
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	c, k := ca.KeyPEM(ca.Certificate("127.0.0.1", "mx.test"))
	cert, key, root = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	for name, b := range map[string][]byte{cert: c, key: k, root: ca.PEM()} {
		mode := os.FileMode(0o644)
		if name == key {
			mode = 0o600
		}
		if err := os.WriteFile(name, b, mode); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, root
}

// mtas are other mail systems, which relay what comes to addr on to next, with TLS where it is offered, and offer it with the certificate.
var mtas = map[string]func(t testing.TB, addr, next, cert, key string){"Postfix": postfix, "Exim": exim, "OpenSMTPD": openSMTPD}

func postfix(t testing.TB, addr, next, cert, key string) {
	exe := program(t, "postfix")
	needRoot(t)
	uid := lookUp(t, "postfix")
	dir := filepath.Dir(t.TempDir())
	os.Chmod(dir, 0o755)
	conf, spool, data := filepath.Join(dir, "etc"), filepath.Join(dir, "spool"), filepath.Join(dir, "data")
	for _, d := range []string{conf, spool, data} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chown(data, uid, -1)
	host, port, _ := net.SplitHostPort(next)
	write(t, filepath.Join(conf, "main.cf"), `compatibility_level = 3.6
queue_directory = `+spool+`
data_directory = `+data+`
maillog_file = /dev/stdout
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.test
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
relayhost = [`+host+`]:`+port+`
local_header_rewrite_clients =
message_size_limit = 50000000
mailbox_size_limit = 0
smtpd_tls_security_level = may
smtpd_tls_cert_file = `+cert+`
smtpd_tls_key_file = `+key+`
smtpd_tls_received_header = yes
smtp_tls_security_level = may
smtp_tls_loglevel = 1
`)
	write(t, filepath.Join(conf, "master.cf"), addr+` inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`)
	background(t, addr, []string{exe, "-c", conf, "stop"}, exe, "-c", conf, "start-fg")
}

func exim(t testing.TB, addr, next, cert, key string) {
	exe := program(t, "exim4")
	needRoot(t)
	uid := lookUp(t, "Debian-exim")
	dir := filepath.Dir(t.TempDir())
	os.Chmod(dir, 0o755)
	spool := filepath.Join(dir, "spool")
	if err := os.MkdirAll(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{spool, key} {
		os.Chown(f, uid, -1)
	}
	_, port, _ := net.SplitHostPort(next)
	host, listen, _ := net.SplitHostPort(addr)
	conf := filepath.Join(dir, "exim.conf")
	write(t, conf, `primary_hostname = exim.test
spool_directory = `+spool+`
log_file_path = `+filepath.Join(spool, "%slog")+`
deliver_drop_privilege
local_interfaces = `+host+`
daemon_smtp_ports = `+listen+`
pid_file_path = `+filepath.Join(dir, "exim.pid")+`
tls_advertise_hosts = *
tls_certificate = `+cert+`
tls_privatekey = `+key+`
message_size_limit = 50M
acl_smtp_rcpt = accept
acl_smtp_data = accept
accept_8bitmime = true
queue_run_max = 5
begin routers
out:
  driver = manualroute
  transport = out
  route_list = * 127.0.0.1::`+port+`
  self = send
  no_more
begin transports
out:
  driver = smtp
  allow_localhost
  hosts_try_fastopen = :
  tls_verify_hosts = :
begin retry
* * F,1h,1s
`)
	background(t, addr, nil, exe, "-C", conf, "-bdf", "-q10s")
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(spool, "mainlog"))
			t.Logf("log of Exim:\n%s", b)
		}
	})
}

// openSMTPD listens in clear text: with OpenSSL 3 it can't use the keys of smtptest.
func openSMTPD(t testing.TB, addr, next, _, _ string) {
	exe := program(t, "smtpd")
	if strings.HasSuffix(exe, "/postfix/sbin/smtpd") {
		t.Skip("smtpd is that of Postfix")
	}
	needRoot(t)
	lookUp(t, "opensmtpd")
	conf := filepath.Join(t.TempDir(), "smtpd.conf")
	host, port, _ := net.SplitHostPort(addr)
	write(t, conf, `smtp max-message-size "50M"
listen on `+host+` port `+port+` hostname opensmtpd.test
action "out" relay host smtp://`+next+`
match from any for any action "out"
`)
	background(t, addr, nil, exe, "-d", "-f", conf)
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Mail goes from kumod to another system and from there to kumod, with TLS on both legs, and arrives byte for byte.
func TestThroughOtherSystems(t *testing.T) {
	for name, run := range mtas {
		t.Run(name, func(t *testing.T) {
			cert, key, root := certificate(t, smtptest.NewCA(t))
			t.Setenv("SSL_CERT_FILE", root)
			peer := smtptest.NewPeer(t, nil)
			dirs := []string{t.TempDir(), t.TempDir()}
			last := start(t, nil, "--data", dirs[1], "--relay-to", peer.Addr().String(), "--hostname", "last.test")
			addr := freeAddr(t)
			run(t, addr, last.smtp, cert, key)
			first := start(t, nil, "--data", dirs[0], "--relay-to", addr, "--hostname", "first.test")
			want := sendBodies(t, first.smtp)
			arrived(t, peer, want, time.Minute)
			first.drained(10 * time.Second)
			last.drained(10 * time.Second)
			first.stop()
			last.stop()
			for _, r := range readLog(t, filepath.Join(dirs[0], "logs")) {
				if r.Kind == mtakit.Delivered && r.TLSCipher == "" && name != "OpenSMTPD" {
					t.Errorf("%v went out in clear text", r.To)
				} else if r.Kind != mtakit.Delivered && r.Kind != mtakit.Reception {
					t.Errorf("%s of %v: %s", r.Kind, r.To, r.Response)
				}
			}
			for _, r := range readLog(t, filepath.Join(dirs[1], "logs")) {
				if r.Kind == mtakit.Reception && r.TLSVersion == "" {
					t.Errorf("%v came in clear text", r.To)
				}
			}
		})
	}
}

// Whether the certificate counts depends on enable_tls; why it does not is in the record.
func TestTLSModes(t *testing.T) {
	cert, key, root := certificate(t, smtptest.NewCA(t))
	empty := filepath.Join(t.TempDir(), "empty.pem")
	write(t, empty, "")
	_, _, other := certificate(t, smtptest.NewCA(t))
	behind := smtptest.NewPeer(t, nil)
	addr := freeAddr(t)
	postfix(t, addr, behind.Addr().String(), cert, key)
	plain := smtptest.NewPeer(t, nil)
	for _, tt := range []struct {
		name, mode, roots, to string
		cipher                bool
		fails                 string // part of the response
	}{
		{"opportunistic", "Opportunistic", root, addr, true, ""},
		{"opportunistic without roots", "Opportunistic", empty, addr, false, "this system has no CA certificates to verify it with"},
		{"opportunistic with another root", "Opportunistic", other, addr, false, "x509: certificate signed by unknown authority"},
		{"insecure without roots", "OpportunisticInsecure", empty, addr, true, ""},
		{"required", "Required", root, addr, true, ""},
		{"required without roots", "Required", empty, addr, false, "this system has no CA certificates to verify it with"},
		{"required insecure without roots", "RequiredInsecure", empty, addr, true, ""},
		{"disabled", "Disabled", root, addr, false, ""},
		{"required and not offered", "Required", root, plain.Addr().String(), false, "STARTTLS"},
		{"opportunistic and not offered", "Opportunistic", root, plain.Addr().String(), false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("SSL_CERT_FILE", tt.roots)
			t.Setenv("SSL_CERT_DIR", t.TempDir())
			dir, file := t.TempDir(), filepath.Join(t.TempDir(), "shaping.toml")
			write(t, file, "[default]\nenable_tls = \""+tt.mode+"\"\n")
			d := start(t, nil, "--data", dir, "--relay-to", tt.to, "--shaping", file)
			c, err := dial(d.smtp)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.send("a@x.test", "b@dest.test", text("b", "x\r\n")); err != nil {
				t.Fatal(err)
			}
			got := func() *mtakit.Record {
				for _, r := range readLog(t, filepath.Join(dir, "logs")) {
					if r.Kind != mtakit.Reception {
						return &r
					}
				}
				return nil
			}
			var r *mtakit.Record
			for end := time.Now().Add(20 * time.Second); r == nil; r = got() {
				if time.Now().After(end) {
					t.Fatal("there is no record")
				}
			}
			d.stop()
			switch {
			case tt.fails == "" && (r.Kind != mtakit.Delivered || tt.cipher != (r.TLSCipher != "")):
				t.Errorf("%s with cipher %q: %s", r.Kind, r.TLSCipher, r.Response)
			case tt.fails != "" && (r.Kind != mtakit.TransientFailure || !strings.Contains(r.Response.Text, tt.fails)):
				t.Errorf("%s: %s, want %q in it", r.Kind, r.Response, tt.fails)
			}
		})
	}
}

// swaks hands over mail in clear text and over TLS, with and without pipelining.
func TestSwaks(t *testing.T) {
	exe := program(t, "swaks")
	peer := smtptest.NewPeer(t, nil)
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String())
	file := filepath.Join(t.TempDir(), "message")
	want := map[string]string{}
	for i, options := range [][]string{{}, {"--tls"}, {"--pipeline"}, {"--tls", "--pipeline"}} {
		for name, body := range bodies() {
			if name == "big" {
				body = body[:1<<20] + "\r\n"
			}
			name += strconv.Itoa(i)
			// swaks makes CRLF of LF, and ends the message with one more, except that it takes a dot on the last line for the end.
			body = strings.TrimSuffix(body, ".\r\n")
			want[name] = body + "\r\n"
			write(t, file, strings.ReplaceAll(text(name, body), "\r\n", "\n"))
			out, err := exec.Command(exe, append([]string{"--server", d.smtp, "--helo", "swaks.test", "--from", "a@x.test",
				"--to", name + "@dest.test", "--data", "@" + file}, options...)...).CombinedOutput()
			if err != nil && bytes.Contains(out, []byte("TLS not available")) {
				t.Logf("no TLS here: %s", firstLine(out))
				delete(want, name)
			} else if err != nil {
				t.Errorf("%v %s: %v\n%.3000s", options, name, err, out)
			}
		}
	}
	arrived(t, peer, want, 20*time.Second)
	d.stop()
}

func firstLine(b []byte) []byte { l, _, _ := bytes.Cut(b, []byte("\n")); return l }

// smtp-source hands over many messages on many connections, with several recipients each.
func TestSMTPSource(t *testing.T) {
	exe := program(t, "smtp-source")
	peer := smtptest.NewPeer(t, nil)
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String())
	const messages, recipients, size = 300, 3, 5000
	for i, options := range [][]string{{}, {"-d"}} { // a connection a message, and kept ones
		out, err := exec.Command(exe, append(options, "-s", "20", "-m", strconv.Itoa(messages), "-l", strconv.Itoa(size), "-r", strconv.Itoa(recipients),
			"-N", "-f", "a@x.test", "-t", fmt.Sprintf("run%d@dest.test", i), d.smtp)...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", options, err, out)
		}
	}
	d.drained(20 * time.Second)
	to := map[string]int{}
	for _, m := range peer.Messages() {
		for _, rcpt := range m.To {
			to[rcpt]++
		}
		if !bytes.Contains(m.Data, []byte("\r\nSubject: from smtp-source\r\n\r\n")) && !bytes.Contains(m.Data, []byte("\r\n\r\nLa de da de da")) && len(m.Data) < size {
			t.Errorf("message has %d bytes: %.300q", len(m.Data), m.Data)
		}
	}
	total := 0
	for _, n := range to {
		total += n
	}
	if total != 2*messages*recipients {
		t.Errorf("%d recipients got mail, want %d", total, 2*messages*recipients)
	}
	d.stop()
}

// smtp-sink gets what was sent; its dumps have LF line ends.
func TestSMTPSink(t *testing.T) {
	exe := program(t, "smtp-sink")
	dir, addr := t.TempDir(), freeAddr(t)
	os.Chmod(dir, 0o777)
	argv := []string{exe, "-d", filepath.Join(dir, "m.")}
	if os.Geteuid() == 0 {
		argv = append(argv, "-u", "nobody")
		for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
			os.Chmod(d, 0o777)
		}
	}
	background(t, addr, nil, append(argv, addr, "100")...)
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", addr)
	want := sendBodies(t, d.smtp)
	d.drained(20 * time.Second)
	d.stop()
	files, err := filepath.Glob(filepath.Join(dir, "m.*"))
	if err != nil || len(files) < len(want) {
		t.Fatalf("%d messages arrived, want %d (%v)", len(files), len(want), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		i := bytes.Index(b, []byte("X-Rcpt-Args: <"))
		if i < 0 {
			continue // the connection that looked whether it listens
		}
		name, _, _ := bytes.Cut(b[i+len("X-Rcpt-Args: <"):], []byte("@"))
		body, ok := want[string(name)]
		if !ok {
			t.Errorf("%s came twice", name)
		}
		delete(want, string(name))
		sameEnd(t, string(name), b, strings.ReplaceAll(text(string(name), body), "\r\n", "\n")+"\n") // of the dump
	}
	if len(want) > 0 {
		t.Errorf("%d messages did not arrive", len(want))
	}
}

// msmtp hands over mail, over TLS that it verifies.
func TestMsmtp(t *testing.T) {
	exe := program(t, "msmtp")
	cert, key, root := certificate(t, smtptest.NewCA(t))
	peer := smtptest.NewPeer(t, nil)
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String(), "--tls-cert", cert, "--tls-key", key)
	host, port, _ := net.SplitHostPort(d.smtp)
	want := bodies()
	for name, body := range want {
		cmd := exec.Command(exe, "--host="+host, "--port="+port, "--from=a@x.test", "--tls=on", "--tls-starttls=on", "--tls-trust-file="+root,
			"--domain=msmtp.test", "--auto-from=off", name+"@dest.test")
		cmd.Stdin = strings.NewReader(strings.ReplaceAll(text(name, body), "\r\n", "\n"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	arrived(t, peer, want, 20*time.Second)
	for _, m := range peer.Messages() {
		if !bytes.Contains(m.Data, []byte("with ESMTPS")) {
			t.Errorf("%v: no ESMTPS in %.300q", m.To, m.Data)
		}
	}
	d.stop()
}

// The certificate that kumod shows is the one given, and after a SIGHUP the one that is there then.
func TestCertificateRenewed(t *testing.T) {
	ca := smtptest.NewCA(t)
	cert, key, _ := certificate(t, ca)
	d := start(t, nil, "--data", t.TempDir(), "--tls-cert", cert, "--tls-key", key)
	serial := func() string {
		c, err := dial(d.smtp)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.do("220", "STARTTLS\r\n"); err != nil {
			t.Fatal(err)
		}
		tc := tls.Client(c.Conn, &tls.Config{RootCAs: ca.Pool(), ServerName: "mx.test"})
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		return tc.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	c, k := ca.KeyPEM(ca.Certificate("mx.test"))
	if err := os.WriteFile(key, k, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert, c, 0o600); err != nil {
		t.Fatal(err)
	}
	d.cmd.Process.Signal(syscall.SIGHUP)
	for end := time.Now().Add(10 * time.Second); serial() == before; {
		if time.Now().After(end) {
			t.Fatal("the old certificate is shown still")
		}
	}
	d.stop()
}
