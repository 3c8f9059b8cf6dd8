package lint

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// source is a Go file of the tree.
type source struct {
	path string // below the root
	text []byte
	file *ast.File
	fset *token.FileSet
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) errorf(t *testing.T, n ast.Node, text string) {
	t.Helper()
	t.Errorf("%s:%d: %s", s.path, s.fset.Position(n.Pos()).Line, text)
}

// files calls f for every file of the tree that is not made by a tool or a run.
func files(t *testing.T, f func(path string, text []byte)) {
	t.Helper()
	skip := []string{".git", "kumod-data"}
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains(skip, d.Name()) || strings.HasSuffix(path, "testdata/fuzz")):
			return fs.SkipDir
		case !d.Type().IsRegular(), path == ".git": // a file in further work trees
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return err
		}
		if !bytes.ContainsRune(text[:min(len(text), 4096)], 0) { // not text
			f(path, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sources(t *testing.T) (all []source) {
	t.Helper()
	files(t, func(path string, text []byte) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			return
		}
		all = append(all, source{path, text, file, fset})
	})
	return all
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if want, err := format.Source(s.text); err != nil || !bytes.Equal(want, s.text) {
			t.Errorf("%s is not formatted; run gofmt -w %[1]s (%v)", s.path, err)
		}
	}
}

// Tests wait for what happens, or run in virtual time.
func TestNoSleepInTests(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		bubble := bytes.Contains(s.text, []byte(`"testing/synctest"`)) // there a sleep takes no time
		if !s.test() || bubble {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && selects(sel, "time", "Sleep") {
				s.errorf(t, n, "time.Sleep in a test: wait for the event, or use testing/synctest")
			}
			return true
		})
	}
}

// The tree says nothing about the machine it was written on.
func TestNoMachinePaths(t *testing.T) {
	t.Parallel()
	machine := regexp.MustCompile(`(?:^|[\s"'` + "`" + `(=:])/(?:tmp|root|work|home|Users)/\w`)
	files(t, func(path string, text []byte) {
		for i, line := range strings.Split(string(text), "\n") {
			if m := machine.FindString(line); m != "" {
				t.Errorf("%s:%d: a path of one machine: %s", path, i+1, strings.TrimSpace(m))
			}
		}
	})
}

func TestNoLeftovers(t *testing.T) {
	t.Parallel()
	leftover := regexp.MustCompile(`\b(?:TODO|FIX` + `ME|XX` + `X)\b`)
	for _, s := range sources(t) {
		for _, group := range s.file.Comments {
			if m := leftover.FindString(group.Text()); m != "" && !strings.HasPrefix(s.path, "internal/lint/") {
				s.errorf(t, group, m+" in a comment: do it, or file it")
			}
		}
	}
}

// Libraries log with slog, to the handler they are given.
func TestNoRawLog(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test() || strings.HasPrefix(s.path, "examples/") {
			continue
		}
		for _, i := range s.file.Imports {
			if path, _ := strconv.Unquote(i.Path.Value); path == "log" {
				s.errorf(t, i, "import of log: use log/slog")
			}
		}
	}
}

// exceptions from TestNoPackageState, with the reason.
var exceptions = map[string]string{
	"internal/datafile/decode.go fieldCache": "what reflection says of a type, for every instance the same",
}

// Two instances in one process work, so that nothing is shared by way of package variables: they are set where they are
// declared and never again, and hold no lock, counter or channel.
func TestNoPackageState(t *testing.T) {
	t.Parallel()
	packages := map[string][]source{}
	for _, s := range sources(t) {
		if !s.test() {
			dir := filepath.Dir(s.path)
			packages[dir] = append(packages[dir], s)
		}
	}
	for _, pkg := range packages {
		vars := map[string]bool{}
		for _, s := range pkg {
			for _, decl := range s.file.Decls {
				switch d := decl.(type) {
				case *ast.FuncDecl:
					if d.Name.Name == "init" && d.Recv == nil {
						s.errorf(t, d, "func init: construct it where it is used")
					}
				case *ast.GenDecl:
					if d.Tok != token.VAR {
						continue
					}
					for _, spec := range d.Specs {
						v := spec.(*ast.ValueSpec)
						if why := stateful(v); why != "" && exceptions[s.path+" "+v.Names[0].Name] == "" {
							s.errorf(t, v, "package variable "+why)
						}
						for _, name := range v.Names {
							vars[name.Name] = name.Name != "_"
						}
					}
				}
			}
		}
		for _, s := range pkg {
			for _, decl := range s.file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
					for _, n := range assigned(f, vars) {
						s.errorf(t, n, "a function changes package variable "+n.Name)
					}
				}
			}
		}
	}
}

// stateful says what of a variable's type or value is made for change.
func stateful(v *ast.ValueSpec) (why string) {
	look := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ChanType:
			why = "holds a channel"
		case *ast.SelectorExpr:
			// A pool is memory that nobody owns; what is computed once is the same for everybody.
			harmless := []string{"Pool", "OnceValue", "OnceValues"}
			if x, ok := n.X.(*ast.Ident); ok && (x.Name == "atomic" || x.Name == "sync" && !slices.Contains(harmless, n.Sel.Name)) {
				why = "holds " + x.Name + "." + n.Sel.Name
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "make" {
				why = "holds something made to be filled"
			}
		}
		return why == ""
	}
	if v.Type != nil {
		ast.Inspect(v.Type, look)
	}
	for _, value := range v.Values {
		ast.Inspect(value, look)
	}
	return why
}

// assigned finds the assignments in f to any of vars, to a part of one too. Names that f declares itself hide them, whatever the
// block: the check is for detecting mistakes, not for hiding them.
func assigned(f *ast.FuncDecl, vars map[string]bool) (found []*ast.Ident) {
	local := map[string]bool{}
	declare := func(list *ast.FieldList) {
		if list == nil {
			return
		}
		for _, field := range list.List {
			for _, name := range field.Names {
				local[name.Name] = true
			}
		}
	}
	declare(f.Recv)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncType:
			declare(n.Params)
			declare(n.Results)
		case *ast.ValueSpec:
			for _, name := range n.Names {
				local[name.Name] = true
			}
		case *ast.AssignStmt:
			for _, lhs := range n.Lhs {
				if id, ok := lhs.(*ast.Ident); ok && n.Tok == token.DEFINE {
					local[id.Name] = true
				}
			}
		case *ast.RangeStmt:
			for _, lhs := range []ast.Expr{n.Key, n.Value} {
				if id, ok := lhs.(*ast.Ident); ok && n.Tok == token.DEFINE {
					local[id.Name] = true
				}
			}
		}
		return true
	})
	target := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.IndexExpr:
				e = x.X
			case *ast.SelectorExpr:
				e = x.X
			case *ast.StarExpr:
				e = x.X
			case *ast.ParenExpr:
				e = x.X
			case *ast.Ident:
				if vars[x.Name] && !local[x.Name] {
					found = append(found, x)
				}
				return
			default:
				return
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, lhs := range n.Lhs {
					target(lhs)
				}
			}
		case *ast.IncDecStmt:
			target(n.X)
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "delete" || f.Name == "clear") {
				target(n.Args[0])
			}
		}
		return true
	})
	return found
}

func selects(sel *ast.SelectorExpr, pkg, name string) bool {
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg && sel.Sel.Name == name
}

// The rule about package state sees what it is for.
func TestPackageStateIsSeen(t *testing.T) {
	t.Parallel()
	const text = `package p
var a, b int
var m = map[string]int{}
var ch = make(chan int)
var mu sync.Mutex
var err = errors.New("x")
var fine = sync.OnceValue(func() int { return len(make([]int, 3)) })
func f(b int) {
	a = 1
	b = 2
	m["x"]++
	delete(m, "x")
	err := f
	err = nil
	p.a = 3
}`
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	vars, held := map[string]bool{}, 0
	var got []string
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.GenDecl:
			v := d.Specs[0].(*ast.ValueSpec)
			for _, name := range v.Names {
				vars[name.Name] = true
			}
			if stateful(v) != "" {
				held++
			}
		case *ast.FuncDecl:
			for _, id := range assigned(d, vars) {
				got = append(got, id.Name)
			}
		}
	}
	if want := []string{"a", "m", "m"}; held != 2 || !slices.Equal(got, want) {
		t.Errorf("%d variables hold state, want 2; %v are assigned, want %v", held, got, want)
	}
}
