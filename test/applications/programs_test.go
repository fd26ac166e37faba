//go:build linux && applications

package applications

import (
	"debug/buildinfo"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// builtProgram builds a program that Debian does not have, unless it is there, and returns its path.
func builtProgram(t *testing.T, name string) string {
	t.Helper()
	build := exec.Command("scripts/applications-build", name)
	build.Dir = "../.."
	var said strings.Builder
	build.Stderr = &said
	folder, err := build.Output()
	if err != nil {
		t.Fatalf("scripts/applications-build %s: %v\n%s", name, err, said.String())
	}
	return filepath.Join(strings.TrimSpace(string(folder)), name)
}

// program is the path of a program of scripts/applications-build.
func (w *way) program(name string) string {
	w.t.Helper()
	return builtProgram(w.t, name)
}

// moduleVersion is the version of a module of which a program was built.
func moduleVersion(t *testing.T, program, module string) string {
	t.Helper()
	info, err := buildinfo.ReadFile(builtProgram(t, program))
	must(t, err)
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	t.Fatalf("%s was not built of %s", program, module)
	return ""
}
