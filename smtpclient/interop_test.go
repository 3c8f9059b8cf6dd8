package smtpclient_test

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

// TestPostfixSink sends to Postfix's smtp-sink, where that is installed.
func TestPostfixSink(t *testing.T) {
	t.Parallel()
	exe, err := exec.LookPath("smtp-sink")
	if err != nil {
		if exe, err = exec.LookPath("/usr/sbin/smtp-sink"); err != nil {
			t.Skip("smtp-sink is not installed")
		}
	}
	l := listen(t)
	addr := l.Addr().String()
	l.Close() // smtp-sink takes the port over
	cmd := exec.CommandContext(t.Context(), exe, "-u", "nobody", addr, "100")
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for deadline := time.Now().Add(10 * time.Second); ; {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Skipf("smtp-sink doesn't listen: %v %s", err, log.String())
		}
	}
	p := pathTo(nil)
	p.Site = addrSite(addr)
	s := connect(t, egress(nil), p)
	const n = 50
	list := make([]*mtakit.Delivery, n)
	for i := range list {
		list[i] = delivery("a@x.test", strings.Repeat(fmt.Sprintf(".line %d\r\n", i), 1+i*i*10), "b@y.test", "c@y.test")
	}
	for i, d := range list {
		err := s.Send(t.Context(), d, func() *mtakit.Delivery {
			if i+1 < n {
				return list[i+1]
			}
			return nil
		})
		if err != nil || len(d.Results) != 2 || !d.Results[0].Response.OK() {
			t.Fatalf("message %d: %v, %s", i, err, results(d))
		}
	}
}
