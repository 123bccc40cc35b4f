package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// file is one parsed Go file of the tree.
type file struct {
	path string // slash-separated, relative to the top
	pkg  string // import path
	test bool
	ast  *ast.File
	src  string
}

const top = "../.."

// tree parses every Go file of the module once.
func tree(t *testing.T) (*token.FileSet, []file) {
	t.Helper()
	fset := token.NewFileSet()
	var out []file
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != top && (strings.HasPrefix(name, ".") || name == "testdata" || name == "build" || name == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, path, b, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		pkg := "dyad"
		if dir := filepath.ToSlash(filepath.Dir(rel)); dir != "." {
			pkg = "dyad/" + dir
		}
		out = append(out, file{path: rel, pkg: pkg, test: strings.HasSuffix(name, "_test.go"), ast: f, src: string(b)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d Go files found; the walk is broken", len(out))
	}
	return fset, out
}

func imports(f file) []string {
	var out []string
	for _, s := range f.ast.Imports {
		out = append(out, strings.Trim(s.Path.Value, `"`))
	}
	return out
}

// under tells whether pkg is room or lies below it.
func under(pkg, room string) bool { return pkg == room || strings.HasPrefix(pkg, room+"/") }
