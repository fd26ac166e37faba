package exchange

import (
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// rules are what a route's policy needs while an exchange lasts.
type rules struct {
	ruling
	request  policy.Request
	admitted policy.Admitted
}

// ruling is what rules have come to.
type ruling struct {
	policy   *policy.Policy  // nil: none
	allowed  *policy.Allowed // by a service that was asked; nil: none was
	asked    *policy.External
	fellBack bool     // the fallback is answering
	paged    bool     // an error page was asked for
	asks     []string // WWW-Authenticate of the error that a page is about
}

// beginRules notes the rules of the request's route. path is normalised.
// again is set where steps have sent the request here.
func (x *Exchange) beginRules(t *config.Target, path []byte, again bool) {
	if again && t.Policy == nil {
		t.Policy = noRules // the path is replaced all the same
	}
	if t.Policy == nil && len(t.Splits) == 0 {
		return
	}
	x.rules.policy = t.Policy
	x.Outcome.unlogged = t.Policy != nil && t.Policy.Unlogged
	q := &x.rules.request
	if again {
		return
	}
	q.Of(x.Request, path)
	q.Client, q.Secure, q.Port = x.Client(), x.Secure(), x.origin.port
	q.Proxies = x.conf.Settings.Proxies
	q.Now = x.At(x.Outcome.Start).UnixNano()
	q.Exchange = x
}

// endRules puts back what was changed of the request, for the log, and what was counted.
func (x *Exchange) endRules() {
	if x.rules.policy == nil {
		return
	}
	x.rules.request.Restore()
	x.rules.admitted.Release()
	x.rules.ruling = ruling{}
	x.response.replacing, x.mirroring = nil, mirroring{}
}

// split chooses between a route's own service and those that take parts of its requests.
func (x *Exchange) split(t *config.Target) {
	if len(t.Splits) == 0 {
		return
	}
	chosen, home := x.home(t)
	for i := 0; !home && chosen == nil && i < len(t.Splits); i++ {
		if t.Splits[i].Wants(&x.rules.request, uint32(x.worker.Rand.Uint64())) {
			chosen = &t.Splits[i]
		}
	}
	if chosen == nil {
		return
	}
	x.Outcome.Source, x.Outcome.Usage = chosen.Source, chosen.Usage
	t.Service = chosen.Service
	if chosen.Upstream != nil {
		t.Upstream = chosen.Upstream
	}
	if chosen.Policy != nil {
		t.Policy, x.rules.policy = chosen.Policy, chosen.Policy
		x.Outcome.unlogged = chosen.Policy.Unlogged
	}
}

// obey carries out the rules that come before a pod. It reports false if one of them has
// answered the request.
func (x *Exchange) obey() bool {
	p, q := x.rules.policy, &x.rules.request
	if a := p.Answer(q); a != nil {
		x.respondText(a.Status, RuleAnswered, a.Fields, a.Body)
		return false
	}
	verdict, check := p.Admit(q, x.worker.Limiter, &x.rules.admitted)
	if verdict == policy.Verify {
		var reason Reason
		if verdict, reason = x.verify(check); reason != Forwarded {
			x.finish(reason)
			return false
		}
		q.Authenticated = verdict == policy.Pass
	}
	if e := p.External(verdict, q); e != nil {
		return x.ask(e)
	}
	switch verdict {
	case policy.Pass:
		return true
	case policy.NeedPassword:
		x.challenge(Unauthorized, []string{p.Challenge()}, nil)
	case policy.TooMany:
		x.refuseWith(p.LimitStatus(), RateLimited, "")
	case policy.TooManyAtOnce:
		x.refuseWith(p.LimitStatus(), ConnectionLimited, "")
	case policy.SourceDenied:
		x.refuse(SourceDenied, "")
	default: // policy.Closed, and whatever else is not known: nobody gets in
		x.refuse(AccessClosed, "")
	}
	return false
}

// edit changes the request on its way to a pod, after addFields. It reports false if that
// cannot be done, and has refused then.
func (x *Exchange) edit() bool {
	p, q := x.rules.policy, &x.rules.request
	var path, query []byte
	var outcome policy.Rewritten
	at := len(x.values)
	x.values = p.Host(x.values, q)
	if host := x.values[at:]; len(host) > 0 {
		if !message.IsAuthority(host) {
			x.refuse(BadPath, "host_rule")
			return false
		}
		x.Request.Authority = host
	}
	switch x.values, path, query, outcome = p.Rewrite(x.values, q); outcome {
	case policy.Replaced:
		x.Request.Path, x.Request.Query = path, query
	case policy.Unsafe:
		x.refuse(BadPath, "rewrite")
		return false
	default:
		if q.Changed() {
			x.values, path = q.Replaced(x.values)
			x.Request.Path, x.Request.Query = path, q.Args
		}
	}
	p.DropClaims(q)
	x.values = p.EditRequest(x.values, q, &x.outgoing)
	x.tellAllowed(&x.outgoing)
	return true
}

// editResponse changes a pod's final response.
func (x *Exchange) editResponse(r *message.Response) {
	if p := x.rules.policy; p != nil {
		x.values = p.EditResponse(x.values, &x.rules.request, r)
		x.addCookies(r)
	}
}

// noRules are those of a route that has none.
var noRules = func() *policy.Policy {
	p, err := policy.Compile(&feedpb.Policy{}, "", false)
	if err != nil {
		panic(err) // there is nothing that could be wrong
	}
	return p
}()

// respond sends a response without a body that a rule asks for.
func (x *Exchange) respond(status int, reason Reason, fields []policy.AnswerField) {
	x.respondText(status, reason, fields, nil)
}

// respondText is respond with a body.
func (x *Exchange) respondText(status int, reason Reason, fields []policy.AnswerField, body []byte) {
	if x.speaksGRPC() && status >= 300 {
		x.refuseWith(status, reason, "")
		return
	}
	r := &x.reply.head
	r.Compose(message.DefaultLimits)
	var room [3]byte
	err := r.AddField(":status", string(appendStatus(room[:0], status)))
	for _, f := range fields {
		if err == nil {
			err = r.AddField(strings.ToLower(f.Name), f.Value)
		}
	}
	bodiless := status == 204 || status == 304
	if bodiless {
		body = nil
	}
	if err == nil && !bodiless {
		err = r.AddField("content-length", strconv.Itoa(len(body)))
	}
	if err == nil {
		err = r.Finish(x.Request.MethodID, len(body) == 0)
	}
	if err != nil { // a value of the request that must not stand in a field
		x.refuse(BadPath, "rule")
		return
	}
	x.Outcome.Reason, x.Outcome.Status = reason, status
	x.values = x.rules.policy.EditAnswer(x.values, &x.rules.request, r)
	x.down.Respond(r)
	if len(body) > 0 && x.Request.MethodID != message.MethodHead {
		x.down.WriteBody(body)
	}
	x.down.End(nil)
	x.flushAll()
}

func appendStatus(dst []byte, status int) []byte { return strconv.AppendUint(dst, uint64(status), 10) }
