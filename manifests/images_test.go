package manifests

import (
	"os/exec"
	"testing"
)

// TestImagesMaker runs the tests of manifests/images, which is a module of its own: the same digests
// twice, what a registry has after a push, and the Containerfile's content.
func TestImagesMaker(t *testing.T) {
	cmd := exec.Command("go", "test", "./...")
	cmd.Dir = "images"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
