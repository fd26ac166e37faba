package manifests

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// pinned is an image that is named by version and digest.
var pinned = regexp.MustCompile(`^[^:@]+:[0-9]+\.[0-9]+\.[0-9]+[^@]*@sha256:[0-9a-f]{64}$`)

// TestContainerfile reads the Containerfile as far as that can be done without an engine:
// stages, what is copied between them, and that what is built exists.
func TestContainerfile(t *testing.T) {
	text, err := os.ReadFile("../Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.ReplaceAll(string(text), "\\\n", " ")
	stages := map[string]bool{}
	for _, line := range strings.Split(joined, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		switch fields[0] {
		case "FROM":
			n := len(fields)
			if n < 4 || fields[n-2] != "AS" {
				t.Errorf("a stage without a name: %s", line)
				continue
			}
			if base := fields[n-3]; base != "scratch" && !stages[base] && !pinned.MatchString(base) {
				t.Errorf("the image %q is not named by its digest", base)
			}
			stages[fields[n-1]] = true
		case "COPY":
			if from, ok := strings.CutPrefix(fields[1], "--from="); ok && !stages[from] {
				t.Errorf("copies from stage %q, which is not above: %s", from, line)
			}
		case "RUN":
			for _, f := range fields {
				if dir, ok := strings.CutPrefix(f, "./cmd/"); ok {
					if _, err := os.Stat("../cmd/" + dir); err != nil {
						t.Errorf("builds what does not exist: %v", err)
					}
				}
			}
		case "ARG", "WORKDIR", "ENTRYPOINT", "USER", "LABEL":
		default:
			t.Errorf("unknown instruction: %s", line)
		}
	}
	for _, c := range install(t).daemonSet.Spec.Template.Spec.Containers {
		if target, _, _ := strings.Cut(strings.TrimPrefix(c.Image, "kerngate-"), ":"); !stages[target] {
			t.Errorf("install.yaml runs %s, and the Containerfile has no target %q", c.Image, target)
		}
	}
}
