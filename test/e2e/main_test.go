//go:build linux

// Package e2e runs the real agent and proxy in network namespaces (package lab), with real
// clients and real pods, and looks at what clients and pods see.
package e2e

import (
	"os"
	"sync"
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built holds the executables, compiled by the first test that needs them; or those in the
// folder KERNGATE_TEST_BINARIES, to test a release as it is shipped.
var built struct {
	once     sync.Once
	dir      string
	binaries lab.Binaries
	err      error
}

// binaries returns the executables under test.
func binaries(t *testing.T) lab.Binaries {
	t.Helper()
	needLab(t)
	built.once.Do(func() {
		if given := os.Getenv("KERNGATE_TEST_BINARIES"); given != "" {
			built.binaries = lab.Binaries(given)
			return
		}
		if built.dir, built.err = lab.TempDir(); built.err == nil {
			built.binaries, built.err = lab.BuildAll(built.dir)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.binaries
}

// needLab skips the test where no lab can be built. With KERNGATE_TEST_NO_SKIP it fails
// instead, so that CI cannot leave tests out silently.
func needLab(t *testing.T) {
	t.Helper()
	if missing := lab.Missing(); missing != "" {
		skip(t, "needs "+missing)
	}
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("KERNGATE_TEST_NO_SKIP") != "" {
		t.Fatalf("must not be skipped here, but %s", why)
	}
	t.Skip(why)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// report prints figures of a test with -v, and of any test that fails.
func report(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf(format, args...)
}
