//go:build linux && applications

package applications

import (
	"fmt"
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
	if code == 0 {
		if err := writeTable(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// built holds the executables, compiled by the first test that needs them; or those in the
// folder KERNGATE_TEST_BINARIES.
var built struct {
	once     sync.Once
	dir      string
	binaries lab.Binaries
	err      error
}

// binaries returns the executables under test.
func binaries(t *testing.T) lab.Binaries {
	t.Helper()
	if missing := lab.Missing(); missing != "" {
		skip(t, "needs "+missing)
	}
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

// skip leaves the test out, which fails it where KERNGATE_TEST_NO_SKIP is set.
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
