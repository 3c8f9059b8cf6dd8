package mtakit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mtakit/mtakit"

// edges between spokes that are allowed, with the reason.
var edges = map[string]string{
	"tsa -> shaping": "the automation rules are part of the shaping files and are read by the same loader",
}

// homes are the packages that import a module, with those below them; everything else goes through them.
var homes = map[string][]string{
	"github.com/alecthomas/kong":         {"examples"},
	"github.com/coder/websocket":         {"queue/httpapi", "examples"},
	"github.com/dlclark/regexp2":         {"shaping"}, // patterns of users' files that regexp refuses
	"github.com/emersion/go-message":     {"rfc5322"},
	"github.com/emersion/go-smtp":        {"smtpserver"},
	"github.com/go-json-experiment/json": {"queue/httpapi"},
	"github.com/fsnotify/fsnotify":       {"internal/datafile", "eventlog"},
	"github.com/klauspost/compress":      {"eventlog", "metrics"},
	"github.com/miekg/dns":               {"smtpclient/route"},
	"github.com/pelletier/go-toml/v2":    {"internal/datafile"},
	"github.com/pires/go-proxyproto":     {"smtpserver"},
	"go.etcd.io/bbolt":                   {"spool"},
	"golang.org/x/crypto":                {"authfile"},
	"golang.org/x/net":                   {"rfc5322", "smtpclient"},
	"golang.org/x/sync":                  {"eventlog", "examples", "internal", "queue", "shaping", "smtpclient", "spool"},
	"golang.org/x/term":                  {"examples"},
	"golang.org/x/sys":                   {"internal", "smtpclient", "smtpserver", "spool"},

	"github.com/rogpeppe/go-internal": nil, // tests only
	"go.uber.org/goleak":              nil,
	"pgregory.net/rapid":              nil,
}

// goPackage is what go list says of a package.
type goPackage struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Standard", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// TestImports checks who imports whom, as ARCHITECTURE.md has it. Tests may import what they like.
func TestImports(t *testing.T) {
	t.Parallel()
	pkgs := listPackages(t)
	if len(pkgs) < 5 {
		t.Fatalf("go list knows %d packages only", len(pkgs))
	}
	for _, p := range pkgs {
		from := relative(p.ImportPath)
		for _, imported := range p.Imports {
			if why := forbidden(from, imported); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imported, why)
			}
		}
	}
}

// relative is an import path of this module below its root, "." for the root itself; other paths stay.
func relative(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// forbidden says why a package must not import another, "" if it may.
func forbidden(from, imported string) string {
	ours := imported == module || strings.HasPrefix(imported, module+"/")
	if !ours {
		return forbiddenForeign(from, imported)
	}
	to := relative(imported)
	fromTop, toTop := top(from), top(to)
	switch {
	case from == ".":
		return "the root is the language of all others and imports the standard library only"
	case fromTop == toTop, fromTop == "examples", to == ".", toTop == "internal":
		return ""
	case from == "rfc5322" || fromTop == "internal":
		return "a leaf imports no spoke"
	case toTop == "examples":
		return "examples are for reading"
	case toTop == "rfc5322":
		return ""
	case edges[fromTop+" -> "+toTop] != "":
		return ""
	case isTestPackage(from) && isTestPackage(to):
		return ""
	}
	return "spokes meet in the root; they don't import one another"
}

func forbiddenForeign(from, imported string) string {
	if top(imported) == "testing" && !isTestPackage(from) {
		return "only packages for tests import testing"
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	for mod, places := range homes {
		if imported != mod && !strings.HasPrefix(imported, mod+"/") {
			continue
		}
		switch {
		case slices.ContainsFunc(places, func(p string) bool { return from == p || strings.HasPrefix(from, p+"/") }):
			return ""
		case places == nil && isTestPackage(from):
			return ""
		case places == nil:
			return "it is for tests"
		}
		return "that module is used in " + strings.Join(places, ", ") + " only"
	}
	return "the module is not in the list of homes: give it the one package that needs it"
}

func top(rel string) string {
	first, _, _ := strings.Cut(rel, "/")
	return first
}

// isTestPackage says whether a package is for the tests of others, such as spooltest.
func isTestPackage(rel string) bool {
	return strings.HasSuffix(path.Base(rel), "test") || rel == "internal/lint"
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		from, imported string
		ok             bool
	}{
		{".", "net/netip", true},
		{".", "golang.org/x/net/idna", false},
		{".", module + "/rfc5322", false},
		{"queue", module, true},
		{"queue", module + "/internal/wheel", true},
		{"queue", module + "/rfc5322", true},
		{"queue", module + "/spool", false},
		{"queue", "go.etcd.io/bbolt", false},
		{"spool", "go.etcd.io/bbolt/errors", true},
		{"queue/queuetest", module + "/queue", true},
		{"queue/queuetest", module + "/spool/spooltest", true},
		{"queue/queuetest", "testing", true},
		{"queue", "testing", false},
		{"queue", "testing/iotest", false},
		{"tsa", module + "/shaping", true},
		{"shaping", module + "/tsa", false},
		{"rfc5322", module + "/queue", false},
		{"internal/wheel", module, true},
		{"internal/wheel", module + "/queue", false},
		{"examples/kumod", module + "/queue", true},
		{"queue", module + "/examples/kumod", false},
		{"queue", "example.com/unknown", false},
		{"queue", "go.uber.org/goleak", false},
		{"queue", "github.com/emersion/go-smtp-other", false},
	} {
		if why := forbidden(test.from, test.imported); (why == "") != test.ok {
			t.Errorf("%s imports %s: %q, want allowed: %v", test.from, test.imported, why, test.ok)
		}
	}
}
