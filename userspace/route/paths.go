package route

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/kerngate/kerngate/userspace/text/rule"
)

// few is up to how many paths a list is faster than a map, by measurement: see
// BenchmarkPaths.
const few = 8

// paths finds a route among those of one host.
type paths[T any] struct {
	routes []Route[T]

	// exact are the Exact routes: a list if they are few, else a map.
	exact    []*Route[T]
	exactMap map[string]*Route[T]

	// prefixes are the Prefix routes but "/", without slashes at their ends, the
	// longest first: a list if they are few, else a map.
	prefixes  []prefix[T]
	prefixMap map[string]*Route[T]
	lengths   lengthSet // of the prefixes in prefixMap
	longest   int       // of these lengths

	root *Route[T] // Prefix "/", or nil

	patterns []pattern[T] // the longest first
}

type pattern[T any] struct {
	*Pattern
	route *Route[T]
}

type prefix[T any] struct {
	path  string
	route *Route[T]
}

func newPaths[T any](routes []Route[T]) (*paths[T], error) {
	p := &paths[T]{routes: append([]Route[T](nil), routes...)}
	exact := make(map[string]*Route[T])
	prefixes := make(map[string]*Route[T])
	patterns := make(map[string]*Route[T])
	for i := range p.routes {
		r := &p.routes[i]
		if !strings.HasPrefix(r.Path, "/") {
			return nil, fmt.Errorf("path %q: it must begin with a slash", r.Path)
		}
		m, key := exact, r.Path
		switch {
		case r.Regexp:
			m = patterns
		case !r.Exact:
			m, key = prefixes, strings.TrimRight(r.Path, "/")
		}
		r.next = nil
		if err := follow(m, key, r); err != nil {
			return nil, err
		}
	}
	p.root = prefixes[""]
	delete(prefixes, "")
	p.setExact(exact)
	p.setPrefixes(prefixes)
	return p, p.setPatterns(patterns)
}

// follow puts a route behind those of its path.
func follow[T any](m map[string]*Route[T], key string, r *Route[T]) error {
	last := m[key]
	if last == nil {
		m[key] = r
		return nil
	}
	for last.next != nil {
		last = last.next
	}
	if last.When == nil {
		return fmt.Errorf("path %q is there twice, and the first route takes every request: keep one of them, or give the first conditions", r.Path)
	}
	last.next = r
	return nil
}

// choose returns the first of the routes of a path that wants the request, nil if none does.
func (r *Route[T]) choose(q Request) *Route[T] {
	for ; r != nil; r = r.next {
		if r.When == nil || q != nil && r.When.Fit(q) {
			return r
		}
	}
	return nil
}

func (p *paths[T]) setPatterns(patterns map[string]*Route[T]) error {
	for path, r := range patterns {
		compiled, err := ParsePattern(path)
		if err != nil {
			return fmt.Errorf("path %q: %w", path, err)
		}
		p.patterns = append(p.patterns, pattern[T]{compiled, r})
	}
	slices.SortFunc(p.patterns, func(a, b pattern[T]) int {
		return cmp.Or(cmp.Compare(len(b.route.Path), len(a.route.Path)), cmp.Compare(a.route.Path, b.route.Path))
	})
	return nil
}

func (p *paths[T]) setExact(exact map[string]*Route[T]) {
	if len(exact) > few {
		p.exactMap = exact
		return
	}
	for _, r := range exact {
		p.exact = append(p.exact, r)
	}
}

func (p *paths[T]) setPrefixes(prefixes map[string]*Route[T]) {
	if len(prefixes) > few {
		p.prefixMap = prefixes
		for path := range prefixes {
			p.lengths.add(len(path))
			p.longest = max(p.longest, len(path))
		}
		return
	}
	for path, r := range prefixes {
		p.prefixes = append(p.prefixes, prefix[T]{path, r})
	}
	sort.Slice(p.prefixes, func(i, j int) bool { return len(p.prefixes[i].path) > len(p.prefixes[j].path) })
}

func (p *paths[T]) match(path []byte, q Request) *Route[T] {
	for _, r := range p.exact {
		if string(path) == r.Path {
			if r = r.choose(q); r != nil {
				return r
			}
		}
	}
	if p.exactMap != nil {
		if r := p.exactMap[string(path)].choose(q); r != nil {
			return r
		}
	}
	cost := 0
	for i := range p.patterns {
		if cost += p.patterns[i].Cost(path); cost > rule.MaxSearch {
			return nil // Table.TooCostly: what comes next may let in whom this would keep out
		}
		if p.patterns[i].Match(path) {
			if r := p.patterns[i].route.choose(q); r != nil {
				return r
			}
		}
	}
	for i := range p.prefixes {
		f := &p.prefixes[i]
		n := len(f.path)
		if len(path) >= n && (len(path) == n || path[n] == '/') && string(path[:n]) == f.path {
			if r := f.route.choose(q); r != nil {
				return r
			}
		}
	}
	if p.prefixMap != nil {
		if r := p.walkUp(path, q); r != nil {
			return r
		}
	}
	return p.root.choose(q)
}

// tooCostly reports whether patterns were left untried for what they would have cost.
func (p *paths[T]) tooCostly(path []byte) bool {
	cost := 0
	for i := range p.patterns {
		cost += p.patterns[i].Cost(path)
	}
	return cost > rule.MaxSearch
}

// walkUp looks up path and its parents, the longest first. Paths longer than
// every prefix are cut first, and lengths that no prefix has are skipped, so that
// the work is bounded by the routes and not by what a client sends.
func (p *paths[T]) walkUp(path []byte, q Request) *Route[T] {
	n := len(path)
	if n > p.longest {
		n = p.longest
		// Only a whole element ends here.
		for path[n] != '/' {
			if n--; n <= 0 {
				return nil
			}
		}
	}
	for n > 0 {
		if p.lengths.has(n) {
			if r := p.prefixMap[string(path[:n])].choose(q); r != nil {
				return r
			}
		}
		for n--; n > 0 && path[n] != '/'; n-- {
		}
	}
	return nil
}

// lengthSet is a set of lengths; all from maxLength on count as one.
type lengthSet [4]uint64

const maxLength = 255

func (s *lengthSet) add(n int) {
	n = min(n, maxLength)
	s[n>>6] |= 1 << (n & 63)
}

func (s *lengthSet) has(n int) bool {
	n = min(n, maxLength)
	return s[n>>6]>>(n&63)&1 != 0
}
