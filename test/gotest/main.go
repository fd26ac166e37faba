// Command gotest runs `go test -json` and prints what a reader needs: the closing line
// of each package, the whole output of what failed, and every test that skipped with
// its reason. With KERNGATE_TEST_NO_SKIP=1 a skipped test is a failed run: a machine
// that cannot run a test must not look like one where it passed.
//
// KERNGATE_TEST_TIMES=FILE appends a line for each package and for each top-level test of a second
// or more: "package" or "test", import path, seconds, name of the test, separated by tabs.
//
//	go run ./test/gotest -- -p 1 ./loader/...
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() { os.Exit(run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr)) }

func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "usage: gotest -- [flags of go test] packages...")
		return 2
	}
	if args[0] == "--" {
		args = args[1:]
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Fprintln(stderr, "gotest:", err)
		return 1
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(stderr, "gotest:", err)
		return 1
	}
	report := newReport(stdout)
	report.read(out)
	failed := cmd.Wait() != nil
	if name := getenv("KERNGATE_TEST_TIMES"); name != "" {
		if err := appendLines(name, report.times); err != nil {
			fmt.Fprintln(stderr, "gotest: KERNGATE_TEST_TIMES:", err)
			failed = true
		}
	}
	return report.close(failed, getenv("KERNGATE_TEST_NO_SKIP") == "1")
}

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	FailedBuild string
	Elapsed     float64 // seconds
}

// report collects output per test and prints it when the test turns out to matter.
type report struct {
	out     io.Writer
	held    map[string][]string // package/test -> output so far
	skipped []string
	times   []string // lines for KERNGATE_TEST_TIMES
	passed  int
	failed  int
}

// appendLines adds lines to the end of a file.
func appendLines(name string, lines []string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(f, line); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// time notes how long a package or a long test took.
func (r *report) time(e event) {
	switch {
	case e.Test == "":
		r.times = append(r.times, fmt.Sprintf("package\t%s\t%.1f", e.Package, e.Elapsed))
	case e.Elapsed >= 1 && !strings.Contains(e.Test, "/"):
		r.times = append(r.times, fmt.Sprintf("test\t%s\t%.1f\t%s", e.Package, e.Elapsed, e.Test))
	}
}

func newReport(out io.Writer) *report { return &report{out: out, held: map[string][]string{}} }

func (r *report) read(in io.Reader) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(r.out, lines.Text()) // not ours: show it as it is
			continue
		}
		r.event(e)
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(r.out, "gotest: reading the output of go test:", err)
		r.failed++
		io.Copy(io.Discard, in) // so that go test does not block on a full pipe
	}
}

func (r *report) event(e event) {
	key := e.Package + "/" + e.Test
	if e.Action == "pass" || e.Action == "fail" {
		r.time(e)
	}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if e.Test == "" && closing(e.Output) {
			fmt.Fprint(r.out, e.Output)
			return
		}
		r.held[key] = append(r.held[key], e.Output)
	case "pass":
		delete(r.held, key)
		if e.Test != "" {
			r.passed++
		}
	case "fail":
		fmt.Fprint(r.out, strings.Join(r.held[key], ""))
		delete(r.held, key)
		if e.Test != "" {
			r.failed++
		}
	case "skip":
		if e.Test != "" {
			r.skipped = append(r.skipped, skipLine(e, r.held[key]))
		}
		delete(r.held, key)
	}
}

// closing reports whether line is the last one of a package.
func closing(line string) bool {
	return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t")
}

// skipLine is "package Test: reason", the reason being what the test logged.
func skipLine(e event, output []string) string {
	var reason []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		reason = append(reason, line)
	}
	return fmt.Sprintf("%s %s: %s", e.Package, e.Test, strings.Join(reason, " "))
}

// close prints the totals and returns the exit status.
func (r *report) close(failed, noSkip bool) int {
	if failed { // a crash or os.Exit ends tests without a word
		for _, output := range r.held {
			fmt.Fprint(r.out, strings.Join(output, ""))
		}
	}
	for _, line := range r.skipped {
		fmt.Fprintln(r.out, "SKIP", line)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, len(r.skipped))
	switch {
	case failed || r.failed > 0:
		return 1
	case noSkip && len(r.skipped) > 0:
		fmt.Fprintln(r.out, "FAIL: KERNGATE_TEST_NO_SKIP=1 and tests skipped (above); install what they name, or run as root")
		return 1
	}
	return 0
}
