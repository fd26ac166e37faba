//go:build linux

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build compiles packages of this module, named by their folder ("cmd/kerngate-agent",
// "test/lab/pod"), into dir. The files are static, and named as the folder's last element.
func Build(dir string, packages ...string) error {
	module, err := moduleRoot()
	if err != nil {
		return err
	}
	args := []string{"build", "-trimpath", "-o", dir + "/"}
	for _, pkg := range packages {
		args = append(args, "./"+pkg)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// TempDir makes a folder that an unprivileged process can look into.
func TempDir() (string, error) {
	dir, err := os.MkdirTemp("", "kgt-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod in this folder or above: run this inside the repository")
		}
		dir = parent
	}
}
