package exchange

import (
	"net/http"
	"strings"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// challenge answers a client that has to say who it is. What it is asked for goes along
// with an error page, too, as in nginx: a browser that is not asked shows no dialog.
func (x *Exchange) challenge(reason Reason, asks []string, fields []policy.AnswerField) {
	if x.intercepts(http.StatusUnauthorized) {
		x.rules.asks = asks
		x.Outcome.Reason, x.Outcome.Status = reason, http.StatusUnauthorized
		if x.page(http.StatusUnauthorized) {
			return
		}
	}
	for _, ask := range asks {
		fields = append(fields, policy.AnswerField{Name: "WWW-Authenticate", Value: ask})
	}
	x.respond(http.StatusUnauthorized, reason, fields)
}

// noteChallenge remembers the WWW-Authenticate headers of a pod's 401 that an error page is about to
// replace.
func (x *Exchange) noteChallenge(r *message.Response) {
	if r.Status != http.StatusUnauthorized {
		return
	}
	for i := range r.Fields {
		if f := &r.Fields[i]; strings.EqualFold(string(f.Name), "WWW-Authenticate") {
			x.rules.asks = append(x.rules.asks, string(f.Value))
		}
	}
}
