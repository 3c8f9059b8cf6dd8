package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite what commands print in testdata")

// Files in testdata are conversations, in sections that begin with a line "-- NAME --":
//
//	run      the command line; single quotes group. What follows belongs to it, up to the next run
//	> M URI  a request that kcli makes, with its body; in this order, and no other
//	< CODE   the answer to it, with its body
//	stdout, stderr, exit CODE
//
// The answers have the shapes of KumoMTA's reference.
type section struct {
	name string
	text string
}

// conversation is what belongs to one run.
type conversation struct {
	args     []string
	requests []section // the answer after each
	want     []section // stdout, stderr, exit
	at       int       // of run in the file's sections
}

func readScript(t *testing.T, file string) (sections []section) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSuffix(line, " --\n"), "-- "); ok && strings.HasSuffix(line, " --\n") {
			sections = append(sections, section{name: name})
		} else if len(sections) > 0 {
			sections[len(sections)-1].text += line
		} else {
			t.Fatalf("%s: %q is in no section", file, line)
		}
	}
	return sections
}

func conversations(t *testing.T, sections []section) (all []*conversation) {
	t.Helper()
	for i, s := range sections {
		if s.name == "run" {
			all = append(all, &conversation{args: split(strings.TrimSpace(s.text)), at: i})
			continue
		}
		c := all[len(all)-1]
		switch s.name[0] {
		case '>', '<':
			c.requests = append(c.requests, s)
		default:
			c.want = append(c.want, s)
		}
	}
	return all
}

// split makes words of a line; single quotes group.
func split(line string) (words []string) {
	var word strings.Builder
	quoted, any := false, false
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted, any = !quoted, true
		case r == ' ' && !quoted:
			if any {
				words = append(words, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteRune(r)
			any = true
		}
	}
	return words
}

// play runs the command against a daemon that says what the conversation has, and returns what it printed.
func (c *conversation) play(t *testing.T) []section {
	t.Helper()
	next := 0
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := section{"> " + r.Method + " " + r.RequestURI, string(body) + "\n"}
		if next+1 >= len(c.requests) {
			t.Errorf("one request more: %s %s", got.name, got.text)
			return
		}
		if want := c.requests[next]; got != want {
			t.Errorf("request %s\n%s\nwant %s\n%s", got.name, got.text, want.name, want.text)
		}
		if ct := r.Header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("Content-Type %q", ct)
		}
		var code int
		fmt.Sscanf(c.requests[next+1].name, "< %d", &code)
		w.WriteHeader(code)
		io.WriteString(w, c.requests[next+1].text)
		next += 2
	}))
	defer daemon.Close()
	var out, stderr bytes.Buffer
	cons := &console{out: &out, err: &stderr, now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }}
	code := run(t.Context(), append([]string{"--endpoint", daemon.URL}, c.args...), cons)
	if next != len(c.requests) {
		t.Errorf("%d requests, want %d", next/2, len(c.requests)/2)
	}
	got := []section{{"stdout", out.String()}}
	if stderr.Len() > 0 {
		got = append(got, section{"stderr", strings.ReplaceAll(stderr.String(), daemon.URL, "$ENDPOINT")})
	}
	if code != 0 {
		got = append(got, section{fmt.Sprintf("exit %d", code), ""})
	}
	return got
}

func TestCommands(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			sections := readScript(t, file)
			var rewritten strings.Builder
			write := func(list []section) {
				for _, s := range list {
					fmt.Fprintf(&rewritten, "-- %s --\n%s", s.name, s.text)
				}
			}
			for _, c := range conversations(t, sections) {
				got := c.play(t)
				write(sections[c.at : c.at+1])
				write(c.requests)
				write(got)
				if want := fmt.Sprint(c.want); fmt.Sprint(got) != want && !*update {
					t.Errorf("kcli %q\n got %q\nwant %q", c.args, got, c.want)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(rewritten.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
