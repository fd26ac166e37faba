package exchange

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/pod/subrequest"
)

// maxPage bounds the body of an error page, in bytes.
const maxPage = 1 << 20

// intercepts reports whether another service is to answer in place of a response with this
// status. It is asked once for each request.
func (x *Exchange) intercepts(status int) bool {
	p := x.rules.policy
	return p != nil && !x.rules.paged && p.ErrorPages.Wants(status) && !x.tunnel.on && !x.speaksGRPC()
}

// page has the service for error pages answer. It reports false if that cannot be had: then
// the error is told as it is.
func (x *Exchange) page(status int) bool {
	if x.rules.paged {
		return false
	}
	x.rules.paged = true
	e := x.rules.policy.ErrorPages
	pod, ok := x.worker.podOf(e.Service)
	if !ok {
		return false
	}
	r := subrequest.Request{
		Address: pod.String(), Authority: string(x.Request.Host), Method: http.MethodGet, Target: "/",
		Header: clientFields(x.Request), By: x.Outcome.Source.Namespace,
	}
	r.Header.Set(passName, string(x.appendPass(nil)))
	q := &x.rules.request
	original := string(q.Path)
	if q.Query != nil {
		r.Target += "?" + string(q.Query)
		original += "?" + string(q.Query)
	}
	for name, value := range map[string]string{
		"X-Code": strconv.Itoa(status), "X-Original-Uri": original,
		"X-Namespace": e.Namespace, "X-Ingress-Name": e.Ingress, "X-Request-Id": string(x.RequestID()),
	} {
		r.Header.Set(name, value)
	}
	r.Header.Del("X-Format")
	if accept := r.Header.Get("Accept"); accept != "" {
		r.Header.Set("X-Format", accept)
	}
	r.Header.Del("Authorization") // of the client, for the pod or the proxy
	r.Header.Del("X-Service-Name")
	r.Header.Del("X-Service-Port")
	if s := x.Outcome.Service; s != nil {
		_, name, _ := strings.Cut(s.Name, "/")
		name, port, _ := strings.Cut(name, ":")
		r.Header.Set("X-Service-Name", name)
		r.Header.Set("X-Service-Port", port)
	}
	if x.Request.MethodID == message.MethodHead {
		r.Method = http.MethodHead
	}
	var answer *subrequest.Answer
	var err error
	if !x.errand(subrequestTime, func(ctx context.Context) { answer, err = subrequest.Do(ctx, r, maxPage) }) {
		x.down.Abort()
		x.Outcome.Reason = ClientAborted
		return true
	}
	return err == nil && x.sendPage(answer)
}

// sendPage sends an answer to the client, as a pod's response is.
func (x *Exchange) sendPage(a *subrequest.Answer) bool {
	if a.Status < 200 {
		return false
	}
	r := &x.reply.head
	r.Compose(message.DefaultLimits)
	err := r.AddField(":status", strconv.Itoa(a.Status))
	for _, ask := range x.rules.asks {
		if err == nil {
			err = r.AddField("www-authenticate", ask)
		}
	}
	for name, values := range a.Header {
		switch name {
		case "Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Content-Length", "Trailer", "Te", "Proxy-Connection":
			continue // of that connection alone
		}
		for _, v := range values {
			if err == nil {
				err = r.AddField(strings.ToLower(name), v)
			}
		}
	}
	bodiless := a.Status == http.StatusNoContent || a.Status == http.StatusNotModified
	if err == nil && !bodiless && x.Request.MethodID != message.MethodHead {
		err = r.AddField("content-length", strconv.Itoa(len(a.Body)))
	}
	if err == nil {
		err = r.Finish(x.Request.MethodID, bodiless || len(a.Body) == 0)
	}
	if err != nil {
		return false
	}
	x.Outcome.Status = a.Status
	x.editResponse(r)
	x.response.begun = true
	x.down.Respond(r)
	if len(a.Body) > 0 && !bodiless && x.Request.MethodID != message.MethodHead {
		x.down.WriteBody(a.Body)
	}
	x.down.End(nil)
	x.flushAll()
	return true
}

// fallback has the route's other service answer, since the first has no ready pod. It
// reports false if there is none.
func (x *Exchange) fallback() bool {
	p := x.rules.policy
	if p == nil || p.Fallback == 0 || x.rules.fellBack || x.choice.tries > 0 {
		return false
	}
	s := x.conf.Service(p.Fallback)
	if s == nil {
		return false
	}
	x.rules.fellBack = true
	x.Outcome.Service, x.transport = s, config.ClearText
	x.forward(s)
	return true
}
