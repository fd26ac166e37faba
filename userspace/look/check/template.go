package check

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// isTemplate reports whether a document is to be rendered by Helm or the like.
func isTemplate(text []byte) bool {
	_, rest, opened := bytes.Cut(text, []byte("{{"))
	return opened && bytes.Contains(rest, []byte("}}"))
}

// variable is ${NAME} or ${NAME:=default} as Flux, Kustomize's users and envsubst have it.
// nginx's own variables, which snippets may write ${host}, are in lower case.
var variable = regexp.MustCompile(`\$\{([A-Z_][A-Z0-9_]*)(?:(?::?[-=])([^}]*))?\}`)

// fillVariables replaces variables by their default, or by their name in lower case, which
// can stand in a host name, and returns those that there were.
func fillVariables(text []byte) (filled []byte, variables []string) {
	filled = variable.ReplaceAllFunc(text, func(match []byte) []byte {
		groups := variable.FindSubmatch(match)
		if name := "${" + string(groups[1]) + "}"; !slices.Contains(variables, name) {
			variables = append(variables, name)
		}
		if len(groups[2]) > 0 {
			return groups[2]
		}
		name := strings.Trim(strings.ReplaceAll(strings.ToLower(string(groups[1])), "_", "-"), "-")
		return []byte(name)
	})
	return filled, variables
}
