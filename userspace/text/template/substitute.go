package template

import "strings"

// Substitute replaces each $NAME and ${NAME} in a text for which value reports true. All
// else stays as it is, also a $ that no name follows: Parse says what is wrong with it.
// What value returns is not looked at again.
func Substitute(text string, value func(name string) (string, bool)) string {
	if !strings.Contains(text, "$") {
		return text
	}
	var b strings.Builder
	for {
		literal, rest, found := strings.Cut(text, "$")
		b.WriteString(literal)
		if !found {
			return b.String()
		}
		name, after, err := cutName(rest)
		if err != nil {
			b.WriteByte('$')
			text = rest
			continue
		}
		if v, ok := value(name); ok {
			b.WriteString(v)
		} else {
			b.WriteByte('$')
			b.WriteString(rest[:len(rest)-len(after)])
		}
		text = after
	}
}
