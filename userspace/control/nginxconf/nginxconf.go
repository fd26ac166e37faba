// Package nginxconf reads the syntax of nginx's configuration. In: a text, as it stands in
// an annotation. Out: its directives as a tree, each with the line where it begins. Nothing
// is executed, and nothing is known here of what a directive means.
//
// The rules are those of ngx_conf_read_token: words are separated by space, a word may
// stand in quotes, a backslash escapes, and a # at the beginning of a word starts a comment.
// A block of Lua (NAME_by_lua_block) is kept as text, as the Lua module of nginx does.
package nginxconf

import (
	"errors"
	"fmt"
	"strings"
)

// MaxLength is the length in bytes of the longest text, MaxDirectives the number of its
// directives, and maxDepth that of blocks within each other.
const (
	MaxLength     = 64 << 10
	MaxDirectives = 256
	maxDepth      = 8
)

// Directive is a statement.
type Directive struct {
	Name  string
	Args  []string
	Line  int // from 1
	Block []Directive
	// HasBlock is set if the directive has a block, which may be empty.
	HasBlock bool
	// Lua is the text of a block of Lua.
	Lua string
}

// String returns the directive without its block.
func (d Directive) String() string { return strings.Join(append([]string{d.Name}, d.Args...), " ") }

// IsLua reports whether the directive runs Lua.
func (d Directive) IsLua() bool { return strings.Contains(d.Name, "_by_lua") }

// Error is what is wrong with a text.
type Error struct {
	Line int
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Parse reads a text. An error is an *Error.
func Parse(text string) ([]Directive, error) {
	if len(text) > MaxLength {
		return nil, &Error{1, fmt.Errorf("%d bytes are more than %d", len(text), MaxLength)}
	}
	p := &parser{text: text, line: 1}
	list, err := p.block(0)
	if err != nil {
		return nil, &Error{p.line, err}
	}
	return list, nil
}

type parser struct {
	text  string // what is left
	line  int
	count int
}

var (
	errNoEnd      = errors.New("the last directive has no end: a ; or a } is missing")
	errStrayBrace = errors.New("this } ends no block")
	errNoName     = errors.New("a directive has no name")
)

// block reads directives up to the } that ends their block, or to the end of the text at
// depth 0.
func (p *parser) block(depth int) ([]Directive, error) {
	var list []Directive
	for {
		p.space()
		switch {
		case p.text == "" && depth > 0:
			return nil, errNoEnd
		case p.text == "":
			return list, nil
		case p.text[0] == '}' && depth == 0:
			return nil, errStrayBrace
		case p.text[0] == '}':
			p.skip(1)
			return list, nil
		}
		d, err := p.directive(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
}

func (p *parser) directive(depth int) (d Directive, err error) {
	if p.count++; p.count > MaxDirectives {
		return d, fmt.Errorf("there are more than %d directives", MaxDirectives)
	}
	d.Line = p.line
	for {
		p.space()
		if p.text == "" && depth == 0 && d.Name != "" {
			return d, nil // people leave out the last ;
		}
		if p.text == "" {
			return d, errNoEnd
		}
		switch p.text[0] {
		case ';':
			if d.Name == "" {
				return d, errors.New("a ; stands alone")
			}
			p.skip(1)
			return d, nil
		case '{':
			if d.Name == "" {
				return d, errors.New("a { stands alone")
			}
			if depth == maxDepth {
				return d, fmt.Errorf("blocks are nested more than %d deep", maxDepth)
			}
			p.skip(1)
			d.HasBlock = true
			if strings.HasSuffix(d.Name, "_by_lua_block") {
				d.Lua, err = p.lua()
			} else {
				d.Block, err = p.block(depth + 1)
			}
			return d, err
		case '}':
			return d, errors.New("a ; is missing before this }")
		}
		word, err := p.word()
		switch {
		case err != nil:
			return d, err
		case d.Name != "":
			d.Args = append(d.Args, word)
		case word == "":
			return d, errNoName
		default:
			d.Name = word
		}
	}
}

// skip goes on by n bytes.
func (p *parser) skip(n int) {
	p.line += strings.Count(p.text[:n], "\n")
	p.text = p.text[n:]
}

// space goes on to the next word.
func (p *parser) space() {
	for p.text != "" {
		switch p.text[0] {
		case ' ', '\t', '\r', '\n':
			p.skip(1)
		case '#':
			n := strings.IndexByte(p.text, '\n')
			if n < 0 {
				n = len(p.text)
			}
			p.skip(n)
		default:
			return
		}
	}
}

// word reads a word, of which there is at least one byte.
func (p *parser) word() (string, error) {
	text := p.text
	var b strings.Builder
	quote, n := byte(0), 0
	if text[0] == '"' || text[0] == '\'' {
		quote, n = text[0], 1
	}
	for ; n < len(text); n++ {
		c := text[n]
		switch {
		case c == '\\' && n+1 < len(text):
			n++
			b.WriteString(unescape(text[n]))
			continue
		case quote != 0 && c == quote:
			p.skip(n + 1)
			if p.text != "" && strings.IndexByte(" \t\r\n;{)", p.text[0]) < 0 {
				return "", fmt.Errorf("%q follows a closing quote: a space or a ; is missing", p.text[0])
			}
			return b.String(), nil
		case quote == 0 && c == '$' && n+1 < len(text) && text[n+1] == '{':
			end := strings.IndexByte(text[n:], '}')
			if end < 0 {
				return "", errors.New("a } is missing after ${")
			}
			b.WriteString(text[n : n+end+1])
			n += end
			continue
		case quote == 0 && strings.IndexByte(" \t\r\n;{", c) >= 0:
			p.skip(n)
			return b.String(), nil
		}
		b.WriteByte(c)
	}
	if quote != 0 {
		return "", errors.New("a quote is not closed")
	}
	p.skip(n)
	return b.String(), nil
}

func unescape(c byte) string {
	switch c {
	case 't':
		return "\t"
	case 'r':
		return "\r"
	case 'n':
		return "\n"
	case '"', '\'', '\\':
		return string(rune(c))
	}
	return "\\" + string([]byte{c})
}
