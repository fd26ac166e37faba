package policy

import (
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

type redirect struct {
	path   string // "": every path
	status int
	target template.Template

	pattern *rule.Regexp // found in the path; nil: every path
	host    int          // parts of target that say which host it is
	joint   byte         // what goes before the request's query, 0: that is left out

	hasBody bool
	body    template.Template
	typ     string
}

func compileRedirects(list []*feedpb.Redirect) ([]redirect, error) {
	var out []redirect
	for _, r := range list {
		d, err := compileRedirect(r, rule.Redirect)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// compileRedirect reads an answer; check says what may stand in its target.
func compileRedirect(r *feedpb.Redirect, check func(int, string, string) (template.Template, *rule.Regexp, error)) (d redirect, err error) {
	d = redirect{path: r.Path, status: int(r.Status)}
	if d.target, d.pattern, err = check(d.status, r.Target, r.Pattern); err != nil {
		return d, err
	}
	if d.body, err = template.ParseText(r.Body, 9); err != nil {
		return d, fmt.Errorf("text: %w", err)
	}
	if d.hasBody = r.Type != ""; d.hasBody {
		if err = rule.MediaType(r.Type); err != nil {
			return d, err
		}
		d.typ = r.Type
	}
	d.host = hostParts(d.target)
	if r.Query {
		d.joint = '?'
		if strings.Contains(r.Target, "?") {
			d.joint = '&'
		}
	}
	return d, nil
}

// TooCostly reports whether to search a path of n bytes for the expressions of redirects would take
// too long: one that is not found could be what keeps somebody out.
func (p *Policy) TooCostly(n int) bool {
	if p == nil {
		return false
	}
	cost := 0
	for i := range p.redirects {
		cost += p.redirects[i].pattern.Cost(n)
	}
	return cost > rule.MaxSearch
}

// hostParts returns how many parts a URL's scheme and host take. What a client chooses by
// its path must not become a part of them.
func hostParts(t template.Template) int {
	slashes := 0
	for i := range t {
		if t[i].Value != template.Literal {
			continue
		}
		text := t[i].Text
		slashes += strings.Count(text, "/")
		if i == 0 && text[0] == '/' || slashes > 2 || strings.Contains(text, "?") {
			return i
		}
	}
	return len(t)
}

// location returns the target for a request, whose path has matched.
func (r *redirect) location(q *Request) (dst []byte) {
	for i := range r.target {
		if r.target[i].Value != template.Group {
			dst = q.fillURL(dst, r.target[i:i+1], &plainPath)
			continue
		}
		value := q.group(r.target[i].Text[0])
		if len(value) == 0 {
			continue
		}
		if i < r.host && value[0] != '/' && !q.hostGroups { // "https://new.example$1" of "/x(.*)"
			dst = append(dst, '/')
		}
		dst = appendEscaped(dst, value, &plainPath)
	}
	if r.joint != 0 && len(q.Args) > 0 {
		dst = append(dst, r.joint)
		dst = append(dst, q.Args...)
	}
	return dst
}

// answer is what the rule answers a request with; nil: it is not for this one.
func (r *redirect) answer(q *Request) *Answer {
	if r.pattern != nil && !q.match(r.pattern, q.Normal, false) {
		return nil
	}
	a := &Answer{Status: r.status}
	if len(r.target) > 0 {
		a.Fields = append(a.Fields, AnswerField{"Location", string(r.location(q))})
	}
	if r.hasBody {
		a.Fields = append(a.Fields, AnswerField{"Content-Type", r.typ})
		a.Body = q.fill(nil, r.body)
	}
	return a
}

// Answer is a response of the proxy's own that a rule asks for.
type Answer struct {
	Status int
	Fields []AnswerField
	Body   []byte
}

// AnswerField is a field of an Answer.
type AnswerField struct{ Name, Value string }

// Answer returns what a rule answers the request with, nil if it goes on its way.
func (p *Policy) Answer(q *Request) *Answer {
	if q.answer != nil {
		return q.answer
	}
	for i := range p.redirects {
		r := &p.redirects[i]
		if r.path != "" && string(q.Normal) != r.path {
			continue
		}
		if a := r.answer(q); a != nil {
			return a
		}
	}
	if p.cors != nil {
		return p.cors.preflight(q)
	}
	return nil
}
