package explain

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/route"
)

// TestAgreesWithTheRouter holds explanations to the matcher that the proxy uses: random
// tables of few names, so that they overlap, and random requests to them.
func TestAgreesWithTheRouter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	labels := []string{"a", "b", "example", "com"}
	elements := []string{"x", "xy", "X", ""}
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	name := func() string {
		n := make([]string, 1+r.IntN(3))
		for i := range n {
			n[i] = pick(labels)
		}
		return strings.Join(n, ".")
	}
	path := func() string {
		n := make([]string, r.IntN(4))
		for i := range n {
			n[i] = pick(elements)
		}
		return "/" + strings.Join(n, "/")
	}
	for range 3000 {
		in := Input{Maps: &Maps{}, Routes: &status.Routes{}}
		var hosts []route.Host[string]
		for i := range 1 + r.IntN(4) {
			host := []string{"", "*." + name(), name()}[min(i, r.IntN(3))]
			if slices.ContainsFunc(hosts, func(h route.Host[string]) bool { return h.Name == host }) {
				continue
			}
			rows := map[status.Route]bool{}
			for range 1 + r.IntN(4) {
				row := status.Route{Path: path(), Match: pick([]string{status.MatchExact, status.MatchPrefix, status.MatchRegexp})}
				if row.Match == status.MatchPrefix && row.Path != "/" {
					row.Path = strings.TrimRight(row.Path, "/")
					if row.Path == "" {
						row.Path = "/"
					}
				}
				rows[row] = true
			}
			h := status.Host{Name: host}
			for row := range rows {
				row.Source = row.Match + " " + row.Path + " of " + host
				h.Routes = append(h.Routes, row)
			}
			// Precedence as in model.Host: longest first, Exact before Prefix.
			slices.SortFunc(h.Routes, func(a, b status.Route) int {
				if len(a.Path) != len(b.Path) {
					return len(b.Path) - len(a.Path)
				}
				return strings.Compare(a.Match+a.Path, b.Match+b.Path)
			})
			in.Routes.Hosts = append(in.Routes.Hosts, h)
			rh := route.Host[string]{Name: host}
			for _, row := range h.Routes {
				rh.Routes = append(rh.Routes, route.Route[string]{Path: row.Path, Exact: row.Match == status.MatchExact, Regexp: row.Match == status.MatchRegexp, Value: row.Source})
			}
			hosts = append(hosts, rh)
		}
		table, err := route.New(hosts)
		if err != nil {
			t.Fatalf("%v: %+v", err, hosts)
		}
		for range 20 {
			in.Target = Target{Scheme: "http", Host: name(), Port: 80, Path: path()}
			want := ""
			if m, ok := table.Match([]byte(in.Target.Host), []byte(in.Target.Path)); ok {
				want = m.Value
			}
			if got := Explain(in).Source; got != want {
				t.Fatalf("%s%s: explained as %q, routed as %q\n%+v", in.Target.Host, in.Target.Path, got, want, in.Routes.Hosts)
			}
		}
	}
}
