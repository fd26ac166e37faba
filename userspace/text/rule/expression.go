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
// takes grows with their number, and counts such as {1000} make many of a few bytes.
const MaxProgram = 10_000

// Expression compiles an RE2 expression.
func Expression(text string) (*regexp.Regexp, error) { return Within("", text, "") }

// Within compiles an expression between parts of a larger one. It must be one by itself: "a)(b"
// does not become valid by what stands around it.
func Within(before, text, after string) (*regexp.Regexp, error) {
	if len(text) > MaxExpression {
		return nil, fmt.Errorf("the expression has %d bytes: no more than %d are allowed", len(text), MaxExpression)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, explain(err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, explain(err)
	}
	if n := len(program.Inst); n > MaxProgram {
		return nil, fmt.Errorf("the expression comes to %d steps: no more than %d are allowed; counts such as {1000} make many", n, MaxProgram)
	}
	if before+after != "" {
		text = before + "(?:" + text + ")" + after
	}
	re, err := regexp.Compile(text)
	return re, explain(err)
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
func Subject(text string) (*regexp.Regexp, error) {
	if len(text) > MaxSubject {
		return nil, fmt.Errorf("the expression has %d bytes", len(text))
	}
	return Expression(text)
}
