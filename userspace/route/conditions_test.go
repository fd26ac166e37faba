package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/model"
)

// asked is a request of tests.
type asked struct {
	method, query string
	secure        bool
	headers       map[string]string
}

func (a *asked) Secure() bool   { return a.secure }
func (a *asked) Method() []byte { return []byte(a.method) }
func (a *asked) Query() []byte  { return []byte(a.query) }
func (a *asked) Header(lower string) []byte {
	if v, ok := a.headers[lower]; ok {
		return []byte(v)
	}
	return nil
}

func when(t testing.TB, method string, headers, query []model.Comparison) *Conditions {
	t.Helper()
	c, err := NewConditions(model.Conditions{Method: method, Headers: headers, Query: query})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func schemed(t testing.TB, scheme string) *Conditions {
	t.Helper()
	c, err := NewConditions(model.Conditions{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConditions(t *testing.T) {
	is := func(name, value string) []model.Comparison { return []model.Comparison{{Name: name, Value: value}} }
	like := func(name, value string) []model.Comparison {
		return []model.Comparison{{Name: name, Value: value, Regexp: true}}
	}
	for _, c := range []struct {
		name string
		when *Conditions
		q    asked
		want bool
	}{
		{"method", when(t, "POST", nil, nil), asked{method: "POST"}, true},
		{"another method", when(t, "POST", nil, nil), asked{method: "GET"}, false},
		{"methods have a case", when(t, "POST", nil, nil), asked{method: "post"}, false},
		{"scheme", schemed(t, "https"), asked{secure: true}, true},
		{"another scheme", schemed(t, "https"), asked{}, false},
		{"clear text", schemed(t, "http"), asked{}, true},
		{"TLS is another scheme", schemed(t, "http"), asked{secure: true}, false},
		{"header", when(t, "", is("Version", "two"), nil), asked{headers: map[string]string{"version": "two"}}, true},
		{"header with another value", when(t, "", is("Version", "two"), nil), asked{headers: map[string]string{"version": "Two"}}, false},
		{"no header", when(t, "", is("Version", ""), nil), asked{}, false},
		{"empty header", when(t, "", is("Version", ""), nil), asked{headers: map[string]string{"version": ""}}, true},
		{"expression on all of the value", when(t, "", like("Version", "t.o"), nil), asked{headers: map[string]string{"version": "two"}}, true},
		{"not on a part", when(t, "", like("Version", "t.o"), nil), asked{headers: map[string]string{"version": "two!"}}, false},
		{"an alternative does not reach over the ends", when(t, "", like("Version", "a|b"), nil), asked{headers: map[string]string{"version": "ax"}}, false},
		{"query", when(t, "", nil, is("animal", "whale")), asked{query: "a=1&animal=whale&b"}, true},
		{"the first of its name", when(t, "", nil, is("animal", "whale")), asked{query: "animal=dolphin&animal=whale"}, false},
		{"encoded", when(t, "", nil, is("an imal", "wh&le")), asked{query: "an+imal=wh%26le"}, true},
		{"malformed is not there", when(t, "", nil, is("animal", "%")), asked{query: "animal=%"}, false},
		{"no value", when(t, "", nil, is("animal", "")), asked{query: "animal"}, true},
		{"names have a case", when(t, "", nil, is("animal", "x")), asked{query: "Animal=x"}, false},
		{"all must hold", when(t, "GET", is("a", "1"), is("b", "2")), asked{method: "GET", query: "b=2", headers: map[string]string{"a": "2"}}, false},
		{"all hold", when(t, "GET", is("a", "1"), is("b", "2")), asked{method: "GET", query: "b=2", headers: map[string]string{"a": "1"}}, true},
	} {
		if got := c.when.Fit(&c.q); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	for name, c := range map[string][3]any{
		"a blank in a method": {"GE T", []model.Comparison(nil), []model.Comparison(nil)},
		"a blank in a name":   {"", is("a b", ""), []model.Comparison(nil)},
		"an expression":       {"", like("a", "("), []model.Comparison(nil)},
		"no name":             {"", []model.Comparison(nil), is("", "x")},
		"too many":            {"", slices.Repeat(is("a", "x"), maxComparisons+1), []model.Comparison(nil)},
	} {
		if _, err := NewConditions(model.Conditions{Method: c[0].(string), Headers: c[1].([]model.Comparison), Query: c[2].([]model.Comparison)}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if c, err := NewConditions(model.Conditions{}); c != nil || err != nil {
		t.Errorf("no conditions: %v, %v", c, err)
	}
}

// TestMatchConditions compares tables whose routes have conditions with the naive model.
func TestMatchConditions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	methods := []string{"GET", "POST", ""}
	names := []string{"", "a.b", "*.b", "**.b", "*.a.b", "**.a.b", "**.c", "x.y.c"}
	asks := []string{"a.b", "x.b", "x.y.b", "x.a.b", "x.y.a.b", "c", "x.c", "x.y.c", "z.y.c", "b", ".b", "x", ""}
	matched := 0
	for range 2000 {
		var hosts []Host[int]
		value := 0
		for _, name := range names {
			if r.IntN(2) == 0 {
				continue
			}
			h := Host[int]{Name: name}
			for _, path := range []string{"/", "/x", "/x/y", "/long/path"} {
				for _, exact := range []bool{false, true} {
					for n := r.IntN(3); n > 0; n-- {
						value++
						route := Route[int]{Path: path, Exact: exact, Value: value}
						if n > 1 || r.IntN(2) == 0 { // only the last of a path may take everything
							route.When = when(t, methods[r.IntN(2)], []model.Comparison{{Name: "V", Value: fmt.Sprint(r.IntN(2))}}, nil)
						}
						h.Routes = append(h.Routes, route)
					}
				}
			}
			if r.IntN(4) == 0 { // enough for maps instead of lists
				for i := range 2 * few {
					value++
					h.Routes = append(h.Routes, Route[int]{Path: fmt.Sprintf("/long/p%d", i), Value: value}, Route[int]{Path: fmt.Sprintf("/e%d", i), Exact: true, Value: value})
				}
			}
			hosts = append(hosts, h)
		}
		table := mustNew(t, hosts)
		for range 20 {
			q := &asked{method: methods[r.IntN(3)], headers: map[string]string{"v": fmt.Sprint(r.IntN(3))}}
			path := []string{"/", "/x", "/x/", "/x/y", "/x/y/z", "/long/path", "/long/p3/q", "/e3", "/other"}[r.IntN(9)]
			host := asks[r.IntN(len(asks))]
			checkRequest(t, table, hosts, host, path, q)
			if _, ok := table.Match([]byte(host), []byte(path), q); ok {
				matched++
			}
		}
	}
	if matched < 1000 {
		t.Errorf("only %d requests had a route: the test compares nothing", matched)
	}
}

// TestUnreachableRoute: a route behind one of the same path that takes every request is a mistake.
func TestUnreachableRoute(t *testing.T) {
	conditional := Route[int]{Path: "/x", When: when(t, "GET", nil, nil)}
	if _, err := New([]Host[int]{{Name: "a", Routes: []Route[int]{conditional, conditional, {Path: "/x/"}}}}); err != nil {
		t.Error(err)
	}
	_, err := New([]Host[int]{{Name: "a", Routes: []Route[int]{{Path: "/x"}, conditional}}})
	if err == nil || !strings.Contains(err.Error(), `path "/x" is there twice`) {
		t.Errorf("error %v", err)
	}
}

func TestConditionsAllocate(t *testing.T) {
	c := when(t, "GET", []model.Comparison{{Name: "v", Value: "1"}}, []model.Comparison{{Name: "b", Value: "2"}})
	q := &fixed{method: []byte("GET"), query: []byte("a=1&b=2"), header: []byte("1")}
	if n := testing.AllocsPerRun(100, func() {
		if !c.Fit(q) {
			t.Fatal("does not fit")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type fixed struct{ method, query, header []byte }

func (f *fixed) Secure() bool         { return false }
func (f *fixed) Method() []byte       { return f.method }
func (f *fixed) Query() []byte        { return f.query }
func (f *fixed) Header(string) []byte { return f.header }
