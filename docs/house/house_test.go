package house

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mayImport is the import graph: a room may import itself, what is listed, and
// nothing else of the module. Longer names win.
var mayImport = map[string][]string{
	"dyad/eventlog":    {},
	"dyad/neighbor":    {},
	"dyad/projections": {"dyad/eventlog"},
	"dyad/failover":    {"dyad/projections", "dyad/eventlog", "dyad/neighbor"},
	"dyad/speaker":     {"dyad/projections", "dyad/eventlog", "dyad/neighbor"},
	"dyad/cluster":     {"dyad/failover", "dyad/speaker", "dyad/projections", "dyad/eventlog"},
	"dyad/chaos":       {"dyad/cluster", "dyad/failover", "dyad/speaker", "dyad/projections", "dyad/eventlog"},
	"dyad/cmd":         {"dyad/chaos", "dyad/cluster", "dyad/failover", "dyad/speaker", "dyad/projections", "dyad/eventlog"},
	"dyad/docs":        {},
}

// adapters do I/O behind a port. Only the composition root, the commands and
// tests know them.
var adapters = []string{
	"dyad/eventlog/memlog", "dyad/eventlog/etcdlog", "dyad/eventlog/journal", "dyad/eventlog/segment",
	"dyad/failover/detect", "dyad/failover/beat", "dyad/speaker/gobgp", "dyad/speaker/address", "dyad/speaker/layer2", "dyad/cluster/etcdnode",
	"dyad/cluster/witness", "dyad/cluster/fence",
	"dyad/cluster/identity", "dyad/cluster/hostcheck",
}

// roots are the packages that may import adapters.
var roots = []string{"dyad/cluster/node", "dyad/cmd", "dyad/chaos"}

// pure packages compute and nothing else.
var pure = []string{
	"dyad/eventlog", "dyad/projections", "dyad/projections/audit", "dyad/failover", "dyad/failover/pulse", "dyad/failover/beacon", "dyad/neighbor",
	"dyad/speaker/layer2/owner", "dyad/cluster/quorum", "dyad/chaos",
}

var impureImports = []string{"net", "net/http", "os", "os/exec", "sync", "math/rand", "math/rand/v2", "log/slog", "log", "syscall"}

var clockCalls = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

func room(pkg string) string {
	for r := range mayImport {
		if under(pkg, r) {
			return r
		}
	}
	return ""
}

func TestImportsPointOneWay(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		own := room(f.pkg)
		if own == "" && f.pkg != "dyad" {
			t.Errorf("%s lies in no room; add its package to mayImport and to docs/architecture.md", f.path)
			continue
		}
		for _, i := range imports(f) {
			if !under(i, "dyad") || f.test {
				continue
			}
			if r := room(i); r != own && !slices.Contains(mayImport[own], r) {
				t.Errorf("%s imports %s: %s may import %v; move what is shared towards eventlog, or pass it in through a port",
					f.path, i, own, mayImport[own])
			}
		}
	}
}

func TestOnlyTheRootsKnowAdapters(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		if f.test || slices.ContainsFunc(roots, func(r string) bool { return under(f.pkg, r) }) {
			continue
		}
		for _, i := range imports(f) {
			for _, a := range adapters {
				if under(i, a) && !under(f.pkg, a) {
					t.Errorf("%s imports the adapter %s; import its port, and let dyad/cluster/node put them together", f.path, a)
				}
			}
		}
	}
}

func TestPurePackagesOnlyCompute(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		if f.test || !slices.Contains(pure, f.pkg) {
			continue
		}
		for _, i := range imports(f) {
			if slices.Contains(impureImports, i) {
				t.Errorf("%s imports %s; a pure package gets time, randomness and input as arguments", f.path, i)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clockCalls, sel.Sel.Name) {
				t.Errorf("%s calls time.%s; take the time as a parameter", f.path, sel.Sel.Name)
			}
			return true
		})
	}
}

// Bounds of the code's size. A larger file has two purposes, a larger function
// two ideas.
const (
	maxFileLines     = 400
	maxFunctionLines = 60
)

func TestFilesAndFunctionsStaySmall(t *testing.T) {
	fset, files := tree(t)
	for _, f := range files {
		if f.test || ast.IsGenerated(f.ast) {
			continue
		}
		if n := strings.Count(f.src, "\n"); n > maxFileLines {
			t.Errorf("%s has %d lines, more than %d; give its second purpose a file of its own", f.path, n, maxFileLines)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, more than %d; name its steps", f.path, fn.Name.Name, n, maxFunctionLines)
			}
		}
	}
}

func TestPackagesAndExportsAreDocumented(t *testing.T) {
	_, files := tree(t)
	doc := map[string]bool{}
	for _, f := range files {
		if !f.test {
			doc[f.pkg] = doc[f.pkg] || f.ast.Doc != nil && len(f.ast.Doc.Text()) > 40
		}
	}
	for pkg, ok := range doc {
		if !ok {
			t.Errorf("%s has no package comment; say in doc.go what it promises", pkg)
		}
	}
	for _, f := range files {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			undocumented(t, f, d)
		}
	}
}

func undocumented(t *testing.T, f file, d ast.Decl) {
	t.Helper()
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && d.Recv == nil {
			t.Errorf("%s: %s has no doc comment; give its units, ranges and errors", f.path, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			ts, ok := s.(*ast.TypeSpec)
			if ok && d.Tok == token.TYPE && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
				t.Errorf("%s: %s has no doc comment", f.path, ts.Name.Name)
			}
		}
	}
}

// Words and calls that don't belong in the tree. The patterns are split so that
// this file does not match itself.
var forbidden = []struct {
	re   *regexp.Regexp
	test bool // look into tests only
	why  string
}{
	{regexp.MustCompile(`time\.` + `Sleep\(`), true, "use virtual time (testing/synctest) or poll for a level"},
	{regexp.MustCompile(`/(wo` + `rk|ro` + `ot)/`), false, "a path of one machine; use a relative or configured one"},
	{regexp.MustCompile(`(TO` + `DO|FIX` + `ME|XX` + `X)\b`), false, "finish it, or say in the docs that it is not there"},
}

func TestNothingForbidden(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		for _, w := range forbidden {
			if w.test && (!f.test || slices.Contains(imports(f), "testing/synctest")) {
				continue // in a synctest bubble sleeping is virtual
			}
			if m := w.re.FindString(f.src); m != "" {
				t.Errorf("%s has %q: %s", f.path, m, w.why)
			}
		}
	}
}
