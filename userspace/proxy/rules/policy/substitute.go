package policy

import (
	"fmt"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// substitutions are the texts that are replaced in bodies of responses.
type substitutions struct {
	list         []substitution // the first that fits is taken, as in nginx
	once         bool
	types        []string
	keepModified bool
	begins       [256]bool // bytes with which a text begins
}

type substitution struct {
	from string // in lower case
	to   template.Template
}

func compileSubstitutions(m *feedpb.Substitutions) (*substitutions, error) {
	if m == nil || len(m.Replace) == 0 {
		return nil, nil
	}
	if len(m.Replace) > rule.MaxSubstitutions {
		return nil, fmt.Errorf("%d texts are more than %d", len(m.Replace), rule.MaxSubstitutions)
	}
	out := &substitutions{once: m.Once, types: m.Types, keepModified: m.KeepModified}
	if len(out.types) == 0 {
		out.types = []string{"text/html"}
	}
	for _, r := range m.Replace {
		if err := rule.Substitution(r.From, r.To); err != nil {
			return nil, err
		}
		to, err := template.ParseText(r.To, 9)
		if err != nil {
			return nil, err
		}
		from := lower(r.From)
		out.list = append(out.list, substitution{from, to})
		out.begins[from[0]], out.begins[upper(from[0])] = true, true
	}
	return out, nil
}

// lower is strings.ToLower of ASCII alone, which keeps the length.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lowered(c)
	}
	return string(b)
}

func lowered(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

// Substitutes reports whether texts are replaced in the body of a response with this
// Content-Type.
func (p *Policy) Substitutes(contentType []byte) bool {
	return p.substitutions != nil && hasType(contentType, p.substitutions.types)
}

// KeepsModified reports whether Last-Modified stays in a response in which texts are replaced.
func (p *Policy) KeepsModified() bool { return p.substitutions.keepModified }

// Substitution replaces texts in one body, which comes piece by piece. It holds back no more
// than what could be the beginning of a text.
type Substitution struct {
	rules *substitutions
	to    [][]byte
	done  []bool
	held  []byte
	out   []byte
}

// Substitute returns what replaces texts in the body of a response.
func (p *Policy) Substitute(q *Request) *Substitution {
	s := &Substitution{rules: p.substitutions, done: make([]bool, len(p.substitutions.list))}
	for i := range s.rules.list {
		s.to = append(s.to, q.fill(nil, s.rules.list[i].to))
	}
	return s
}

// Next takes a piece of the body, the last one if end is set, and returns what goes on to the
// client. It is valid until Next is called again.
func (s *Substitution) Next(piece []byte, end bool) []byte {
	data := piece
	if len(s.held) > 0 {
		s.held = append(s.held, piece...)
		data = s.held
	}
	s.out = s.out[:0]
	from := 0 // of what was not copied
	i := 0
scan:
	for i < len(data) {
		if !s.rules.begins[data[i]] {
			i++
			continue
		}
		for n := range s.rules.list {
			text := s.rules.list[n].from
			if s.done[n] || !agrees(data[i:], text) {
				continue
			}
			if len(data)-i < len(text) {
				if end {
					continue
				}
				break scan // the rest of it may be to come
			}
			s.out = append(append(s.out, data[from:i]...), s.to[n]...)
			s.done[n] = s.rules.once
			i += len(text)
			from = i
			continue scan
		}
		i++
	}
	s.out = append(s.out, data[from:i]...)
	s.held = append(s.held[:0], data[i:]...)
	return s.out
}

// agrees reports whether data and a text in lower case are the same as far as both go, without
// case.
func agrees(data []byte, text string) bool {
	n := min(len(data), len(text))
	return equalFold(data[:n], text[:n])
}
