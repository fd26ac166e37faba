package rule

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
)

// MaxExpression is the length in bytes of the longest expression that requests or responses
// are searched for, MaxSubject that of one for the names of clients.
const (
	MaxExpression = 1024
	MaxSubject    = 1000
)

// MaxProgram is how many instructions an expression may compile to. The time that a search
// takes grows with their number, and so does that of compiling and the memory: counts such as
// {1000} make many of a few bytes.
const MaxProgram = 2000

// maxRunes is how many ranges of characters the classes of an expression may have: \pL alone has
// some 600.
const maxRunes = 20_000

// Expression compiles an RE2 expression.
func Expression(text string) (*Regexp, error) { return Within("", text, "") }

// Within compiles an expression between parts of a larger one. It must be one by itself: "a)(b"
// does not become valid by what stands around it.
func Within(before, text, after string) (*Regexp, error) {
	if len(text) > MaxExpression {
		return nil, fmt.Errorf("the expression has %d bytes: no more than %d are allowed", len(text), MaxExpression)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, explain(err)
	}
	steps, runes := size(parsed)
	if steps > MaxProgram {
		return nil, fmt.Errorf("the expression comes to more than %d steps; counts such as {1000} make many", MaxProgram)
	}
	if runes > maxRunes {
		return nil, fmt.Errorf("the classes of characters of the expression have %d ranges: no more than %d are allowed", runes, maxRunes)
	}
	if before+after != "" {
		text = before + "(?:" + text + ")" + after
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, explain(err)
	}
	return &Regexp{re: re, steps: steps + 2}, nil
}

// size returns about how many instructions an expression compiles to, and how many ranges of
// characters it names. It looks at what is written alone: to compile first and count then would
// cost what is to be avoided.
func size(re *syntax.Regexp) (steps, runes int) {
	for _, sub := range re.Sub {
		s, r := size(sub)
		steps, runes = min(steps+s, 1<<30), min(runes+r, 1<<30)
	}
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune), 0
	case syntax.OpCharClass:
		return 1, len(re.Rune) / 2
	case syntax.OpAlternate:
		return steps + len(re.Sub), runes
	case syntax.OpCapture:
		return steps + 2, runes
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		return steps + 1, runes
	case syntax.OpRepeat: // x{2,4} is xx(x(x)?)?, x{2,} is xx+
		times := re.Min
		if re.Max > 0 {
			times = re.Max
		}
		return (steps + 1) * max(times, 1), runes * max(times, 1)
	case syntax.OpConcat:
		return steps, runes
	}
	return steps + 1, runes
}

// explain says what RE2 lacks where somebody may expect it.
func explain(err error) error {
	var e *syntax.Error
	if errors.As(err, &e) && e.Code == syntax.ErrInvalidPerlOp {
		return fmt.Errorf("%w: expressions are RE2's, which has no look-around", err)
	}
	return err
}

// Subject compiles an expression for the names of clients' certificates.
func Subject(text string) (*Regexp, error) {
	if len(text) > MaxSubject {
		return nil, fmt.Errorf("the expression has %d bytes", len(text))
	}
	return Expression(text)
}
