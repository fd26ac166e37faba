package policy

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// cors is the CORS rule of a route (Fetch standard, section 3.2).
type cors struct {
	any         bool     // every origin
	exact       []string // lower case
	wild        []wildOrigin
	credentials bool

	methods, headers, expose, maxAge []byte
}

// wildOrigin is "https://*.example.com": one label more, as with hosts.
type wildOrigin struct{ scheme, suffix string }

func compileCORS(c *feedpb.CORS) (*cors, error) {
	if c == nil {
		return nil, nil
	}
	out := &cors{
		credentials: c.Credentials,
		methods:     []byte(strings.Join(c.Methods, ", ")),
		headers:     []byte(strings.Join(c.Headers, ", ")),
		expose:      []byte(strings.Join(c.Expose, ", ")),
		maxAge:      strconv.AppendUint(nil, uint64(c.MaxAgeSeconds), 10),
	}
	for _, list := range [][]string{c.Methods, c.Headers, c.Expose} {
		for _, item := range list {
			if !rule.Token(item) {
				return nil, fmt.Errorf("%q is no method and no field name", item)
			}
		}
	}
	for _, o := range c.Origins {
		if o == "*" {
			out.any = true
			continue
		}
		o = strings.ToLower(o)
		scheme, host, err := rule.Origin(o)
		if err != nil {
			return nil, err
		}
		if suffix, wild := strings.CutPrefix(host, "*"); wild {
			out.wild = append(out.wild, wildOrigin{scheme + "://", suffix})
			continue
		}
		out.exact = append(out.exact, o)
	}
	return out, nil
}

// allows reports whether the origin may read responses.
func (c *cors) allows(origin []byte) bool {
	if c.any {
		return true
	}
	for _, o := range c.exact {
		if len(origin) == len(o) && equalFold(origin, o) {
			return true
		}
	}
	for _, w := range c.wild {
		label := len(origin) - len(w.scheme) - len(w.suffix)
		if label > 0 && equalFold(origin[:len(w.scheme)], w.scheme) && equalFold(origin[len(origin)-len(w.suffix):], w.suffix) &&
			bytes.IndexByte(origin[len(w.scheme):len(w.scheme)+label], '.') < 0 {
			return true
		}
	}
	return false
}

// equalFold compares texts of the same length; case of ASCII letters does not matter.
func equalFold(a []byte, lower string) bool {
	for i := range a {
		if lowered(a[i]) != lower[i] {
			return false
		}
	}
	return true
}

// preflight answers OPTIONS of an origin that may read responses, as ingress-nginx does,
// without asking a pod. Those of others are the pod's affair.
func (c *cors) preflight(q *Request) *Answer {
	if q.MethodID != message.MethodOptions {
		return nil
	}
	allowed, ok := c.allowed(q.Value(message.FieldOrigin))
	if !ok {
		return nil
	}
	a := &Answer{Status: 204, Fields: []AnswerField{{"Access-Control-Allow-Origin", string(allowed)}}}
	if c.credentials {
		a.Fields = append(a.Fields, AnswerField{"Access-Control-Allow-Credentials", "true"})
	}
	a.Fields = append(a.Fields,
		AnswerField{"Access-Control-Allow-Methods", string(c.methods)},
		AnswerField{"Access-Control-Allow-Headers", string(c.headers)},
		AnswerField{"Access-Control-Max-Age", string(c.maxAge)})
	if !c.any {
		a.Fields = append(a.Fields, AnswerField{"Vary", "Origin"})
	}
	return a
}

var star = []byte("*")

// allowed returns the value of Access-Control-Allow-Origin.
func (c *cors) allowed(origin []byte) ([]byte, bool) {
	switch {
	case c.any:
		return star, true
	case len(origin) > 0 && c.allows(origin):
		return origin, true
	}
	return nil, false
}

var valueTrue, valueOrigin = []byte("true"), []byte("Origin")

// edit marks a response for an origin that may read it, in place of what the pod says.
func (c *cors) edit(q *Request, r *message.Response) { c.editHead(q, responseHead{r}) }

func (c *cors) editHead(q *Request, r Head) {
	if !c.any {
		r.Add("Vary", valueOrigin)
	}
	allowed, ok := c.allowed(q.Value(message.FieldOrigin))
	if !ok {
		return
	}
	for _, name := range []string{"access-control-allow-origin", "access-control-allow-credentials",
		"access-control-allow-methods", "access-control-allow-headers", "access-control-max-age"} {
		r.Drop(name)
	}
	r.Add("Access-Control-Allow-Origin", allowed)
	if c.credentials {
		r.Add("Access-Control-Allow-Credentials", valueTrue)
	}
	r.Add("Access-Control-Allow-Methods", c.methods)
	r.Add("Access-Control-Allow-Headers", c.headers)
	r.Add("Access-Control-Max-Age", c.maxAge)
	if len(c.expose) > 0 {
		r.Drop("access-control-expose-headers")
		r.Add("Access-Control-Expose-Headers", c.expose)
	}
}
