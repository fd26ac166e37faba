package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module writes a module with one test file and makes it the working folder.
func module(t *testing.T, test string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module example.test/m\n\ngo 1.26\n",
		"m_test.go": "package m\n\nimport (\n\t\"testing\"\n\t\"time\"\n)\n\nvar _ time.Duration\n\n" + test,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func runHere(t *testing.T, env string) (int, string) {
	t.Helper()
	var out strings.Builder
	getenv := func(name string) string { return map[string]string{"KERNGATE_TEST_NO_SKIP": env}[name] }
	status := run([]string{"--", "./..."}, getenv, &out, &out)
	return status, out.String()
}

func TestPassingPackageShowsItsClosingLine(t *testing.T) {
	module(t, `func TestGood(t *testing.T) { t.Log("noise") }`)
	status, out := runHere(t, "1")
	if status != 0 || !strings.Contains(out, "ok  \texample.test/m") || strings.Contains(out, "noise") {
		t.Errorf("status %d, output:\n%s", status, out)
	}
	if !strings.Contains(out, "1 passed, 0 failed, 0 skipped") {
		t.Errorf("no totals in:\n%s", out)
	}
}

func TestFailureShowsItsOutput(t *testing.T) {
	module(t, `func TestBad(t *testing.T) { t.Error("the reason") }`)
	status, out := runHere(t, "")
	if status != 1 || !strings.Contains(out, "the reason") || !strings.Contains(out, "FAIL\texample.test/m") {
		t.Errorf("status %d, output:\n%s", status, out)
	}
}

func TestBrokenBuildShowsTheCompiler(t *testing.T) {
	module(t, `func TestBad(t *testing.T) { undefined() }`)
	status, out := runHere(t, "")
	if status != 1 || !strings.Contains(out, "undefined: undefined") {
		t.Errorf("status %d, output:\n%s", status, out)
	}
}

func TestSkipsAreNamedAndFailWhenForbidden(t *testing.T) {
	module(t, `func TestRoot(t *testing.T) { t.Skip("needs CAP_BPF") }`)
	status, out := runHere(t, "")
	if status != 0 || !strings.Contains(out, "SKIP example.test/m TestRoot: ") || !strings.Contains(out, "needs CAP_BPF") {
		t.Errorf("status %d, output:\n%s", status, out)
	}
	if status, out = runHere(t, "1"); status != 1 || !strings.Contains(out, "FAIL: KERNGATE_TEST_NO_SKIP=1") {
		t.Errorf("with skips forbidden: status %d, output:\n%s", status, out)
	}
}

// TestTimesAreWritten: packages and long tests, each in a line that a table can be made of.
func TestTimesAreWritten(t *testing.T) {
	module(t, `func TestLong(t *testing.T) { <-time.After(time.Second) }
func TestShort(t *testing.T) {}`)
	file := filepath.Join(t.TempDir(), "times")
	var out strings.Builder
	getenv := func(name string) string { return map[string]string{"KERNGATE_TEST_TIMES": file}[name] }
	if status := run([]string{"--", "./..."}, getenv, &out, &out); status != 0 {
		t.Fatalf("status %d:\n%s", status, out.String())
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) != 2 {
		t.Fatalf("lines %q, want one for TestLong and one for the package", lines)
	}
	for i, want := range []string{"test\texample.test/m\t", "package\texample.test/m\t"} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %q, want %q and the seconds", lines[i], want)
		}
	}
	if !strings.HasSuffix(lines[0], "\tTestLong") {
		t.Errorf("line %q does not name TestLong", lines[0])
	}
}
