package policy

import (
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
}

func compileRedirects(list []*feedpb.Redirect) ([]redirect, error) {
	var out []redirect
	for _, r := range list {
		d, err := compileRedirect(r)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func compileRedirect(r *feedpb.Redirect) (d redirect, err error) {
	d = redirect{path: r.Path, status: int(r.Status)}
	if d.target, d.pattern, err = rule.Redirect(d.status, r.Target, r.Pattern); err != nil {
		return d, err
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

// location appends the target for a request to dst. It reports false if the rule is not
// for the request.
func (r *redirect) location(dst []byte, q *Request) ([]byte, bool) {
	var groups []int
	if r.pattern != nil {
		if groups = r.pattern.FindSubmatchIndex(q.Normal); groups == nil {
			return dst, false
		}
	}
	for i := range r.target {
		if r.target[i].Value != template.Group {
			dst = q.fill(dst, r.target[i:i+1])
			continue
		}
		n := 2 * int(r.target[i].Text[0]-'0')
		if groups[n] < 0 || groups[n] == groups[n+1] {
			continue
		}
		value := q.Normal[groups[n]:groups[n+1]]
		if i < r.host && value[0] != '/' { // "https://new.example$1" of "/x(.*)"
			dst = append(dst, '/')
		}
		dst = appendEscaped(dst, value, &plainPath)
	}
	if r.joint != 0 && len(q.Query) > 0 {
		dst = append(dst, r.joint)
		dst = append(dst, q.Query...)
	}
	return dst, true
}

// Answer is a response of the proxy's own that a rule asks for. It has no body.
type Answer struct {
	Status int
	Fields []AnswerField
}

// AnswerField is a field of an Answer.
type AnswerField struct{ Name, Value string }

// Answer returns what a rule answers the request with, nil if it goes on its way.
func (p *Policy) Answer(q *Request) *Answer {
	for i := range p.redirects {
		r := &p.redirects[i]
		if r.path != "" && string(q.Normal) != r.path {
			continue
		}
		location, fits := r.location(nil, q)
		if !fits {
			continue
		}
		a := &Answer{Status: r.status}
		if len(r.target) > 0 {
			a.Fields = append(a.Fields, AnswerField{"Location", string(location)})
		}
		return a
	}
	if p.cors != nil {
		return p.cors.preflight(q)
	}
	return nil
}
