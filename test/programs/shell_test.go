package programs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"
)

// script is what a shell script, or a recipe of the Makefile, runs.
type script struct {
	commands   []command
	unresolved map[string]string // words that name a program but are no constant -> file:line
}

// command is one program that a script runs.
type command struct {
	words    []string // "" where a word is no constant; the first is the program
	function string   // the function of the script that runs it; "" outside of functions
	at       string   // file:line
}

// groups are the groups of scripts/setup that the script installs: outside of functions, and in
// the functions named.
func (s *script) groups(functions ...string) (groups []string) {
	for _, c := range s.commands {
		if c.words[0] == "scripts/setup" && (c.function == "" || slices.Contains(functions, c.function)) {
			groups = append(groups, c.words[1:]...)
		}
	}
	return groups
}

// builtins are the words that bash itself carries out.
var builtins = strings.Fields(`: . [ alias bg bind break builtin caller cd command compgen complete continue declare dirs disown echo
	enable eval exec exit export false fc fg getopts hash help history jobs kill let local logout mapfile popd printf pushd pwd read
	readarray readonly return set shift shopt source suspend test times trap true type typeset ulimit umask unalias unset wait`)

// runners run the program that their arguments name: options with a value, and how many words
// come before the program.
var runners = map[string]struct {
	options []string
	skip    int
}{
	"chroot":  {skip: 1},
	"command": {},
	"env":     {options: []string{"-u", "-C"}},
	"exec":    {},
	"nice":    {options: []string{"-n"}},
	"nohup":   {},
	"nsenter": {options: []string{"-t"}},
	"setpriv": {options: []string{"--bounding-set", "--inh-caps", "--ambient-caps", "--reuid", "--regid"}},
	"setsid":  {},
	"timeout": {options: []string{"-k", "-s"}, skip: 1},
	"unshare": {},
	"xargs":   {options: []string{"-n", "-P", "-I", "-L", "-d"}},
}

// read parses a script's text. Its functions that run their own arguments ("$@") are runners, too.
func read(file, text string) (*script, error) {
	parsed, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), file)
	if err != nil {
		return nil, err
	}
	s := &script{unresolved: map[string]string{}}
	w := &walk{script: s, file: file, functions: map[string]int{}}
	syntax.Walk(parsed, func(n syntax.Node) bool {
		if f, ok := n.(*syntax.FuncDecl); ok {
			w.functions[f.Name.Value] = ownArguments(f)
		}
		return true
	})
	w.node(parsed, "", nil)
	return s, nil
}

type walk struct {
	script    *script
	file      string
	functions map[string]int // words before the command that a function runs; -1: it runs none
}

// ownArguments is how many arguments come before the command that a function runs as "$@", or -1.
func ownArguments(f *syntax.FuncDecl) int {
	shifts, found := 0, -1
	syntax.Walk(f.Body, func(n syntax.Node) bool {
		if c, ok := n.(*syntax.CallExpr); ok && len(c.Args) > 0 && found < 0 {
			switch written(c.Args[0]) {
			case `shift`:
				shifts++
			case `"$@"`:
				found = shifts
			}
		}
		return true
	})
	return found
}

// written is a word as it is written.
func written(w *syntax.Word) string {
	var out bytes.Buffer
	_ = syntax.NewPrinter().Print(&out, w) // a buffer takes everything
	return out.String()
}

// node collects the commands below a node. Variables are those of loops over constants.
func (w *walk) node(n syntax.Node, function string, loops map[string][]string) {
	syntax.Walk(n, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.FuncDecl:
			outer := n.Name.Value
			if function != "" {
				outer = function
			}
			w.node(n.Body, outer, loops)
			return false
		case *syntax.ForClause:
			each, ok := n.Loop.(*syntax.WordIter)
			if !ok {
				return true
			}
			for _, item := range each.Items {
				w.node(item, function, loops)
			}
			inner := map[string][]string{}
			for name, values := range loops {
				inner[name] = values
			}
			inner[each.Name.Value] = nil
			for _, item := range each.Items {
				if value, ok := w.constant(item); ok {
					inner[each.Name.Value] = append(inner[each.Name.Value], value)
				}
			}
			for _, s := range n.Do {
				w.node(s, function, inner)
			}
			return false
		case *syntax.CallExpr:
			w.call(n.Args, function, loops)
		}
		return true
	})
}

// constant is the value of a word without expansions.
func (w *walk) constant(word *syntax.Word) (string, bool) {
	var value strings.Builder
	for _, part := range word.Parts {
		switch p := part.(type) {
		case *syntax.Lit:
			value.WriteString(p.Value)
		case *syntax.SglQuoted:
			value.WriteString(p.Value)
		case *syntax.DblQuoted:
			for _, part := range p.Parts {
				lit, ok := part.(*syntax.Lit)
				if !ok {
					return "", false
				}
				value.WriteString(lit.Value)
			}
		default:
			return "", false
		}
	}
	return value.String(), true
}

// call notes the program that a simple command runs, and those that its arguments name.
func (w *walk) call(args []*syntax.Word, function string, loops map[string][]string) {
	if len(args) == 0 {
		return // an assignment
	}
	at := fmt.Sprintf("%s:%d", w.file, args[0].Pos().Line())
	if name := written(args[0]); name == `"$@"` {
		return // what callers pass: see ownArguments
	}
	name, ok := w.constant(args[0])
	if !ok {
		if variable := strings.Trim(written(args[0]), `"${}`); len(loops[variable]) > 0 {
			for _, value := range loops[variable] {
				w.script.commands = append(w.script.commands, command{[]string{value}, function, at})
			}
			return
		}
		w.script.unresolved[w.file+": "+written(args[0])] = at
		return
	}
	words := []string{name}
	for _, arg := range args[1:] {
		word, _ := w.constant(arg)
		words = append(words, word)
	}
	before, ours := w.functions[name]
	switch {
	case ours && before < 0:
		return
	case ours:
		if rest := args[1:]; len(rest) > before {
			w.call(rest[before:], function, loops)
		}
		return
	case name == "sh" || name == "bash":
		if i := slices.Index(words, "-c"); i > 0 && i+1 < len(args) {
			w.nested(args[i+1], function, at)
		}
	case name == "trap":
		if len(args) > 1 {
			w.nested(args[1], function, at)
		}
		return
	case name == "find":
		if i := slices.IndexFunc(words, func(s string) bool { return s == "-exec" || s == "-execdir" }); i > 0 {
			w.call(args[i+1:], function, loops)
		}
	}
	if runner, ok := runners[name]; ok {
		i, skip := 1, runner.skip
		for ; i < len(args); i++ {
			if slices.Contains(runner.options, words[i]) {
				i++
			} else if !strings.HasPrefix(words[i], "-") && !assignment.MatchString(words[i]) {
				if skip == 0 {
					break
				}
				skip--
			}
		}
		if i < len(args) {
			w.call(args[i:], function, loops)
		}
	}
	if !slices.Contains(builtins, name) {
		w.script.commands = append(w.script.commands, command{words, function, at})
	}
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// nested reads a command that is an argument, as those of sh -c and trap are.
func (w *walk) nested(word *syntax.Word, function, at string) {
	if value, ok := w.constant(word); ok {
		if parsed, err := syntax.NewParser().Parse(strings.NewReader(value), w.file); err == nil {
			w.node(parsed, function, nil)
			return
		}
	}
	w.script.unresolved[w.file+": "+written(word)] = at
}

// readScripts reads every shell script of the repository, by its path.
func readScripts(t *testing.T, root string) map[string]*script {
	t.Helper()
	scripts := map[string]*script{}
	for _, dir := range []string{"scripts", ".ci"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no scripts in %s: %v", dir, err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name := path.Join(dir, filepath.Base(file))
			s, err := read(name, string(raw))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			scripts[name] = s
		}
	}
	return scripts
}

var target = regexp.MustCompile(`(?m)^([a-z0-9-]+):.*## `)

// readTargets reads what each documented target of the Makefile runs, as make itself expands it.
func readTargets(t *testing.T, root string) map[string]*script {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]*script{}
	for _, match := range target.FindAllStringSubmatch(string(makefile), -1) {
		make := exec.Command("make", "--no-print-directory", "-n", match[1])
		make.Dir = root
		make.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
		recipe, err := make.CombinedOutput()
		if err != nil {
			t.Fatalf("make -n %s: %v\n%s", match[1], err, recipe)
		}
		s, err := read("make "+match[1], string(recipe))
		if err != nil {
			t.Fatal(err)
		}
		targets[match[1]] = s
	}
	return targets
}
