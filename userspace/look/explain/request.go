package explain

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// Request is what is known of the request beside its URL. The zero value is a GET without
// a body and without further headers.
type Request struct {
	Method string   // "": GET
	Fields []string // "Name: value"
	Body   int64    // bytes; 0: none, as far as is known
	// AuthStatus is what the external auth service answers; 0: not known.
	AuthStatus int
}

// Check says what is wrong with a request.
func (t *Target) Check() error {
	_, err := t.head()
	if r := &t.Request; err == nil && r.AuthStatus != 0 && (r.AuthStatus < 100 || r.AuthStatus > 599) {
		return fmt.Errorf("%d is not a status of HTTP", r.AuthStatus)
	}
	return err
}

// head parses the request as the proxy does. An error is what it answers with 400.
func (t *Target) head() (*policy.Request, error) {
	var b strings.Builder
	method := t.Request.Method
	if method == "" {
		method = "GET"
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, cmp.Or(t.Sent, t.Path), cmp.Or(t.Authority, t.Host))
	for _, f := range t.Request.Fields {
		name, value, ok := strings.Cut(f, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok || name == "":
			return nil, fmt.Errorf("%q is not a header: write NAME: VALUE", f)
		case strings.ContainsAny(f, "\r\n"):
			return nil, fmt.Errorf("%q contains a line end", f)
		case strings.EqualFold(name, "host"):
			return nil, errors.New("the URL says what the header Host is")
		case strings.EqualFold(name, "content-length"), strings.EqualFold(name, "transfer-encoding"):
			return nil, fmt.Errorf("the header %s follows from the size of the body", name)
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	if t.Request.Body > 0 {
		b.WriteString("Content-Length: " + strconv.FormatInt(t.Request.Body, 10) + "\r\n")
	}
	b.WriteString("\r\n")
	limits := message.DefaultLimits
	limits.Head = message.MaxHead
	limits.RequestLine = message.MaxHead
	r := &http1.Request{}
	if _, err := r.Parse([]byte(b.String()), limits); err != nil {
		return nil, fmt.Errorf("a proxy answers this request with 400: %w", err)
	}
	q := &policy.Request{}
	q.Of(&r.Request, []byte(t.Path))
	q.Client, q.Secure, q.Port = t.From, t.Scheme == "https", t.Port
	return q, nil
}
