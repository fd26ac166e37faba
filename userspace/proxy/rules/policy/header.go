package policy

import (
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// header is a rule for a field.
type header struct {
	op    feedpb.HeaderRule_Op
	name  string
	lower string
	value template.Template
	fixed []byte // value, if it is the same for every request
}

func compileHeaders(list []*feedpb.HeaderRule) ([]header, error) {
	var out []header
	for _, r := range list {
		h := header{op: r.Op, name: r.Name, lower: strings.ToLower(r.Name)}
		if err := rule.FieldName(r.Name); err != nil {
			return nil, err
		}
		var err error
		if h.value, err = template.Parse(r.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		if text, constant := h.value.Constant(); constant {
			h.fixed = []byte(strings.Trim(text, " "))
		}
		out = append(out, h)
	}
	return out, nil
}

// Head is a message whose fields are changed.
type Head interface {
	// Has reports whether the message will have a field, named in lower case.
	Has(lower string) bool
	// Drop leaves out all fields of a name in lower case. Of a request it also drops those
	// whose names CGI takes for the same ("_" in place of "-"), so that what a rule sets is
	// never the client's own value.
	Drop(lower string)
	// Add adds a field. Both stay as they are until the message is sent.
	Add(name string, value []byte)
}

// EditRequest applies the header rules to what the pod gets. Values are appended to dst. A
// password that was for the proxy is no affair of pods.
func (p *Policy) EditRequest(dst []byte, q *Request, h Head) []byte {
	if p.access != nil && p.access.basic != nil {
		h.Drop("authorization")
	}
	return edit(dst, p.request, q, h)
}

func edit(dst []byte, rules []header, q *Request, h Head) []byte {
	for i := range rules {
		r := &rules[i]
		if r.op == feedpb.HeaderRule_DEFAULT && h.Has(r.lower) {
			continue
		}
		value := r.fixed
		if value == nil && len(r.value) > 0 {
			at := len(dst)
			dst = q.fill(dst, r.value)
			value = dst[at:len(dst):len(dst)]
		}
		if r.op == feedpb.HeaderRule_SET {
			h.Drop(r.lower)
		}
		if len(value) > 0 {
			h.Add(r.name, value)
		}
	}
	return dst
}

// responseHead is a pod's response as a Head.
type responseHead struct{ r *http1.Response }

func (h responseHead) Has(lower string) bool         { return h.r.Passes(lower) }
func (h responseHead) Drop(lower string)             { h.r.Drop(lower) }
func (h responseHead) Add(name string, value []byte) { h.r.Add(name, value) }
