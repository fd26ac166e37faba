package exchange

import (
	"net/http"
	"strconv"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// endsHere treats Max-Forwards of TRACE and OPTIONS (RFC 9110 section 7.6.2), by which a client
// finds out who stands between it and a server. It reports true if the request ends at this
// proxy, which has then answered it: OPTIONS with 200, and TRACE with 405, as an echo of the
// request would show its cookies.
func (x *Exchange) endsHere() bool {
	r := x.Request
	if !r.Present.Has(message.FieldMaxForwards) || r.MethodID != message.MethodTrace && r.MethodID != message.MethodOptions {
		return false
	}
	n, ok := 0, true
	for _, c := range r.Value(message.FieldMaxForwards) {
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
		x.values = strconv.AppendUint(x.values, uint64(n-1), 10)
		x.outgoing.add("Max-Forwards", x.values[at:])
		return false
	case r.MethodID == message.MethodTrace:
		x.respond(http.StatusMethodNotAllowed, RuleAnswered, []policy.AnswerField{{Name: "Allow", Value: "OPTIONS"}})
	default:
		x.respond(http.StatusOK, RuleAnswered, nil)
	}
	return true
}
