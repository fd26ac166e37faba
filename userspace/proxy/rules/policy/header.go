package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/message"
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

	success bool     // of successful responses alone, as nginx's add_header
	status  []uint32 // none: all
	types   []string // none: all
	levels  uint64   // 0: all
}

func compileHeaders(list []*feedpb.HeaderRule) ([]header, error) {
	var out []header
	for _, r := range list {
		h := header{op: r.Op, name: r.Name, lower: strings.ToLower(r.Name), success: r.Success, status: r.Status, types: r.Types, levels: r.Levels}
		if r.Op > feedpb.HeaderRule_CLEAR {
			return nil, fmt.Errorf("this proxy does nothing to a header by number %d", r.Op)
		}
		if err := rule.FieldName(r.Name); err != nil {
			return nil, err
		}
		var err error
		if h.value, err = template.ParseGroups(r.Value, 9); err != nil {
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
	// Clear is Drop for all fields whose names begin so, but for those that are the proxy's own.
	Clear(lower string)
	// Type returns the value of Content-Type.
	Type() []byte
	// Status returns that of a response, 0 of a request.
	Status() int
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
		if !r.applies(q, h) {
			continue
		}
		value := r.fixed
		if value == nil && len(r.value) > 0 {
			at := len(dst)
			dst = q.fill(dst, r.value)
			value = dst[at:len(dst):len(dst)]
		}
		switch r.op {
		case feedpb.HeaderRule_SET, feedpb.HeaderRule_REPLACE:
			h.Drop(r.lower)
		case feedpb.HeaderRule_CLEAR:
			h.Clear(r.lower)
			continue
		}
		if len(value) > 0 {
			h.Add(r.name, value)
		}
	}
	return dst
}

// applies reports whether a rule is for this message.
func (r *header) applies(q *Request, h Head) bool {
	switch r.op {
	case feedpb.HeaderRule_DEFAULT:
		if h.Has(r.lower) {
			return false
		}
	case feedpb.HeaderRule_REPLACE:
		if !h.Has(r.lower) {
			return false
		}
	}
	return q.holdsAt(r.levels) && (!r.success || Succeeds(h.Status())) &&
		(len(r.status) == 0 || slices.Contains(r.status, uint32(h.Status()))) &&
		(len(r.types) == 0 || hasType(h.Type(), r.types))
}

// Succeeds reports whether nginx's add_header, without "always", acts on a response with this
// status.
func Succeeds(status int) bool {
	switch status {
	case 200, 201, 204, 206, 301, 302, 303, 304, 307, 308:
		return true
	}
	return false
}

// hasType reports whether a Content-Type is one of some media types.
func hasType(value []byte, types []string) bool {
	media, _, _ := bytes.Cut(value, semicolon)
	media = bytes.TrimSpace(media)
	for _, t := range types {
		if t == "*" || len(t) == len(media) && equalFold(media, t) {
			return true
		}
	}
	return false
}

// responseHead is a pod's response as a Head.
type responseHead struct{ r *message.Response }

func (h responseHead) Has(lower string) bool         { return h.r.Passes(lower) }
func (h responseHead) Drop(lower string)             { h.r.Drop(lower) }
func (h responseHead) Clear(lower string)            { ClearFields(h.r.Fields, lower) }
func (h responseHead) Type() []byte                  { return h.r.Lookup("content-type") }
func (h responseHead) Status() int                   { return h.r.Status }
func (h responseHead) Add(name string, value []byte) { h.r.Add(name, value) }

// ClearFields leaves out the fields whose names begin so, also those that CGI takes for the
// same, but for those that are the proxy's own.
func ClearFields(fields []message.Field, lower string) {
	for i := range fields {
		if f := &fields[i]; BeginsLike(f.Name, lower) && !rule.ProxyOwn(string(f.Name)) {
			f.HopByHop = true
		}
	}
}

// BeginsLike reports whether a header's name begins so, to CGI and its like.
func BeginsLike[T string | []byte](name T, lower string) bool {
	return len(name) >= len(lower) && SameVariable(name[:len(lower)], lower)
}
