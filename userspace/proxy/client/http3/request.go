package http3

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// compose makes a request head of what quic-go has decoded, under the rules that all heads
// are read by. It returns the reason to refuse it, or nil.
func compose(q *message.Request, r *http.Request, limits message.Limits) *message.Error {
	q.Compose(limits)
	q.AddField(":method", r.Method)
	if r.Method == http.MethodConnect && r.Proto != "HTTP/3.0" {
		q.AddField(":protocol", r.Proto)
	}
	q.AddField(":scheme", "https")
	q.AddField(":authority", r.Host)
	if r.RequestURI != "" {
		q.AddField(":path", r.RequestURI)
	}
	for name, values := range r.Header {
		name = strings.ToLower(name)
		for _, v := range values {
			q.AddField(name, v)
		}
	}
	if r.ContentLength >= 0 && r.Header.Get("Content-Length") == "" && r.Body != http.NoBody {
		q.AddField("content-length", strconv.FormatInt(r.ContentLength, 10))
	}
	err := q.Finish(ended(r))
	if err == nil && q.Protocol != nil {
		err = message.ErrConnectProtocol // WebSockets come by HTTP/2 or HTTP/1.1
	}
	e, _ := err.(*message.Error)
	return e
}

// ended reports whether it is known that no body follows.
func ended(r *http.Request) bool {
	return r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0
}
