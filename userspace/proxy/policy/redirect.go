package policy

import (
	"fmt"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/template"
)

type redirect struct {
	path   string // "": every path
	status int
	target template.Template
}

func compileRedirects(list []*feedpb.Redirect) ([]redirect, error) {
	var out []redirect
	for _, r := range list {
		t, err := template.Parse(r.Target)
		if err != nil {
			return nil, fmt.Errorf("target %q: %w", r.Target, err)
		}
		if r.Status < 200 || r.Status > 599 {
			return nil, fmt.Errorf("status %d is not one that a request can be answered with", r.Status)
		}
		if len(t) == 0 && (r.Status/100 == 3 && r.Status != 304) {
			return nil, fmt.Errorf("status %d needs a target", r.Status)
		}
		out = append(out, redirect{r.Path, int(r.Status), t})
	}
	return out, nil
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
		a := &Answer{Status: r.status}
		if len(r.target) > 0 {
			a.Fields = append(a.Fields, AnswerField{"Location", string(q.fill(nil, r.target))})
		}
		return a
	}
	if p.cors != nil {
		return p.cors.preflight(q)
	}
	return nil
}
