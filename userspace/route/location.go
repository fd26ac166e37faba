package route

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Modifier is how a Location's path is compared, as nginx does.
type Modifier uint8

const (
	PlainPrefix      Modifier = iota // by characters
	FinalPrefix                      // "^~": if it is the longest prefix, no expression is tried
	Equal                            // "="
	Expression                       // "~": RE2, found anywhere in the path
	FoldedExpression                 // "~*": the same without case
)

// Location is a block of nginx's configuration that takes some paths.
type Location[T any] struct {
	Modifier Modifier
	Path     string
	Value    T
}

// Locations finds the location of a path. It is immutable.
type Locations[T any] struct {
	equal    []*Location[T]
	prefixes []*Location[T] // the longest first
	patterns []locationPattern[T]
}

type locationPattern[T any] struct {
	re       *rule.Regexp
	location *Location[T]
}

// NewLocations makes Locations. Of two with the same path the first counts. It copies what
// it needs of the list.
func NewLocations[T any](list []Location[T]) (*Locations[T], error) {
	l := &Locations[T]{}
	for i := range list {
		one := list[i]
		switch one.Modifier {
		case Equal:
			l.equal = append(l.equal, &one)
		case PlainPrefix, FinalPrefix:
			l.prefixes = append(l.prefixes, &one)
		case Expression, FoldedExpression:
			re, err := CompileLocation(one.Path, one.Modifier == FoldedExpression)
			if err != nil {
				return nil, fmt.Errorf("location %q: %w", one.Path, err)
			}
			l.patterns = append(l.patterns, locationPattern[T]{re, &one})
		default:
			return nil, fmt.Errorf("location %q: this proxy has no modifier %d", one.Path, one.Modifier)
		}
	}
	slices.SortStableFunc(l.prefixes, func(a, b *Location[T]) int { return len(b.Path) - len(a.Path) })
	return l, nil
}

// CompileLocation compiles the expression of a location.
func CompileLocation(text string, folded bool) (*rule.Regexp, error) {
	if folded {
		return rule.Within("(?is:", text, ")")
	}
	return rule.Within("(?s:", text, ")")
}

// Rival is the route that takes a path if no location does.
type Rival struct {
	length   int // of its prefix, as nginx has it
	isRegexp bool
}

// RivalOf returns the rival of a host's locations. Package kube's routes are what
// ingress-nginx makes locations of: Prefix /foo is "location /foo/" and "location = /foo".
func RivalOf[T any](r *Route[T], path []byte) Rival {
	switch {
	case r.Regexp:
		return Rival{isRegexp: true}
	case r.Exact:
		return Rival{length: math.MaxInt}
	}
	own := strings.TrimRight(r.Path, "/")
	if own != "" && len(path) == len(own) {
		return Rival{length: math.MaxInt}
	}
	return Rival{length: len(own) + 1}
}

// TooCostly reports whether to search a path for the expressions would take too long. Find must
// not be asked then: a location could be missed that keeps somebody out.
func (l *Locations[T]) TooCostly(path []byte) bool {
	cost := 0
	for i := range l.patterns {
		cost += l.patterns[i].re.Cost(len(path))
	}
	return cost > rule.MaxSearch
}

// Any reports whether f is true of the value of a location.
func (l *Locations[T]) Any(f func(*T) bool) bool {
	for _, list := range [][]*Location[T]{l.equal, l.prefixes} {
		for _, one := range list {
			if f(&one.Value) {
				return true
			}
		}
	}
	return slices.ContainsFunc(l.patterns, func(p locationPattern[T]) bool { return f(&p.location.Value) })
}

// Find returns the location of a path, nil if the rival takes it: an equal path, then the
// longest prefix if it is final, then the first expression, then the longest prefix.
func (l *Locations[T]) Find(path []byte, rival Rival) *Location[T] {
	for _, one := range l.equal {
		if string(path) == one.Path {
			return one
		}
	}
	if rival.length == math.MaxInt {
		return nil
	}
	var prefix *Location[T]
	for _, one := range l.prefixes {
		if len(one.Path) >= rival.length && len(path) >= len(one.Path) && string(path[:len(one.Path)]) == one.Path {
			prefix = one
			break
		}
	}
	if prefix != nil && prefix.Modifier == FinalPrefix {
		return prefix
	}
	for i := range l.patterns {
		if matchesPCRE(l.patterns[i].re, path) {
			return l.patterns[i].location
		}
	}
	if rival.isRegexp {
		return nil
	}
	return prefix
}

// matchesPCRE matches a "$" before a line feed at the path's end, too, as PCRE does:
// "/x.php%0A" must not get past "\.php$".
func matchesPCRE(re *rule.Regexp, path []byte) bool {
	if re.Match(path) {
		return true
	}
	n := len(path)
	return n > 0 && path[n-1] == '\n' && re.Match(path[:n-1])
}
