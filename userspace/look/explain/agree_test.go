package explain

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/message"
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
	conditions := []*model.Conditions{{Method: "POST"}, {Scheme: "https"}, {Query: []model.Comparison{{Name: "q", Value: "1"}}, Headers: []model.Comparison{{Name: "X-V", Value: "a|b", Regexp: true}}}}
	matched := 0
	for range 3000 {
		in := Input{Maps: &Maps{}, Routes: &status.Routes{}}
		var hosts []route.Host[string]
		for i := range 1 + r.IntN(4) {
			host := []string{"", "*." + name(), "**." + name(), name()}[min(i, r.IntN(4))]
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
				if r.IntN(3) == 0 {
					row.When = conditions[r.IntN(len(conditions))]
				}
				rows[row] = true
			}
			h := status.Host{Name: host}
			for row := range rows {
				row.Source = row.Match + " " + row.Path + " of " + host + " with " + row.Conditions()
				h.Routes = append(h.Routes, row)
			}
			// Precedence as in model.Host: longest first, Exact before Prefix.
			slices.SortFunc(h.Routes, func(a, b status.Route) int {
				if len(a.Path) != len(b.Path) {
					return len(b.Path) - len(a.Path)
				}
				// Those with conditions first: the others take everything.
				return cmp.Or(strings.Compare(a.Match+a.Path, b.Match+b.Path), strings.Compare(b.Conditions(), a.Conditions()))
			})
			in.Routes.Hosts = append(in.Routes.Hosts, h)
			rh := route.Host[string]{Name: host}
			for _, row := range h.Routes {
				one := route.Route[string]{Path: row.Path, Exact: row.Match == status.MatchExact, Regexp: row.Match == status.MatchRegexp, Value: row.Source}
				if row.When != nil {
					one.When = compiled(t, row.When)
				}
				rh.Routes = append(rh.Routes, one)
			}
			hosts = append(hosts, rh)
		}
		table, err := route.New(hosts)
		if err != nil {
			t.Fatalf("%v: %+v", err, hosts)
		}
		for range 20 {
			in.Target = Target{Scheme: pick([]string{"http", "https"}), Host: name(), Port: 80, Path: path()}
			in.Target.Sent = in.Target.Path + pick([]string{"", "?q=1", "?q=2"})
			in.Target.Request = Request{Method: pick([]string{"", "POST"}), Fields: []string{"X-V: " + pick([]string{"a", "b", "ab"})}}
			head, err := in.Target.head()
			if err != nil {
				continue // a path that a proxy refuses
			}
			want := ""
			if m, ok := table.Match([]byte(in.Target.Host), []byte(in.Target.Path), message.ForRoute{Head: head.Request, TLS: in.Target.Scheme == "https"}); ok {
				want, matched = "Ingress "+m.Value, matched+1
			}
			if got := Explain(in).Object; got != want {
				t.Fatalf("%s%s: explained as %q, routed as %q\n%+v", in.Target.Host, in.Target.Path, got, want, in.Routes.Hosts)
			}
		}
	}
	if matched < 1000 {
		t.Errorf("only %d requests had a route: the test compares nothing", matched)
	}
}

// compiled returns conditions as a proxy gets them.
func compiled(t *testing.T, c *model.Conditions) *route.Conditions {
	t.Helper()
	out, err := route.NewConditions(*c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
