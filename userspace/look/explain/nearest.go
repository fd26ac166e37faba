package explain

import (
	"cmp"
	"slices"
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
		if d := distance(wanted, name); name != "" && d <= max(2, len(wanted)/2) {
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

// distance is the number of bytes to insert, remove or replace to make b of a
// (Levenshtein), in memory of one row.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left, diagonal := i+1, i
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j], left = left, min(change, left+1, diagonal+1)
		}
		row[len(b)] = left
	}
	return row[len(b)]
}
