package programs

import (
	"errors"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// base is the set of programs that every Debian system has: those of its Essential packages.
func base(t *testing.T) map[string]bool {
	t.Helper()
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Essential} ${Package}\n").Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatal("dpkg-query is missing: this test asks Debian which packages are essential; run it on Debian")
	}
	if err != nil {
		t.Fatal(err)
	}
	list := []string{"-L"}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "yes "); ok {
			list = append(list, name)
		}
	}
	if out, err = exec.Command("dpkg", list...).Output(); err != nil {
		t.Fatal(err)
	}
	programs := map[string]bool{
		"awk":        true, // base-files, which is essential, depends on one
		"apt-get":    true, // scripts/setup installs with it; every root of debootstrap and mmdebstrap has it
		"apt-cache":  true,
		"apt-config": true,
		"mount":      true, // of priority required
		"umount":     true,
	}
	for file := range strings.Lines(string(out)) {
		if dir := path.Dir(strings.TrimSpace(file)); strings.HasSuffix(dir, "/bin") || strings.HasSuffix(dir, "/sbin") {
			programs[path.Base(strings.TrimSpace(file))] = true
		}
	}
	return programs
}
