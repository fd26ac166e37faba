package exchange

import (
	"net/http"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// endsHere treats Max-Forwards of TRACE and OPTIONS (RFC 9110 section 7.6.2), by which a client
// finds out who stands between it and a server. It reports true if the request ends at this
// proxy, which has then answered it: OPTIONS with 200, and TRACE with 405, as an echo of the
// request would show its cookies.
func (x *Exchange) endsHere() bool {
	r := x.Request
	if !r.Present.Has(http1.FieldMaxForwards) || r.MethodID != http1.MethodTrace && r.MethodID != http1.MethodOptions {
		return false
	}
	n, ok := 0, true
	for _, c := range r.Value(http1.FieldMaxForwards) {
		if ok = ok && '0' <= c && c <= '9' && n < 1<<20; ok {
			n = 10*n + int(c-'0')
		}
	}
	switch {
	case !ok: // says nothing that can be counted
		return false
	case n > 0:
		r.Drop("max-forwards")
		at := len(x.values)
		x.values = http1.AppendUint(x.values, uint64(n-1))
		x.outgoing.add("Max-Forwards", x.values[at:])
		return false
	case r.MethodID == http1.MethodTrace:
		x.respond(http.StatusMethodNotAllowed, RuleAnswered, []policy.AnswerField{{Name: "Allow", Value: "OPTIONS"}})
	default:
		x.respond(http.StatusOK, RuleAnswered, nil)
	}
	return true
}
