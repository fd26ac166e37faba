// Command goroutines prints the packages whose tests run more than one goroutine: those that the
// race detector can find something in. It decides by syntax, for the package, its tests, and every
// package of the module that they link, and takes for a start of goroutines: a go statement, a
// method named Go, t.Parallel and b.RunParallel, AfterFunc, and an import of net/http or
// net/http/httptest, whose servers call handlers in goroutines of their own.
//
//	go run ./test/goroutines loader userspace       from the module's root: the packages below these folders
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(".", os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines:", err)
		os.Exit(1)
	}
}

// folder is what matters of the files of one kind in a folder.
type folder struct {
	starts  bool            // goroutines
	imports map[string]bool // folders of the module
}

// module is the code and the tests of each folder.
type module struct {
	path        string
	code, tests map[string]*folder
}

func run(root string, below []string, out io.Writer) error {
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return fmt.Errorf("%w: run this in the module's root", err)
	}
	first, _, _ := strings.Cut(string(gomod), "\n")
	m := &module{strings.TrimSpace(strings.TrimPrefix(first, "module ")), map[string]*folder{}, map[string]*folder{}}
	if err := m.read(root); err != nil {
		return err
	}
	printed := false
	for _, dir := range slices.Sorted(maps.Keys(m.tests)) { // a package without tests has nothing to run
		within := func(b string) bool { return dir == b || strings.HasPrefix(dir, b+"/") }
		if slices.ContainsFunc(below, within) && m.concurrent(dir) {
			printed = true
			fmt.Fprintln(out, path.Join(m.path, dir))
		}
	}
	if !printed {
		return errors.New("no package whose tests run goroutines below " + strings.Join(below, ", "))
	}
	return nil
}

// concurrent reports whether the tests of a folder link anything that starts goroutines.
func (m *module) concurrent(dir string) bool {
	seen := map[string]bool{}
	var linked func(f *folder) bool
	linked = func(f *folder) bool {
		if f == nil {
			return false
		}
		if f.starts {
			return true
		}
		for inner := range f.imports {
			if !seen[inner] {
				seen[inner] = true
				if linked(m.code[inner]) {
					return true
				}
			}
		}
		return false
	}
	return linked(m.tests[dir]) || linked(m.code[dir])
}

func (m *module) read(root string) error {
	return filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if base := entry.Name(); name != root && (base == "testdata" || strings.HasPrefix(base, ".")) {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(name, ".go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		into := m.code
		if strings.HasSuffix(name, "_test.go") {
			into = m.tests
		}
		dir := path.Dir(relative)
		if into[dir] == nil {
			into[dir] = &folder{imports: map[string]bool{}}
		}
		m.add(into[dir], parsed)
		return nil
	})
}

// add notes what a file imports and whether it starts goroutines.
func (m *module) add(f *folder, parsed *ast.File) {
	for _, spec := range parsed.Imports {
		imported := strings.Trim(spec.Path.Value, "\"`")
		if inner, ours := strings.CutPrefix(imported, m.path+"/"); ours {
			f.imports[inner] = true
		}
		f.starts = f.starts || imported == "net/http" || imported == "net/http/httptest"
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			f.starts = true
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok {
				switch s.Sel.Name {
				case "Go", "Parallel", "RunParallel", "AfterFunc":
					f.starts = true
				}
			}
		}
		return !f.starts
	})
}
