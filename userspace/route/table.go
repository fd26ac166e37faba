// Package route finds the route of a request by host and path. A Table is
// immutable, shared by all reactors without a lock, and a match allocates nothing.
//
// The rules are those of Ingress v1: an exact host goes before a wildcard, and
// that before the routes without a host; then the longest path wins, Exact before
// Prefix, and a Prefix matches whole path elements. The host decides first and
// alone: a request for a host that has routes, none of which matches, has no
// route, even if a less specific host would have one.
//
// Patterns, which the API leaves to implementations, come between Exact and Prefix, the
// longest expression first. They are tried one by one, so a host should have few. What they may cost
// for one request is bounded: beyond that it has no route (TooCostly).
//
// A route may have Conditions on method, headers and query. Several routes then share a path: they
// are asked in the order of the list, which whoever makes it sorts by the precedence of its vocabulary.
// Where none of them wants the request, the next path is tried.
//
// Wildcards are of two kinds: "*.example.com" of Ingress takes exactly one label more,
// "**.example.com" of Gateway API any number. Of two that fit, that with the longer domain goes
// first, and of the same domain that with one label.
//
// In: hosts in lower case without port, paths in normalised form (as
// NormalisePath makes them). Out: the route with its value.
package route

import (
	"fmt"
	"maps"
	"strings"
)

// Host is all routes of one host.
type Host[T any] struct {
	// Name is a host in lower case; "*.example.com" for hosts with exactly one
	// label more, "**.example.com" with any number more; "" for requests to any other host.
	Name   string
	Routes []Route[T]
}

// Route is one path of a host.
type Route[T any] struct {
	// Path begins with '/'. A slash at the end of a Prefix makes no difference.
	Path string
	// Exact is set if the whole path must be equal, Regexp if Path is a Pattern; else it
	// is a Prefix.
	Exact, Regexp bool
	When          *Conditions // nil: every request of the path
	Value         T

	next *Route[T] // of the same path, asked if this one does not want the request
}

// Table finds routes. Use New to make one.
type Table[T any] struct {
	hosts     map[string]*paths[T] // exact names
	wildcards map[string]*paths[T] // of one label, by the part behind the asterisk, with its dot
	deep      map[string]*paths[T] // of any number of labels, by the part behind the asterisks, with its dot
	any       *paths[T]            // nil without a Host ""
}

// New makes a table. It copies what it needs of hosts. An error names the first
// host or path that is malformed or there twice.
func New[T any](hosts []Host[T]) (*Table[T], error) {
	t := &Table[T]{
		hosts:     make(map[string]*paths[T], len(hosts)),
		wildcards: make(map[string]*paths[T]),
		deep:      make(map[string]*paths[T]),
	}
	for i := range hosts {
		if t.has(hosts[i].Name) {
			return nil, fmt.Errorf("host %q is there twice: merge its routes", hosts[i].Name)
		}
		if err := t.set(&hosts[i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// With returns a table in which the hosts in changed replace those of the same
// name or are added, and the hosts in removed are missing; t stays as it is. All
// other hosts are shared by both tables, so the cost is that of copying two maps
// of pointers. On an error, which is as from New, there is no new table.
func (t *Table[T]) With(changed []Host[T], removed []string) (*Table[T], error) {
	next := &Table[T]{
		hosts:     maps.Clone(t.hosts),
		wildcards: maps.Clone(t.wildcards),
		deep:      maps.Clone(t.deep),
		any:       t.any,
	}
	for _, name := range removed {
		next.put(name, nil)
	}
	for i := range changed {
		if err := next.set(&changed[i]); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// Len returns the number of hosts.
func (t *Table[T]) Len() int {
	n := len(t.hosts) + len(t.wildcards) + len(t.deep)
	if t.any != nil {
		n++
	}
	return n
}

// Match finds the route for a host (lower case, no port, no trailing dot), a normalised path and
// what else q says of the request. A path that does not begin with '/', such as the "*" of OPTIONS, is
// matched by the Prefix "/" alone. A nil q has no method, header or query: it fits no Conditions.
func (t *Table[T]) Match(host, path []byte, q Request) (*Route[T], bool) {
	p := t.find(host)
	if p == nil {
		return nil, false
	}
	r := p.match(path, q)
	return r, r != nil
}

// TooCostly reports, of a request without a route, whether it has none because the expressions of
// its host would take too long to try for so long a path.
func (t *Table[T]) TooCostly(host, path []byte) bool {
	p := t.find(host)
	return p != nil && p.tooCostly(path)
}

// find returns the paths of the most specific host, or nil.
func (t *Table[T]) find(host []byte) *paths[T] {
	// The map index expressions convert without a copy.
	if p := t.hosts[string(host)]; p != nil {
		return p
	}
	if len(t.wildcards)+len(t.deep) > 0 {
		first := true // of the dots: before it is one label
		for i, c := range host {
			if c != '.' {
				continue
			}
			if i == 0 { // an empty label is no label more
				break
			}
			if first {
				if p := t.wildcards[string(host[i:])]; p != nil {
					return p
				}
			}
			if p := t.deep[string(host[i:])]; p != nil {
				return p
			}
			if first = false; len(t.deep) == 0 {
				break
			}
		}
	}
	return t.any
}

func (t *Table[T]) has(name string) bool {
	switch {
	case name == "":
		return t.any != nil
	case strings.HasPrefix(name, "**"):
		return t.deep[name[2:]] != nil
	case name[0] == '*':
		return t.wildcards[name[1:]] != nil
	}
	return t.hosts[name] != nil
}

func (t *Table[T]) set(h *Host[T]) error {
	if err := checkHost(h.Name); err != nil {
		return err
	}
	p, err := newPaths(h.Routes)
	if err != nil {
		return fmt.Errorf("host %q: %w", h.Name, err)
	}
	t.put(h.Name, p)
	return nil
}

// put sets the paths of a host; nil: it is no more.
func (t *Table[T]) put(name string, p *paths[T]) {
	m, key := t.hosts, name
	switch {
	case name == "":
		t.any = p
		return
	case strings.HasPrefix(name, "**"):
		m, key = t.deep, name[2:]
	case name[0] == '*':
		m, key = t.wildcards, name[1:]
	}
	if p == nil {
		delete(m, key)
	} else {
		m[key] = p
	}
}

func checkHost(name string) error {
	rest := name
	if strings.HasPrefix(name, "*") {
		domain, ok := strings.CutPrefix(strings.TrimPrefix(name[1:], "*"), ".")
		if !ok || domain == "" {
			return fmt.Errorf("host %q: a wildcard must be \"*.\" or \"**.\" before a domain", name)
		}
		rest = domain
	}
	for i := 0; i < len(rest); i++ {
		if c := rest[i]; c <= ' ' || c >= 0x7f || c == '*' || c == '/' || 'A' <= c && c <= 'Z' {
			return fmt.Errorf("host %q: write it in lower-case ASCII, without path or further asterisks", name)
		}
	}
	return nil
}
