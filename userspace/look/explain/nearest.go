package explain

import (
	"cmp"
	"slices"

	"github.com/agnivade/levenshtein"
)

// Nearest returns up to n of the names that are most like the wanted one, best first,
// and none that has little in common with it.
func Nearest(wanted string, names []string, n int) []string {
	type scored struct {
		name     string
		distance int
	}
	var near []scored
	for _, name := range names {
		if d := levenshtein.ComputeDistance(wanted, name); name != "" && d <= max(2, len(wanted)/2) {
			near = append(near, scored{name, d})
		}
	}
	slices.SortFunc(near, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var out []string
	for _, s := range near[:min(n, len(near))] {
		out = append(out, s.name)
	}
	return out
}
