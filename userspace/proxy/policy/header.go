package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/template"
)

// header is a rule for a field.
type header struct {
	op    feedpb.HeaderRule_Op
	name  string
	lower string
	value template.Template
	fixed []byte // value, if it is the same for every request
}

// untouchable are the fields that no rule may change: they frame messages, belong to one
// connection, or have a rule of their own (Host).
var untouchable = map[string]bool{
	"connection": true, "keep-alive": true, "proxy-connection": true, "te": true, "trailer": true,
	"transfer-encoding": true, "upgrade": true, "http2-settings": true, "content-length": true, "host": true,
	"expect": true,
}

func compileHeaders(list []*feedpb.HeaderRule) ([]header, error) {
	var out []header
	for _, r := range list {
		h := header{op: r.Op, name: r.Name, lower: strings.ToLower(r.Name)}
		if err := CheckFieldName(r.Name); err != nil {
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

// CheckFieldName says what is wrong with a name that a rule changes.
func CheckFieldName(name string) error {
	const special = "!#$%&'*+-.^_`|~"
	if name == "" || len(name) > 256 {
		return errors.New("a field name has 1 to 256 characters")
	}
	for _, c := range []byte(name) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte(special, c) >= 0) {
			return fmt.Errorf("field name %q contains %q", name, c)
		}
	}
	if untouchable[strings.ToLower(strings.ReplaceAll(name, "_", "-"))] {
		return fmt.Errorf("field %s is the proxy's own affair", name)
	}
	return nil
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
