package rule

import "regexp"

// MaxSearch bounds what the expressions of a rule may cost for one request: the number of their
// steps times the length of the text. Package regexp takes some 10 to 100 ns for each in the worst
// case, and the event loop of a worker waits meanwhile.
const MaxSearch = 1 << 19

// Regexp is an expression whose searches are bounded. It finds nothing in a text for which it
// would take too long; where that would open something, ask Cost before.
type Regexp struct {
	re    *regexp.Regexp
	steps int
}

// Cost returns what a search of a text of n bytes may cost.
func (r *Regexp) Cost(n int) int {
	if r == nil {
		return 0
	}
	return r.steps * n
}

// NumSubexp returns how many groups the expression has.
func (r *Regexp) NumSubexp() int { return r.re.NumSubexp() }

// Match reports whether the text contains a match.
func (r *Regexp) Match(text []byte) bool { return r.Cost(len(text)) <= MaxSearch && r.re.Match(text) }

// MatchString is Match.
func (r *Regexp) MatchString(text string) bool {
	return r.Cost(len(text)) <= MaxSearch && r.re.MatchString(text)
}

// FindSubmatchIndex returns where the first match and its groups are, nil if there is none.
func (r *Regexp) FindSubmatchIndex(text []byte) []int {
	if r.Cost(len(text)) > MaxSearch {
		return nil
	}
	return r.re.FindSubmatchIndex(text)
}

// Expand appends a template to dst in which the groups of a match stand.
func (r *Regexp) Expand(dst, template, text []byte, match []int) []byte {
	return r.re.Expand(dst, template, text, match)
}

// LiteralPrefix returns what every match begins with, and whether that is the whole expression.
func (r *Regexp) LiteralPrefix() (prefix string, complete bool) { return r.re.LiteralPrefix() }

// String is the expression.
func (r *Regexp) String() string { return r.re.String() }
