package pins

import (
	"strings"
	"testing"
)

// Not elsewhere: who mounts over a folder hides what is in it.
func TestAdvice(t *testing.T) {
	for path, want := range map[string]string{
		"/sys/fs/bpf/kerngate": "mount one with `mount -t bpf bpf /sys/fs/bpf`", "/tmp/kerngate": "name a folder on one",
	} {
		if got := advice(path); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
