//go:build linux

// Package ingress holds the scenarios of the Kubernetes ingress conformance features
// (kubernetes-sigs/ingress-controller-conformance, release 1.19), written anew: each test
// says the feature and the scenario that it stands for. The API server is real, with the
// agent's own rights from manifests/install.yaml; so are kernel, agent, proxy and pods, in
// the network namespaces of a lab. Only kubelet and scheduler are missing, so that the
// tests start pods themselves and write their status.
package ingress

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/kerngate/kerngate/test/controlplane"
	"github.com/kerngate/kerngate/test/lab"
)

var (
	plane    *controlplane.Plane
	binaries lab.Binaries
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	missing := controlplane.Missing()
	if what := lab.Missing(); missing == nil && what != "" {
		missing = fmt.Errorf("needs %s", what)
	}
	if missing != nil {
		if os.Getenv("KERNGATE_TEST_NO_SKIP") == "1" {
			fmt.Fprintln(os.Stderr, "conformance:", missing)
			return 1
		}
		fmt.Fprintln(os.Stderr, "conformance: SKIPPED:", missing)
		return 0
	}
	dir, err := lab.TempDir()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binaries = lab.Binaries(os.Getenv("KERNGATE_TEST_BINARIES")); binaries == "" {
		binaries, err = lab.BuildAll(dir)
	}
	if err == nil {
		// The plane's processes are to die with this one, which the kernel ties to the
		// thread that started them: keep it.
		runtime.LockOSThread()
		plane, err = controlplane.Start(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	defer plane.Stop()
	return m.Run()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
