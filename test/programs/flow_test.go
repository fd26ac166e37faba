package programs

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// starters are the functions that run or look up a program: index of its name among the arguments.
var starters = map[string]int{
	"os/exec.Command":            0,
	"os/exec.CommandContext":     1,
	"os/exec.LookPath":           0,
	"os.StartProcess":            0,
	"syscall.Exec":               0,
	"syscall.ForkExec":           0,
	"syscall.StartProcess":       0,
	"golang.org/x/sys/unix.Exec": 0,
}

// use is a program that Go code runs.
type use struct {
	program string // its name without folder
	dir     string // of the package that names it, relative to the module
	test    bool   // a _test.go file names it
	at      string // file:line
}

// flow follows the argument of each starter back to the constants that it can be, by the syntax
// alone: it needs no compiled packages, and finds more values than there are rather than fewer.
// A parameter is what any caller passes, a field what any composite literal of a type of that
// name or any assignment gives it, a variable what its function ever assigns. What it cannot follow
// it says.
type flow struct {
	root   string
	fset   *token.FileSet
	files  map[string][]*file // by folder
	module string

	uses       map[use]bool
	unresolved map[string]string // what cannot be followed -> file:line
	seen       map[string]bool
}

type file struct {
	name    string // relative to the module
	dir     string
	test    bool
	syntax  *ast.File
	imports map[string]string // local name -> path
}

// place is an expression, in a function of a file.
type place struct {
	expr ast.Expr
	fn   ast.Node // outermost declaration around it
	file *file
}

// parse reads the Go files of the module in root; those below testdata and in modules of their own are not its.
func parse(root, module string) (*flow, error) {
	f := &flow{root: root, module: module, fset: token.NewFileSet(), files: map[string][]*file{},
		uses: map[use]bool{}, unresolved: map[string]string{}, seen: map[string]bool{}}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			own, _ := filepath.Glob(filepath.Join(name, "go.mod"))
			if base := entry.Name(); name != root && (base == "testdata" || strings.HasPrefix(base, ".") || len(own) > 0) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(f.fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f.add(relative, parsed)
		return nil
	})
	return f, err
}

func (f *flow) add(name string, parsed *ast.File) {
	one := &file{name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), syntax: parsed, imports: map[string]string{}}
	for _, spec := range parsed.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		local := path.Base(imported)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		one.imports[local] = imported
	}
	f.files[one.dir] = append(f.files[one.dir], one)
}

// follow resolves the argument of each starter.
func (f *flow) follow() {
	f.each(func(one *file, decl ast.Node, n ast.Node, called bool) {
		name := f.imported(one, n)
		index, starts := starters[name]
		if !starts {
			return
		}
		if !called {
			f.giveUp(place{n.(ast.Expr), decl, one}, name+" as a value")
			return
		}
		for _, c := range calls(decl) {
			if c.Fun == n {
				f.resolve(place{c.Args[index], decl, one})
			}
		}
	})
	f.each(func(one *file, decl ast.Node, n ast.Node, called bool) {
		if c, ok := n.(*ast.CompositeLit); ok && f.imported(one, c.Type) == "os/exec.Cmd" {
			for _, e := range c.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok && text(f.fset, kv.Key) == "Path" {
					f.resolve(place{kv.Value, decl, one})
				}
			}
		}
	})
}

// each visits every expression; called: it is the function of a call.
func (f *flow) each(visit func(one *file, decl, n ast.Node, called bool)) {
	for _, files := range f.files {
		for _, one := range files {
			for _, decl := range one.syntax.Decls {
				functions := map[ast.Node]bool{}
				for _, c := range calls(decl) {
					functions[c.Fun] = true
				}
				ast.Inspect(decl, func(n ast.Node) bool {
					if e, ok := n.(ast.Expr); ok {
						visit(one, decl, e, functions[e])
					}
					return true
				})
			}
		}
	}
}

func calls(in ast.Node) (found []*ast.CallExpr) {
	ast.Inspect(in, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			found = append(found, c)
		}
		return true
	})
	return found
}

// imported is "import/path.Name" if the expression names something of another package.
func (f *flow) imported(one *file, n ast.Node) string {
	if s, ok := n.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok && one.imports[x.Name] != "" {
			return one.imports[x.Name] + "." + s.Sel.Name
		}
	}
	return ""
}

func text(fset *token.FileSet, n ast.Node) string {
	var out bytes.Buffer
	_ = printer.Fprint(&out, fset, n) // a buffer takes everything
	return out.String()
}

// resolve notes each program that the expression can be.
func (f *flow) resolve(p place) {
	key := fmt.Sprintf("%p %d", p.expr, p.expr.Pos())
	if f.seen[key] {
		return
	}
	f.seen[key] = true
	switch e := p.expr.(type) {
	case *ast.ParenExpr:
		f.resolve(place{e.X, p.fn, p.file})
	case *ast.BasicLit:
		if value, err := strconv.Unquote(e.Value); err == nil && value != "" && !strings.HasPrefix(value, "scripts/") { // "": the zero value, no program
			f.uses[use{path.Base(value), p.file.dir, p.file.test, f.at(p)}] = true
		}
	case *ast.Ident:
		if !f.variable(p, e.Name) {
			f.giveUp(p, e.Name)
		}
	case *ast.SelectorExpr:
		if imported := f.imported(p.file, e); imported != "" {
			dir, ours := strings.CutPrefix(strings.TrimSuffix(imported, "."+e.Sel.Name), f.module+"/")
			if !ours || !f.global(dir, e.Sel.Name) {
				f.giveUp(p, text(f.fset, e))
			}
			return
		}
		f.field(p, e)
	case *ast.IndexExpr:
		if f.imported(p.file, e.X) == "os.Args" {
			return // this very program
		}
		f.elements(p, e.X)
	case *ast.CallExpr:
		switch f.imported(p.file, e.Fun) {
		case "os/exec.LookPath": // its argument is resolved for itself
		case "os.Executable": // this very program
		default:
			f.giveUp(p, text(f.fset, e.Fun)+"()")
		}
	default:
		f.giveUp(p, text(f.fset, e))
	}
}

// variable resolves what a name can hold: in its function, or in its package.
func (f *flow) variable(p place, name string) (found bool) {
	from := func(e ast.Expr) { found = true; f.resolve(place{e, p.fn, p.file}) }
	ast.Inspect(p.fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if id, ok := left.(*ast.Ident); ok && id.Name == name {
					from(n.Rhs[min(i, len(n.Rhs)-1)])
				}
			}
		case *ast.ValueSpec:
			for i, id := range n.Names {
				if id.Name == name && len(n.Values) > 0 {
					from(n.Values[min(i, len(n.Values)-1)])
				}
			}
		case *ast.RangeStmt:
			if id, ok := n.Value.(*ast.Ident); ok && id.Name == name {
				found = true
				f.elements(place{n.X, p.fn, p.file}, n.X)
			}
		case *ast.FuncLit:
			if index := parameter(n.Type, name); index >= 0 && covers(n, p.expr) {
				found = true
				f.closure(p, n, index)
			}
		case *ast.FuncDecl:
			if index := parameter(n.Type, name); index >= 0 {
				found = true
				f.callers(p, n, index)
			}
		}
		return true
	})
	return found || f.global(p.file.dir, name)
}

func covers(outer, inner ast.Node) bool {
	return outer.Pos() <= inner.Pos() && inner.End() <= outer.End()
}

// parameter is the index of a function's parameter of that name, or -1.
func parameter(t *ast.FuncType, name string) int {
	index := 0
	for _, list := range t.Params.List {
		for _, id := range list.Names {
			if id.Name == name {
				return index
			}
			index++
		}
	}
	return -1
}

// closure resolves what is passed to a function literal, by the variable that holds it.
func (f *flow) closure(p place, literal *ast.FuncLit, index int) {
	holder := ""
	ast.Inspect(p.fn, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok {
			for i, right := range a.Rhs {
				if right == literal {
					holder = text(f.fset, a.Lhs[i])
				}
			}
		}
		return true
	})
	called := false
	for _, c := range calls(p.fn) {
		if holder != "" && text(f.fset, c.Fun) == holder && index < len(c.Args) {
			called = true
			f.resolve(place{c.Args[index], p.fn, p.file})
		}
	}
	if !called {
		f.giveUp(p, "a function literal's parameter "+text(f.fset, p.expr))
	}
}

// callers resolves what is passed to a function or method.
func (f *flow) callers(p place, decl *ast.FuncDecl, index int) {
	called := false
	whole := f.module + "/" + p.file.dir
	for _, files := range f.files {
		for _, one := range files {
			imports := slices.Collect(func(yield func(string) bool) {
				for _, i := range one.imports {
					if !yield(i) {
						return
					}
				}
			})
			if one.dir != p.file.dir && (!decl.Name.IsExported() || !slices.Contains(imports, whole)) {
				continue
			}
			for _, outer := range one.syntax.Decls {
				for _, c := range calls(outer) {
					name := ""
					switch fun := c.Fun.(type) {
					case *ast.Ident:
						if decl.Recv == nil && one.dir == p.file.dir {
							name = fun.Name
						}
					case *ast.SelectorExpr:
						if imported := f.imported(one, fun); imported == whole+"."+fun.Sel.Name && decl.Recv == nil || imported == "" && decl.Recv != nil {
							name = fun.Sel.Name
						}
					}
					if name == decl.Name.Name && index < len(c.Args) {
						called = true
						f.resolve(place{c.Args[index], outer, one})
					}
				}
			}
		}
	}
	if !called {
		f.giveUp(p, "parameter "+text(f.fset, p.expr)+" of "+decl.Name.Name)
	}
}

// global resolves a constant or variable of a package.
func (f *flow) global(dir, name string) (found bool) {
	for _, one := range f.files[dir] {
		for _, decl := range one.syntax.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for i, id := range v.Names {
						if id.Name == name && i < len(v.Values) {
							found = true
							f.resolve(place{v.Values[i], decl, one})
						}
					}
				}
			}
		}
	}
	return found
}

// field resolves a field of a parameter or receiver, whose type is written there.
func (f *flow) field(p place, e *ast.SelectorExpr) {
	if owner, found := f.literals(p, e, f.resolve); owner == "" {
		f.giveUp(p, text(f.fset, e))
	} else if !found {
		f.giveUp(p, owner+"."+e.Sel.Name)
	}
}

// literals visits what composite literals give a field. owner is the field's type, "" if that is
// not known.
func (f *flow) literals(p place, e *ast.SelectorExpr, visit func(place)) (owner string, found bool) {
	if x, ok := e.X.(*ast.Ident); ok {
		owner = typeOf(p.fn, x.Name)
	}
	if owner == "" {
		return "", false
	}
	f.each(func(one *file, decl, n ast.Node, _ bool) {
		c, ok := n.(*ast.CompositeLit)
		if !ok || c.Type == nil || lastName(c.Type) != owner {
			return
		}
		for _, element := range c.Elts {
			if kv, ok := element.(*ast.KeyValueExpr); ok && text(f.fset, kv.Key) == e.Sel.Name {
				found = true
				visit(place{kv.Value, decl, one})
			}
		}
	})
	return owner, found
}

// typeOf is the name of the type of a parameter or receiver.
func typeOf(fn ast.Node, name string) string {
	d, ok := fn.(*ast.FuncDecl)
	if !ok {
		return ""
	}
	lists := d.Type.Params.List
	if d.Recv != nil {
		lists = append(slices.Clone(d.Recv.List), lists...)
	}
	for _, list := range lists {
		for _, id := range list.Names {
			if id.Name == name {
				return lastName(list.Type)
			}
		}
	}
	return ""
}

func lastName(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return lastName(t.X)
	case *ast.SelectorExpr:
		return t.Sel.Name
	case *ast.Ident:
		return t.Name
	}
	return ""
}

// elements resolves what a literal list holds.
func (f *flow) elements(p place, of ast.Expr) {
	switch of := of.(type) {
	case *ast.CompositeLit:
		for _, element := range of.Elts {
			f.resolve(place{element, p.fn, p.file})
		}
	case *ast.Ident:
		found := false
		ast.Inspect(p.fn, func(n ast.Node) bool {
			if a, ok := n.(*ast.AssignStmt); ok {
				for i, left := range a.Lhs {
					if id, ok := left.(*ast.Ident); ok && id.Name == of.Name && i < len(a.Rhs) {
						if _, same := a.Rhs[i].(*ast.Ident); !same {
							found = true
							f.elements(p, a.Rhs[i])
						}
					}
				}
			}
			return true
		})
		if !found {
			f.giveUp(p, "elements of "+of.Name)
		}
	case *ast.CallExpr:
		if fun, ok := of.Fun.(*ast.Ident); ok && fun.Name == "append" {
			f.elements(p, of.Args[0])
			for _, arg := range of.Args[1:] {
				f.resolve(place{arg, p.fn, p.file})
			}
			return
		}
		f.giveUp(p, "elements of "+text(f.fset, of.Fun)+"()")
	case *ast.SelectorExpr:
		if _, found := f.literals(p, of, func(value place) { f.elements(value, value.expr) }); !found {
			f.giveUp(p, "elements of "+text(f.fset, of))
		}
	default:
		f.giveUp(p, "elements of "+text(f.fset, of))
	}
}

// giveUp keeps that an expression cannot be followed.
func (f *flow) giveUp(p place, why string) {
	f.unresolved[p.file.dir+": "+why] = f.at(p)
}

func (f *flow) at(p place) string {
	return fmt.Sprintf("%s:%d", p.file.name, f.fset.Position(p.expr.Pos()).Line)
}

// command reports whether the package in a folder is a command.
func (f *flow) command(dir string) bool {
	return slices.ContainsFunc(f.files[dir], func(one *file) bool { return !one.test && one.syntax.Name.Name == "main" })
}

// links are the folders of the module whose code a package links, its own among them; tests: its
// tests link it.
func (f *flow) links(dir string, tests bool) map[string]bool {
	linked := map[string]bool{}
	var visit func(dir string, tests bool)
	visit = func(dir string, tests bool) {
		linked[dir] = true
		for _, one := range f.files[dir] {
			if one.test && !tests {
				continue
			}
			for _, imported := range one.imports {
				if inner, ours := strings.CutPrefix(imported, f.module+"/"); ours && !linked[inner] {
					visit(inner, false)
				}
			}
		}
	}
	visit(dir, tests)
	return linked
}
