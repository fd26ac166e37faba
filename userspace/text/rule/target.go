package rule

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/text/template"
)

// MaxRewrite is the length in bytes of the longest path that takes the place of another, and
// MaxReplacement that of a text of a pod's response with the one that takes its place.
const (
	MaxRewrite     = 2048
	MaxReplacement = 1024
)

// Rewrite says what is wrong with a path in which $1 to $9 may stand.
func Rewrite(target string) error {
	if len(target) > MaxRewrite {
		return fmt.Errorf("is longer than %d bytes", MaxRewrite)
	}
	for i, c := range []byte(target) {
		switch {
		case c <= ' ' || c == 0x7f:
			return errors.New("contains a space or a control character")
		case c == '$' && !groupAt(target, i+1):
			return errors.New("has a $ that no number of a group, 1 to 9, follows")
		}
	}
	return nil
}

// groupAt reports whether the number of a group stands at a place.
func groupAt(text string, at int) bool { return at < len(text) && text[at] >= '1' && text[at] <= '9' }

// Redirect reads an answer without a pod: a status, and for the statuses that redirect where
// to. pattern is the expression whose groups may stand in the target, "": none.
func Redirect(status int, target, pattern string) (t template.Template, re *Regexp, err error) {
	return answer(status, target, pattern, 0)
}

// Answer is Redirect for an answer among steps: without pattern, the groups in the target are
// those of an expression before it.
func Answer(status int, target, pattern string) (t template.Template, re *Regexp, err error) {
	return answer(status, target, pattern, 9)
}

func answer(status int, target, pattern string, groups int) (t template.Template, re *Regexp, err error) {
	if pattern != "" {
		if re, err = Expression(pattern); err != nil {
			return nil, nil, fmt.Errorf("%q is no expression that can be used: %w", Shorten(pattern), err)
		}
		groups = re.NumSubexp()
	}
	if t, err = template.ParseGroups(target, groups); err != nil {
		return nil, nil, fmt.Errorf("target %q: %w", Shorten(target), err)
	}
	switch {
	case status < 200 || status > 599:
		return nil, nil, fmt.Errorf("status %d is not one that a request can be answered with", status)
	case len(t) == 0 && status/100 == 3 && status != 304:
		return nil, nil, fmt.Errorf("status %d needs a URL", status)
	}
	return t, re, nil
}

// MaxSubstitutions bounds the texts that are replaced in bodies, and MaxSubstituted the length
// of each in bytes.
const (
	MaxSubstitutions = 64
	MaxSubstituted   = 1024
)

// Substitution says what is wrong with a text that is replaced in bodies, or with the template
// that takes its place.
func Substitution(from, to string) error {
	if from == "" || len(from) > MaxSubstituted {
		return fmt.Errorf("the text that is looked for must have 1 to %d bytes", MaxSubstituted)
	}
	_, err := template.ParseText(to, 9)
	return err
}

// Replacement reads what is replaced in a text that a pod has written, at its beginning, and
// what by. With pattern the former is an expression, which is returned, and $1 to $9 may stand
// in the latter.
func Replacement(from, to string, pattern bool) (*Regexp, error) {
	if n := len(from) + len(to); from == "" || n > MaxReplacement {
		return nil, fmt.Errorf("what is replaced, and what by, must have 1 to %d bytes", MaxReplacement)
	}
	for _, text := range []string{from, to} {
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f || c == ';' }) {
			return nil, fmt.Errorf("%q contains a control character or a semicolon", Shorten(text))
		}
	}
	if !pattern {
		return nil, nil
	}
	return Within("^", from, "")
}
