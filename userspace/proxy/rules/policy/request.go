package policy

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// Request is what rules look at.
type Request struct {
	*message.Request
	// As the client sent them; those of the message.Request may be replaced for the pod.
	Path, Query, Authority []byte

	Normal []byte // path as routing sees it
	Client netip.Addr
	Secure bool
	Port   uint16 // that the client asked for
	Now    int64  // wall-clock time in nanoseconds, for rates

	Proxies uint32 // that share limits, this one among them; 0: the same as 1

	Exchange      Exchange // nil: its values are empty
	Authenticated bool     // the password of the Authorization header was verified
	Answer        *Allowed // of the external auth service; nil: it was not asked

	// Args is the query that $args stands for: the client's, unless a step has replaced it.
	Args []byte

	// What steps have come to.
	variables  []assigned
	room       []byte // of values
	groups     []int  // offsets in subject of what the last expression has matched
	subject    []byte
	hostGroups bool // subject is the host that was asked for
	pathGroups bool // subject is the path
	level      uint8
	cost       int     // of searches by steps
	changes    int     // of the path
	changed    bool    // path or query were replaced
	fixed      bool    // the route's own rewrite is left out
	answer     *Answer // that ends them
}

// Exchange knows values of a request that the request itself does not hold.
type Exchange interface {
	// RequestID is the X-Request-ID that the pod gets, OwnID one that the client has no
	// influence on.
	RequestID() []byte
	OwnID() []byte
	// AppendForwardedFor appends the X-Forwarded-For that the pod gets.
	AppendForwardedFor(dst []byte) []byte
	// ClientCertificate is the certificate that the client has shown, as escaped PEM.
	ClientCertificate() []byte
}

// Of makes q the request of a head whose path is normal to routing.
func (q *Request) Of(r *message.Request, normal []byte) {
	*q = Request{
		Request: r, Path: r.Path, Query: r.Query, Args: r.Query, Authority: r.Authority, Normal: normal,
		variables: q.variables[:0], room: q.room[:0],
	}
}

// Restore puts back into the head what was replaced for the pod.
func (q *Request) Restore() {
	q.Request.Path, q.Request.Query, q.Request.Authority = q.Path, q.Query, q.Authority
}

// fill appends a template with the request's values. Control characters, which only a
// normalised path or an argument can hold, are left out.
func (q *Request) fill(dst []byte, t template.Template) []byte {
	for i := range t {
		p := &t[i]
		switch p.Value {
		case template.Literal:
			dst = append(dst, p.Text...)
		case template.Host:
			dst = append(dst, q.Host...)
		case template.Authority:
			dst = append(dst, q.Authority...)
		case template.Scheme:
			if q.Secure {
				dst = append(dst, "https"...)
			} else {
				dst = append(dst, "http"...)
			}
		case template.Path:
			dst = appendEscaped(dst, q.Normal, &plainPath)
		case template.Target:
			dst = append(dst, q.Path...)
			if q.Query != nil {
				dst = append(dst, '?')
				dst = append(dst, q.Query...)
			}
		case template.Query:
			dst = append(dst, q.Args...)
		case template.QuestionMark:
			if len(q.Args) > 0 {
				dst = append(dst, '?')
			}
		case template.Method:
			dst = append(dst, q.Method...)
		case template.ClientAddress:
			dst = q.Client.AppendTo(dst)
		case template.Port:
			dst = strconv.AppendUint(dst, uint64(q.Port), 10)
		case template.Field:
			dst = append(dst, q.Lookup(p.Text)...)
		case template.Cookie:
			dst = append(dst, q.cookie(p.Text)...)
		case template.Argument:
			dst = append(dst, q.argument(p.Text)...)
		case template.EscapedTarget:
			dst = appendEscaped(dst, q.Path, &unreserved)
			if q.Query != nil {
				dst = append(dst, "%3F"...)
				dst = appendEscaped(dst, q.Query, &unreserved)
			}
		case template.User:
			dst = q.appendUser(dst)
		case template.Variable:
			dst = appendSafe(dst, q.variable(p.Text))
		case template.Group:
			dst = appendSafe(dst, q.group(p.Text[0]))
		case template.AnswerStatus:
			if q.Answer != nil {
				dst = strconv.AppendUint(dst, uint64(q.Answer.Status), 10)
			}
		case template.AnswerField, template.AnswerCookie:
			dst = append(dst, q.Answer.captured(*p)...)
		default:
			dst = q.fillExchange(dst, p.Value)
		}
	}
	return dst
}

// fillExchange appends a value that only the exchange knows.
func (q *Request) fillExchange(dst []byte, v template.Value) []byte {
	if q.Exchange == nil {
		return dst
	}
	switch v {
	case template.RequestID:
		return append(dst, q.Exchange.RequestID()...)
	case template.OwnID:
		return append(dst, q.Exchange.OwnID()...)
	case template.ForwardedFor:
		return q.Exchange.AppendForwardedFor(dst)
	case template.ClientCertificate:
		return append(dst, q.Exchange.ClientCertificate()...)
	}
	return dst
}

// appendUser appends the name whose password was verified. A name with a control character
// is left out whole: without the character it would be another's.
func (q *Request) appendUser(dst []byte) []byte {
	if !q.Authenticated {
		return dst
	}
	var room [maxCredentials]byte
	name, _, ok := credentials(room[:0], q.Request)
	if !ok || bytes.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return dst
	}
	return append(dst, name...)
}

// cookie returns the value of the first cookie of that name, nil if there is none.
func (q *Request) cookie(name string) []byte {
	if !q.Present.Has(message.FieldCookie) {
		return nil
	}
	for i := range q.Fields {
		if q.Fields[i].ID != message.FieldCookie {
			continue
		}
		for rest := q.Fields[i].Value; len(rest) > 0; {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, semicolon)
			pair = bytes.Trim(pair, " \t")
			if len(pair) > len(name) && pair[len(name)] == '=' && string(pair[:len(name)]) == name {
				return pair[len(name)+1:]
			}
		}
	}
	return nil
}

// argument returns the value of the first argument of that name in the query, as sent.
func (q *Request) argument(name string) []byte {
	for rest := q.Args; len(rest) > 0; {
		var pair []byte
		pair, rest, _ = bytes.Cut(rest, ampersand)
		if len(pair) > len(name) && pair[len(name)] == '=' && string(pair[:len(name)]) == name {
			return pair[len(name)+1:]
		}
	}
	return nil
}

var semicolon, ampersand = []byte(";"), []byte("&")

// appendEscaped appends what was decoded, with every byte that is not plain as %XX.
func appendEscaped(dst, text []byte, plain *[256]bool) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range text {
		if plain[c] {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}

// plainPath are the characters of a path (RFC 3986 section 3.3), plainQuery those that in
// a query stand for nothing but themselves.
var plainPath, plainQuery = plainSet("/-._~!$&'()*+,;=:@"), plainSet("/-._~!$'()*,:@")

func plainSet(special string) (t [256]bool) {
	for c := range t {
		t[c] = '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || bytes.IndexByte([]byte(special), byte(c)) >= 0
	}
	return t
}
