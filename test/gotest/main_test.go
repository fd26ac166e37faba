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
		"m_test.go": "package m\n\nimport \"testing\"\n\n" + test,
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
	status := run([]string{"--", "./..."}, func(string) string { return env }, &out, &out)
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
