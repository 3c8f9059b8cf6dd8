package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mtakit/mtakit/smtpclient/route/routetest"
)

// A daemon of a release that can't resolve: kcli looks in the DNS, asking the daemon once or, as look-ups overlap, a few times.
func TestSitesByDNS(t *testing.T) {
	t.Parallel()
	srv := routetest.NewServer(`
		a.example.    MX 10 mx1.mail.example.
		a.example.    MX 20 mx2.mail.example.
		b.example.    MX 10 mx1.mail.example.
		b.example.    MX 20 mx2.mail.example.
		c.example.    MX 10 mx.other.example.
		mx1.mail.example. A 192.0.2.1
		mx2.mail.example. A 192.0.2.2
		mx.other.example. A 192.0.2.3
	`)
	t.Cleanup(func() { srv.Close() })
	dns, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			fmt.Fprint(w, "# TYPE ready_count gauge\n"+
				`ready_count{service="smtp_client:s->(mx1|mx2).mail.example@smtp_client"} 3`+"\n"+
				`ready_count{service="smtp_client:s->mx.other.example@smtp_client"} 4`+"\n"+
				"# TYPE total_messages_delivered_by_provider counter\n"+
				`total_messages_delivered_by_provider{provider="(mx1|mx2).mail.example"} 9`+"\n"+
				"# TYPE scheduled_count gauge\n"+
				`scheduled_count{queue="t@a.example"} 1`+"\n"+`scheduled_count{queue="b.example"} 2`+"\n"+`scheduled_count{queue="c.example"} 3`+"\n"+
				`scheduled_count{queue="x@c.example!a.example"} 4`+"\n"+`scheduled_count{queue="none.example"} 5`+"\n")
		case "/api/admin/ready-q-states/v1":
			fmt.Fprint(w, `{"states_by_ready_queue":{}}`)
		case egressPathPath:
			http.NotFound(w, r)
		default:
			fmt.Fprint(w, `[]`)
		}
	}))
	t.Cleanup(daemon.Close)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"queue-summary", "--domain", "b.example"}, `SITE                   SOURCE PROTO       D T C Q
(mx1|mx2).mail.example s      smtp_client 0 0 0 3

SCHEDULED QUEUE       COUNT
b.example                 2
t@a.example               1
x@c.example!a.example     4
`},
		{[]string{"queue-summary", "--domain", "none.example"}, `SITE SOURCE PROTO D T C Q

SCHEDULED QUEUE COUNT
none.example        5
`},
		{[]string{"provider-summary", "--show-domains"}, `PROVIDER               D T F C Q DOMAINS
(mx1|mx2).mail.example 9 0 0 0 0 a.example, b.example
`},
	} {
		out, stderr, code := runCommand(t.Context(), append([]string{"--endpoint", daemon.URL}, append(c.args, "--dns", dns)...)...)
		var trimmed strings.Builder
		for line := range strings.Lines(out) {
			trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
		}
		if trimmed.String() != c.want || code != 0 {
			t.Errorf("%q: exit code %d, %s\n%s\nwant\n%s", c.args, code, stderr, trimmed.String(), c.want)
		}
	}
}

// What is in the name of the ready queue counts, which is there also where there are no MX records: for a list of hosts, or a protocol that has none. Names
// of domains are typed in any case.
func TestSitesByQueue(t *testing.T) {
	t.Parallel()
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			fmt.Fprint(w, "# TYPE ready_count gauge\n"+
				`ready_count{service="smtp_client:s->mx_list:h1,h2@smtp_client"} 3`+"\n"+`ready_count{service="maildir:s->c.example@maildir:/m"} 4`+"\n"+
				"# TYPE total_messages_delivered_by_provider counter\n"+
				`total_messages_delivered_by_provider{provider="mx_list:h1,h2"} 9`+"\n"+
				"# TYPE scheduled_count gauge\n"+
				`scheduled_count{queue="t@a.example"} 1`+"\n"+`scheduled_count{queue="b.example"} 2`+"\n"+`scheduled_count{queue="c.example"} 3`+"\n")
		case "/api/admin/ready-q-states/v1":
			fmt.Fprint(w, `{"states_by_ready_queue":{}}`)
		case egressPathPath:
			name := "unspecified->mx_list:h1,h2@smtp_client"
			if strings.EqualFold(r.FormValue("domain"), "c.example") {
				name = "unspecified->c.example@maildir:/m"
			}
			fmt.Fprintf(w, `{"mx":null,"queue_name":%q,"path_config":{},"constraints":{}}`, name)
		default:
			fmt.Fprint(w, `[]`)
		}
	}))
	t.Cleanup(daemon.Close)
	for _, c := range []struct {
		args []string
		want []string // lines, without white space at their ends
	}{
		{[]string{"queue-summary", "--domain", "A.Example"}, []string{"mx_list:h1,h2 s      smtp_client 0 0 0 3", "b.example           2", "t@a.example         1"}},
		{[]string{"queue-summary", "--domain", "C.Example"}, []string{"c.example s      maildir:/m 0 0 0 4", "c.example           3"}},
		{[]string{"provider-summary", "--show-domains"}, []string{"mx_list:h1,h2 9 0 0 0 0 b.example, a.example"}},
	} {
		out, stderr, code := runCommand(t.Context(), append([]string{"--endpoint", daemon.URL}, c.args...)...)
		var rows []string
		for line := range strings.Lines(out) {
			if line = strings.TrimRight(line, " \n"); line != "" && line != strings.ToUpper(line) { // which heads are
				rows = append(rows, line)
			}
		}
		if code != 0 || !slices.Equal(rows, c.want) {
			t.Errorf("%q: exit code %d, %s\n%s", c.args, code, stderr, out)
		}
	}
}

func TestListSome(t *testing.T) {
	t.Parallel()
	if s := listSome(strings.Fields("a b c d e f g")); s != "a, b, c, d, e, and 2 more" {
		t.Error(s)
	}
}
