package nginxconf

import (
	"errors"
	"strings"
)

var errLuaEnd = errors.New("a block of Lua has no end: a } is missing")

// lua reads a block of Lua up to the } that ends it, which is the first that belongs to no
// table, string or comment of the Lua text.
func (p *parser) lua() (string, error) {
	text := p.text
	depth := 0
	for n := 0; n < len(text); {
		switch c := text[n]; {
		case c == '{':
			depth++
			n++
		case c == '}' && depth == 0:
			p.skip(n + 1)
			return text[:n], nil
		case c == '}':
			depth--
			n++
		case c == '"' || c == '\'':
			end := luaString(text[n:])
			if end < 0 {
				return "", errLuaEnd
			}
			n += end
		case strings.HasPrefix(text[n:], "--"):
			end := luaLong(text[n+2:])
			switch {
			case end > 0:
				n += 2 + end
			case end < 0:
				return "", errLuaEnd
			default:
				line := strings.IndexByte(text[n:], '\n')
				if line < 0 {
					return "", errLuaEnd
				}
				n += line
			}
		case c == '[':
			switch end := luaLong(text[n:]); {
			case end > 0:
				n += end
			case end < 0:
				return "", errLuaEnd
			default:
				n++
			}
		default:
			n++
		}
	}
	return "", errLuaEnd
}

// luaString returns the length of the quoted string that text begins with, -1 if it has no
// end.
func luaString(text string) int {
	for n := 1; n < len(text); n++ {
		switch text[n] {
		case '\\':
			n++
		case text[0]:
			return n + 1
		}
	}
	return -1
}

// luaLong returns the length of the long bracket ("[[...]]", "[=[...]=]") that text begins
// with, 0 if it begins with none, and -1 if that has no end.
func luaLong(text string) int {
	if !strings.HasPrefix(text, "[") {
		return 0
	}
	level := len(text[1:]) - len(strings.TrimLeft(text[1:], "="))
	if !strings.HasPrefix(text[1+level:], "[") {
		return 0
	}
	end := "]" + strings.Repeat("=", level) + "]"
	n := strings.Index(text, end)
	if n < 0 {
		return -1
	}
	return n + len(end)
}
