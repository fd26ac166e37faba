package route

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/text/rule"
)

// MaxPattern is the length in bytes of the longest pattern.
const MaxPattern = rule.MaxExpression

// MaxGroups is how many groups of a pattern can be asked for, the whole match among them.
const MaxGroups = 10

// Pattern is a path as an RE2 expression. It is compared without case, from the beginning
// of a path on, and need not reach its end; "." is any character, a line end as well. What that may
// cost is bounded (Cost).
type Pattern struct {
	re     *rule.Regexp
	prefix string // what every match begins with, ASCII in lower case; "" if unknown
	simple *simple

	literal  string // prefix as it is written
	complete bool   // and all of the pattern
}

// Groups are the offsets of what a pattern's groups have matched: group n is
// path[g[2*n]:g[2*n+1]], or nothing if that is -1.
type Groups [2 * MaxGroups]int

// ParsePattern reads a pattern. It must begin with a slash.
func ParsePattern(text string) (*Pattern, error) {
	if !strings.HasPrefix(text, "/") {
		return nil, errors.New("the expression must begin with a slash")
	}
	re, err := rule.Within("(?is)^", text, "")
	if err != nil {
		return nil, err
	}
	if re.NumSubexp() >= MaxGroups {
		return nil, fmt.Errorf("the expression has %d groups: no more than %d are allowed", re.NumSubexp(), MaxGroups-1)
	}
	p := &Pattern{re: re, simple: simplify(text)}
	if literal, err := rule.Expression(text); err == nil {
		prefix, complete := literal.LiteralPrefix()
		p.literal, p.complete = prefix, complete
		if isASCII(prefix) {
			p.prefix = strings.ToLower(prefix)
		}
	}
	return p, nil
}

// NumGroups returns how many groups the pattern has, the whole match not counted.
func (p *Pattern) NumGroups() int { return p.re.NumSubexp() }

// Cost returns what Match and Find may cost for a path: see rule.MaxSearch. It is 0 where no search
// is needed.
func (p *Pattern) Cost(path []byte) int {
	if isASCII(path) && (p.simple != nil || !hasPrefixFold(path, p.prefix)) {
		return 0
	}
	return p.re.Cost(len(path))
}

// Match reports whether the path begins with a match.
func (p *Pattern) Match(path []byte) bool {
	if !isASCII(path) {
		return p.re.Match(path) // letters outside of ASCII may be other cases of ASCII ones
	}
	if p.simple != nil {
		var g Groups
		return p.simple.match(path, &g)
	}
	return hasPrefixFold(path, p.prefix) && p.re.Match(path)
}

// Find is Match and says what the groups have matched. It allocates unless the pattern is
// of the simple kind that rewrites are made of: a literal, then at most a slash or the
// end, then the rest.
func (p *Pattern) Find(path []byte, g *Groups) bool {
	if p.simple != nil && isASCII(path) {
		return p.simple.match(path, g)
	}
	found := p.re.FindSubmatchIndex(path)
	for i := range g {
		g[i] = -1
	}
	copy(g[:], found)
	return found != nil
}

func isASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// hasPrefixFold reports whether path begins with an ASCII prefix given in lower case.
func hasPrefixFold(path []byte, lower string) bool {
	if len(path) < len(lower) {
		return false
	}
	for i := range len(lower) {
		if c := path[i]; c != lower[i] && !('A' <= c && c <= 'Z' && c|0x20 == lower[i]) {
			return false
		}
	}
	return true
}

// Literal returns what every match begins with, but for the case of letters, and whether the
// pattern is nothing else.
func (p *Pattern) Literal() (prefix string, complete bool) { return p.literal, p.complete }
