package route

import (
	"regexp/syntax"
	"strings"
)

// simple is a pattern that can be matched by looking at each byte once:
//
//	literal  then  nothing | "/?" | "(/|$)"  then  nothing | ".*" | "(.*)"  then  nothing | "$"
//
// Nearly all patterns of rewrites are. A fuzz test compares it with package regexp.
type simple struct {
	literal  string // ASCII, lower case
	slash    slash
	slashCap int // group of slashOrEnd, 0: none
	rest     bool
	restCap  int // group of the rest, 0: none
	end      bool
}

type slash uint8

const (
	noSlash slash = iota
	optionalSlash
	slashOrEnd
)

// simplify returns nil if the pattern is not of this kind.
func simplify(text string) *simple {
	re, err := syntax.Parse(text, syntax.Perl|syntax.FoldCase|syntax.DotNL)
	if err != nil {
		return nil
	}
	parts := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		parts = re.Sub
	}
	s := &simple{}
	next := func(fits func(*syntax.Regexp) bool) {
		if len(parts) > 0 && fits(parts[0]) {
			parts = parts[1:]
		}
	}
	next(s.readLiteral)
	next(s.readSlash)
	next(s.readRest)
	next(func(re *syntax.Regexp) bool { s.end = isEnd(re); return s.end })
	if s.literal == "" || len(parts) > 0 {
		return nil
	}
	return s
}

func (s *simple) readLiteral(re *syntax.Regexp) bool {
	if re.Op != syntax.OpLiteral || re.Flags&syntax.FoldCase == 0 {
		return false
	}
	text := string(re.Rune)
	if !isASCII(text) {
		return false
	}
	s.literal = strings.ToLower(text)
	return true
}

func (s *simple) readSlash(re *syntax.Regexp) bool {
	switch {
	case re.Op == syntax.OpQuest && re.Flags&syntax.NonGreedy == 0 && isSlash(re.Sub[0]):
		s.slash = optionalSlash
		return true
	case re.Op == syntax.OpCapture && re.Sub[0].Op == syntax.OpAlternate && len(re.Sub[0].Sub) == 2 &&
		isSlash(re.Sub[0].Sub[0]) && isEnd(re.Sub[0].Sub[1]):
		s.slash, s.slashCap = slashOrEnd, re.Cap
		return true
	}
	return false
}

func (s *simple) readRest(re *syntax.Regexp) bool {
	group := 0
	if re.Op == syntax.OpCapture {
		group, re = re.Cap, re.Sub[0]
	}
	if re.Op != syntax.OpStar || re.Flags&syntax.NonGreedy != 0 || re.Sub[0].Op != syntax.OpAnyChar {
		return false
	}
	s.rest, s.restCap = true, group
	return true
}

func isSlash(re *syntax.Regexp) bool {
	return re.Op == syntax.OpLiteral && len(re.Rune) == 1 && re.Rune[0] == '/'
}

func isEnd(re *syntax.Regexp) bool { return re.Op == syntax.OpEndText }

// match is Pattern.Find for a path in ASCII.
func (s *simple) match(path []byte, g *Groups) bool {
	if !hasPrefixFold(path, s.literal) {
		return false
	}
	at := len(s.literal)
	for i := range g {
		g[i] = -1
	}
	switch s.slash {
	case optionalSlash:
		if at < len(path) && path[at] == '/' {
			at++
		}
	case slashOrEnd:
		begin := at
		if at < len(path) {
			if path[at] != '/' {
				return false
			}
			at++
		}
		g[2*s.slashCap], g[2*s.slashCap+1] = begin, at
	}
	if s.rest {
		begin := at
		at = len(path)
		if s.restCap > 0 {
			g[2*s.restCap], g[2*s.restCap+1] = begin, at
		}
	}
	g[0], g[1] = 0, at
	return !s.end || at == len(path)
}
