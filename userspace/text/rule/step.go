package rule

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/text/template"
)

// MaxSteps is how many steps one list of a policy may have, MaxVariables how many variables
// they may set.
const (
	MaxSteps     = 256
	MaxVariables = 32
)

// Variable says what is wrong with the name of a variable that a step sets.
func Variable(name string) error {
	if name == "" || len(name) > MaxField || strings.ContainsFunc(name, func(c rune) bool {
		return c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z')
	}) {
		return fmt.Errorf("%q is no name of a variable", Shorten(name))
	}
	return nil
}

// Replacement path of a step, and the query in it.
type NewPath struct {
	Path  template.Template
	Query template.Template
	// HasQuery is set if there is a query in it, which goes before that of the request. Alone
	// leaves that of the request out.
	HasQuery, Alone bool
}

// StepPath reads the template of a new path: the query follows a "?", and a "?" at the end
// leaves the request's query out.
func StepPath(text string) (p NewPath, err error) {
	if text == "" {
		return p, errors.New("the new path is empty")
	}
	path, query, found := strings.Cut(text, "?")
	if found {
		query, p.Alone = strings.CutSuffix(query, "?")
		p.Alone = p.Alone || query == ""
		p.HasQuery = query != ""
	}
	if p.Path, err = template.ParseGroups(path, 9); err == nil {
		p.Query, err = template.ParseGroups(query, 9)
	}
	return p, err
}
