package programs

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kerngate/kerngate"

// stages of scripts/test that run Go tests on this machine.
var stages = []string{"unit", "kernel", "race", "controlplane", "e2e", "applications", "applications-all"}

// TestSetupInstallsWhatRuns: each program that a stage of scripts/test or a target of make runs is
// of Debian's base system, asked for by the README, or installed by a group of scripts/setup that
// the stage or target installs first. And each program that a group installs is run.
func TestSetupInstallsWhatRuns(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{t: t, root: root, base: base(t), scripts: readScripts(t, root), targets: readTargets(t, root),
		installed: map[string]map[string]bool{}, used: map[string]bool{}}
	for _, name := range prerequisites {
		c.base[name] = true
	}
	if c.code, err = parse(root, module); err != nil {
		t.Fatal(err)
	}
	c.code.follow()

	t.Run("followed", func(t *testing.T) {
		c.t = t
		c.listed("Go", c.code.unresolved, followedGo)
		words := map[string]string{}
		for _, s := range slices.Concat(slices.Collect(maps.Values(c.scripts)), slices.Collect(maps.Values(c.targets))) {
			maps.Copy(words, s.unresolved)
		}
		c.listed("shell", words, followedShell)
	})
	for _, stage := range stages {
		t.Run(stage, func(t *testing.T) {
			c.t = t
			groups := c.scripts["scripts/test"].groups(stage)
			for _, dir := range c.packages(stage) {
				c.links(stage, dir, true, groups)
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(c.targets)) {
		t.Run("make "+name, func(t *testing.T) {
			c.t = t
			c.script("make "+name, c.targets[name], c.targets[name].groups())
		})
	}
	t.Run("nothing else", func(t *testing.T) {
		for program, group := range c.proofs("build", "demo", "test", "e2e", "applications", "bench", "bare") {
			if !strings.HasPrefix(program, "/") && !c.used[program] && !c.base[program] {
				t.Errorf("scripts/setup %s installs %s, which nothing runs: remove it, or list in runs_test.go what runs it", group, program)
			}
		}
	})
}

type checker struct {
	t         *testing.T
	root      string
	base      map[string]bool
	scripts   map[string]*script
	targets   map[string]*script
	code      *flow
	installed map[string]map[string]bool // by group
	used      map[string]bool
}

// listed compares what cannot be followed with the list of what is known.
func (c *checker) listed(what string, found, known map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if known[key] == "" {
			c.t.Errorf("%s: the program that is run here is no constant that this test can follow: %q; write it as one, or list it in runs_test.go with the reason why nothing has to be installed", found[key], key)
		}
	}
	for key := range known {
		if found[key] == "" {
			c.t.Errorf("runs_test.go lists %q (%s), which is not there: remove it", key, what)
		}
	}
}

// proofs are the commands and files by which scripts/setup sees that a group is installed, with
// the group.
func (c *checker) proofs(groups ...string) map[string]string {
	found := map[string]string{}
	for _, group := range groups {
		if c.installed[group] == nil {
			cmd := exec.Command("scripts/setup", "--list", group)
			cmd.Dir = c.root
			out, err := cmd.Output()
			if err != nil {
				c.t.Fatalf("scripts/setup --list %s: %v", group, err)
			}
			c.installed[group] = map[string]bool{}
			for line := range strings.Lines(string(out)) {
				proof, _, _ := strings.Cut(line, " ")
				c.installed[group][proof] = true
			}
		}
		for proof := range c.installed[group] {
			found[proof] = group
		}
	}
	return found
}

// packages are the folders of the packages that a stage of scripts/test tests.
func (c *checker) packages(stage string) (dirs []string) {
	cmd := exec.Command("scripts/test", "--packages", stage)
	cmd.Dir = c.root
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("scripts/test --packages %s: %v", stage, err)
	}
	for line := range strings.Lines(string(out)) {
		dirs = append(dirs, strings.TrimPrefix(strings.TrimSpace(line), module+"/"))
	}
	if len(dirs) == 0 {
		c.t.Fatalf("stage %s has no packages", stage)
	}
	return dirs
}

// need checks one program.
func (c *checker) need(who, program, at string, groups []string) {
	c.used[program] = true
	if c.base[program] || exempt[program] != "" || exempt[who+": "+program] != "" || c.proofs(groups...)[program] != "" {
		return
	}
	c.t.Errorf("%s: %s runs %s, which is no part of Debian's base system and which scripts/setup %s does not install: add it to a group there",
		at, who, program, strings.Join(groups, " "))
}

// links checks the programs of a package, and of those of the module that it links. Tests of a
// command do not run the command: what it runs counts where a script builds it.
func (c *checker) links(who, dir string, tests bool, groups []string) {
	linked := c.code.links(dir, tests)
	if tests && c.code.command(dir) {
		delete(linked, dir)
	}
	for _, u := range slices.SortedFunc(maps.Keys(c.code.uses), func(a, b use) int { return strings.Compare(a.at, b.at) }) {
		if linked[u.dir] && !u.test || tests && u.test && u.dir == dir {
			c.need(who, u.program, u.at, groups)
		}
	}
	for _, i := range indirect {
		if i.by == who {
			c.need(who+" ("+i.why+")", i.program, "runs_test.go", groups)
		}
	}
}

// script checks what a script runs, and the scripts and Go programs that it runs.
func (c *checker) script(who string, s *script, groups []string) {
	for _, i := range indirect {
		if i.by == who {
			c.need(who+" ("+i.why+")", i.program, "runs_test.go", groups)
		}
	}
	for _, command := range s.commands {
		program := command.words[0]
		here := slices.Concat(groups, s.groups(command.function))
		if next := c.scripts[program]; next != nil {
			if program != "scripts/setup" {
				c.script(program, next, here)
			}
			continue
		}
		c.need(who, filepath.Base(program), command.at, here)
		if program == "go" && len(command.words) > 1 {
			c.compiled(who, command.words[1:], here)
		}
	}
}

// compiled checks the packages that a script compiles to run them.
func (c *checker) compiled(who string, words, groups []string) {
	tests := words[0] == "test"
	if slices.Contains(words, "-c") { // for another machine: see indirect
		return
	}
	for _, word := range words {
		pattern, ok := strings.CutPrefix(word, "./")
		if !ok {
			continue
		}
		below, all := strings.CutSuffix(pattern, "/...")
		for dir := range c.code.files {
			if dir == below || all && strings.HasPrefix(dir, below+"/") {
				c.links(who, dir, tests, groups)
			}
		}
	}
}

// TestReadmeNamesPrerequisites: what no script installs is what the README asks for.
func TestReadmeNamesPrerequisites(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, needs, _ := strings.Cut(string(readme), "needs Linux")
	needs, _, _ = strings.Cut(needs, "\n\n")
	for _, name := range []string{"Go", "git", "make"} {
		if !strings.Contains(needs, name) {
			t.Errorf("README.md does not say that building needs %s", name)
		}
	}
}

// TestUnknownProgramsAreFound: the analysis finds a program however it is named, and says what it
// cannot follow.
func TestUnknownProgramsAreFound(t *testing.T) {
	dir := t.TempDir()
	code := `package m

import "os/exec"

const tool = "constant"

type job struct {
	Path  string
	needs []string
}

func (j *job) run() {
	exec.Command(j.Path)
	for _, each := range j.needs {
		exec.LookPath(each)
	}
}
func start(name string) { exec.Command(name) }
func all() {
	start("argument")
	(&job{Path: "/usr/bin/field", needs: []string{"listed"}}).run()
	for _, each := range []string{"first", "second"} {
		exec.LookPath(each)
	}
	exec.Command(tool)
	local := func(path string) { exec.Command(path) }
	local("closure")
	exec.Command(unknown())
	f := exec.Command
	_ = f
}
func unknown() string { return "" }
`
	if err := os.WriteFile(filepath.Join(dir, "m.go"), []byte(code), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := parse(dir, "example.test/m")
	if err != nil {
		t.Fatal(err)
	}
	f.follow()
	var programs []string
	for u := range f.uses {
		programs = append(programs, u.program)
	}
	slices.Sort(programs)
	if want := []string{"argument", "closure", "constant", "field", "first", "listed", "second"}; !slices.Equal(programs, want) {
		t.Errorf("programs %v, want %v", programs, want)
	}
	if keys, want := slices.Sorted(maps.Keys(f.unresolved)), []string{".: os/exec.Command as a value", ".: unknown()"}; !slices.Equal(keys, want) {
		t.Errorf("not followed: %v, want %v", keys, want)
	}

	s, err := read("s", "f() { local a=$1; shift; \"$@\"; }\nf x one -a | two\nfor p in three four; do \"$p\"; done\n"+
		"timeout 5 setsid nice -n 10 five; find . -exec six {} \\;\nx=$(seven); trap 'eight' EXIT; sh -c 'nine'; \"$ten\"\nif ! command -v eleven; then :; fi")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, c := range s.commands {
		words = append(words, c.words[0])
	}
	for _, want := range strings.Fields("one two three four five six seven eight nine eleven timeout setsid nice find sh") {
		if !slices.Contains(words, want) {
			t.Errorf("the script's programs %v lack %s", words, want)
		}
	}
	if len(s.unresolved) != 1 || s.unresolved[`s: "$ten"`] == "" {
		t.Errorf("not followed: %v, want \"$ten\" alone", s.unresolved)
	}
}
