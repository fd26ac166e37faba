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
// longest expression first. They are tried one by one, so a host should have few.
//
// In: hosts in lower case without port, paths in normalised form (as
// http1.NormalisePath makes them). Out: the route with its value.
package route

import (
	"fmt"
	"maps"
	"strings"
)

// Host is all routes of one host.
type Host[T any] struct {
	// Name is a host in lower case; "*.example.com" for hosts with exactly one
	// label more; "" for requests to any other host.
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
	Value         T
}

// Table finds routes. Use New to make one.
type Table[T any] struct {
	hosts     map[string]*paths[T] // exact names
	wildcards map[string]*paths[T] // by the part behind the asterisk, with its dot
	any       *paths[T]            // nil without a Host ""
}

// New makes a table. It copies what it needs of hosts. An error names the first
// host or path that is malformed or there twice.
func New[T any](hosts []Host[T]) (*Table[T], error) {
	t := &Table[T]{
		hosts:     make(map[string]*paths[T], len(hosts)),
		wildcards: make(map[string]*paths[T]),
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
		any:       t.any,
	}
	for _, name := range removed {
		switch {
		case name == "":
			next.any = nil
		case name[0] == '*':
			delete(next.wildcards, name[1:])
		default:
			delete(next.hosts, name)
		}
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
	n := len(t.hosts) + len(t.wildcards)
	if t.any != nil {
		n++
	}
	return n
}

// Match finds the route for a host (lower case, no port, no trailing dot) and a
// normalised path. A path that does not begin with '/', such as the "*" of
// OPTIONS, is matched by the Prefix "/" alone.
func (t *Table[T]) Match(host, path []byte) (*Route[T], bool) {
	p := t.find(host)
	if p == nil {
		return nil, false
	}
	r := p.match(path)
	return r, r != nil
}

// find returns the paths of the most specific host, or nil.
func (t *Table[T]) find(host []byte) *paths[T] {
	// The map index expressions convert without a copy.
	if p := t.hosts[string(host)]; p != nil {
		return p
	}
	if len(t.wildcards) > 0 {
		for i, c := range host {
			if c != '.' {
				continue
			}
			if i > 0 { // an empty label is no label more
				if p := t.wildcards[string(host[i:])]; p != nil {
					return p
				}
			}
			break
		}
	}
	return t.any
}

func (t *Table[T]) has(name string) bool {
	switch {
	case name == "":
		return t.any != nil
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
	switch {
	case h.Name == "":
		t.any = p
	case h.Name[0] == '*':
		t.wildcards[h.Name[1:]] = p
	default:
		t.hosts[h.Name] = p
	}
	return nil
}

func checkHost(name string) error {
	rest := name
	if strings.HasPrefix(name, "*") {
		if len(name) < 3 || name[1] != '.' {
			return fmt.Errorf("host %q: a wildcard must be \"*.\" before a domain", name)
		}
		rest = name[2:]
	}
	for i := 0; i < len(rest); i++ {
		if c := rest[i]; c <= ' ' || c >= 0x7f || c == '*' || c == '/' || 'A' <= c && c <= 'Z' {
			return fmt.Errorf("host %q: write it in lower-case ASCII, without path or further asterisks", name)
		}
	}
	return nil
}
