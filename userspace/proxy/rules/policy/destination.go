package policy

import (
	"errors"
	"fmt"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// Destination is where requests of the proxy's own go.
type Destination struct {
	Service   state.ServiceID // 0: Authority is looked up, or Own
	TLS       bool
	Authority string
	Own       bool // the service that the proxy routes the request's host and Path to
	path      template.Template
}

func compileDestination(d *feedpb.Destination) (out Destination, err error) {
	if d == nil {
		return out, errors.New("no destination")
	}
	out = Destination{Service: state.ServiceID(d.Service), TLS: d.Tls, Authority: d.Authority, Own: d.Authority == "$host"}
	if !out.Own {
		if _, _, err := rule.Authority(d.Authority); err != nil {
			return out, err
		}
	}
	if out.path, err = template.Parse(d.Path); err == nil && len(out.path) == 0 {
		err = errors.New("it has no path")
	}
	return out, err
}

// Target appends path and query of the request to send.
func (d *Destination) Target(dst []byte, q *Request) []byte {
	at := len(dst)
	dst = q.fill(dst, d.path)
	if len(dst) == at || dst[at] != '/' {
		dst = append(dst, 0)
		copy(dst[at+1:], dst[at:])
		dst[at] = '/'
	}
	return dst
}

// Mirror sends a copy of each request elsewhere.
type Mirror struct {
	To   Destination
	Body bool
	host template.Template
}

// Host appends the Host of the copy: nothing, if it is the destination's.
func (m *Mirror) Host(dst []byte, q *Request) []byte { return q.fill(dst, m.host) }

func compileMirrors(list []*feedpb.Mirror) (out []Mirror, err error) {
	for _, m := range list {
		c := Mirror{Body: m.Body}
		if c.To, err = compileDestination(m.To); err != nil {
			return nil, err
		}
		if c.host, err = template.Parse(m.Host); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// ErrorPages has a service answer in place of responses with some statuses.
type ErrorPages struct {
	Service            state.ServiceID
	Namespace, Ingress string
	status             [200]bool // from 400 on
}

// Wants reports whether a response with this status is replaced.
func (e *ErrorPages) Wants(status int) bool {
	return e != nil && status >= 400 && status < 600 && e.status[status-400]
}

func compileErrorPages(e *feedpb.ErrorPages) (*ErrorPages, error) {
	if e == nil || e.Service == 0 {
		return nil, nil
	}
	out := &ErrorPages{Service: state.ServiceID(e.Service), Namespace: e.Namespace, Ingress: e.Ingress}
	for _, status := range e.Status {
		if !rule.ErrorStatus(int(status)) {
			return nil, fmt.Errorf("status %d is none of an error", status)
		}
		out.status[status-400] = true
	}
	return out, nil
}
