package deps

import "testing"

// TestWithin guards the prefix rule that everything here rests on.
func TestWithin(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"k8s.io/api/core/v1", "k8s.io", true},
		{"k8s.io", "k8s.io", true},
		{"k8s.io.example/api", "k8s.io", false},
		{"sigs.k8s.io/yaml", "k8s.io", false},
		{module + "/loader/state", module + "/loader", true},
		{module + "/loaderx", module + "/loader", false},
	} {
		if got := within(c.path, c.dir); got != c.want {
			t.Errorf("within(%q, %q) = %t", c.path, c.dir, got)
		}
	}
}
