package exchange

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/pod/subrequest"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// ask has a rule's service decide about the request. It reports false if the client has
// been answered: whatever is not a clear yes is a no.
func (x *Exchange) ask(e *policy.External) bool {
	q := &x.rules.request
	now := x.At(x.Outcome.Start)
	key := e.CacheKey(q, x.Outcome.Source.String())
	allowed := e.Kept(key, now)
	if allowed == nil {
		r := subrequest.Request{Method: e.Method, Target: string(e.To.Target(nil, q)), Header: e.Head(q, x.RequestID())}
		r.Header.Set(passName, string(x.appendPass(nil)))
		if r.Method == "" {
			r.Method = http.MethodGet
		}
		if !x.address(&e.To, &r) {
			x.refuse(ExternalFailed, "no_endpoint")
			return false
		}
		var answer *subrequest.Answer
		var err error
		if !x.errand(x.bounds().readTimeout(), func(ctx context.Context) { answer, err = subrequest.Do(ctx, r, 0) }) {
			x.finish(ClientAborted)
			return false
		}
		if err != nil {
			x.refuse(ExternalFailed, "no_answer")
			return false
		}
		allowed = e.Read(answer.Status, answer.Header)
		e.Keep(key, allowed, answer.Header, now)
	}
	x.rules.allowed, x.rules.asked = allowed, e
	q.Answer = allowed
	switch {
	case allowed.OK():
		return true
	case allowed.Status == http.StatusUnauthorized:
		x.sendToSignIn(e, allowed)
	case allowed.Status == http.StatusForbidden:
		x.deny(e, allowed)
	default:
		x.refuse(ExternalFailed, "status")
	}
	return false
}

// sendToSignIn answers a client that the service does not know.
func (x *Exchange) sendToSignIn(e *policy.External, a *policy.Allowed) {
	if url := e.SignIn(nil, &x.rules.request); len(url) > 0 {
		x.respond(SignIn.Status(), SignIn, append(cookieFields(a), policy.AnswerField{Name: "Location", Value: string(url)}))
		return
	}
	var fields []policy.AnswerField
	if e.AlwaysSetCookie {
		fields = cookieFields(a)
	}
	x.challenge(ExternalDenied, a.Challenge, fields)
}

// deny answers a client that the service does not let in. Its cookies go along where they
// always do, as with nginx's add_header.
func (x *Exchange) deny(e *policy.External, a *policy.Allowed) {
	if !e.AlwaysSetCookie || len(a.Cookies) == 0 || x.intercepts(http.StatusForbidden) {
		x.refuse(ExternalDenied, "")
		return
	}
	x.respond(http.StatusForbidden, ExternalDenied, cookieFields(a))
}

func cookieFields(a *policy.Allowed) (fields []policy.AnswerField) {
	for _, c := range a.Cookies {
		fields = append(fields, policy.AnswerField{Name: "Set-Cookie", Value: c})
	}
	return fields
}

// tellAllowed gives the pod what the service has said of the client, in place of what the
// client may have said of itself.
func (x *Exchange) tellAllowed(h policy.Head) {
	if x.rules.allowed == nil {
		return
	}
	for _, f := range x.rules.allowed.Fields {
		h.Drop(strings.ToLower(f.Name))
		if f.Value != "" {
			h.Add(f.Name, []byte(f.Value))
		}
	}
}

// addCookies passes on the cookies that came with a yes.
func (x *Exchange) addCookies(r *message.Response) {
	a := x.rules.allowed
	if a == nil || len(a.Cookies) == 0 || !x.rules.asked.AlwaysSetCookie && !succeeds(r.Status) {
		return
	}
	for _, c := range a.Cookies {
		r.Add("Set-Cookie", []byte(c))
	}
}

// succeeds reports whether nginx's add_header would act on a response with this status.
func succeeds(status int) bool {
	switch status {
	case 200, 201, 204, 206, 301, 302, 303, 304, 307, 308:
		return true
	}
	return false
}

// subrequestTime is the timeout of requests whose response is not waited for, such as mirrors.
const subrequestTime = 10 * time.Second
