package ingressnginx

import (
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// traffic reads which pod a request goes to, and when another is asked.
func (r *reader) traffic() {
	b := model.Balance{Algorithm: model.ServiceAlgorithm}
	if _, v, set := r.text("load-balance"); set {
		switch v {
		case "round_robin":
			b.Algorithm = model.RoundRobin
		case "ewma":
			b.Algorithm = model.EWMA
		default:
			r.invalid("load-balance", v, "round_robin or ewma", "the Service's own algorithm is used")
		}
	}
	subset, size := r.boolean("upstream-hash-by-subset", false), r.number("upstream-hash-by-subset-size", 3, 1, 1000)
	if v, ok := r.template("upstream-hash-by", "requests are balanced by load"); ok {
		b.HashBy = v
		if subset {
			b.Subset = uint32(size)
		}
	}
	b.Affinity = r.affinity()
	if b != (model.Balance{Algorithm: model.ServiceAlgorithm}) {
		r.want().Balance = &b
	}
	r.retry()
}

func (r *reader) affinity() *model.Affinity {
	_, kind, set := r.text("affinity")
	a := &model.Affinity{
		Cookie:              "INGRESSCOOKIE",
		Persistent:          r.oneOf("affinity-mode", "balanced", "persistent") == "persistent",
		Canary:              r.oneOf("affinity-canary-behavior", "sticky", "legacy") == "sticky",
		ChangeOnFailure:     r.boolean("session-cookie-change-on-failure", false),
		ConditionalSameSite: r.boolean("session-cookie-conditional-samesite-none", false),
		MaxAge:              r.lifetime("session-cookie-max-age"),
		Expires:             r.lifetime("session-cookie-expires"),
		Path:                r.attribute("session-cookie-path", "/"),
		Domain:              r.attribute("session-cookie-domain", ""),
	}
	if _, v, named := r.text("session-cookie-name"); named {
		if rule.Token(v) {
			a.Cookie = v
		} else {
			r.invalid("session-cookie-name", v, "a name without spaces and separators", "INGRESSCOOKIE is used")
		}
	}
	if _, v, set := r.text("session-cookie-samesite"); set {
		var err error
		if a.SameSite, err = rule.SameSite(v); err != nil {
			r.invalid("session-cookie-samesite", v, "Strict, Lax or None", "the cookie has no such attribute")
		}
	}
	if _, _, said := r.text("session-cookie-secure"); said {
		secure := r.boolean("session-cookie-secure", true)
		a.Secure = &secure
	}
	switch {
	case !set:
		return nil
	case kind != "cookie":
		r.invalid("affinity", kind, "cookie", "affinity is off")
		return nil
	}
	return a
}

// oneOf returns a value that is among allowed, else the first of them.
func (r *reader) oneOf(key string, allowed ...string) string {
	_, v, set := r.text(key)
	if !set {
		return allowed[0]
	}
	for _, a := range allowed {
		if v == a {
			return v
		}
	}
	r.invalid(key, v, strings.Join(allowed, " or "), allowed[0]+" is used")
	return allowed[0]
}

// lifetime reads seconds, of which there may be none.
func (r *reader) lifetime(key string) time.Duration {
	return time.Duration(r.number(key, 0, 0, 10*365*24*3600)) * time.Second
}

// attribute reads the value of an attribute of a cookie (RFC 6265 section 4.1.1).
func (r *reader) attribute(key, begins string) string {
	_, v, set := r.text(key)
	if !set {
		return ""
	}
	if !rule.CookieText(v) || strings.Contains(v, `"`) || len(v) > 256 || !strings.HasPrefix(v, begins) {
		r.invalid(key, v, "printable ASCII without spaces, commas and semicolons"+map[string]string{"/": ", beginning with a slash"}[begins], "the attribute keeps its default")
		return ""
	}
	return v
}

var retryWords = map[string]model.RetryOn{
	"error": model.RetryError, "timeout": model.RetryTimeout, "invalid_header": model.RetryInvalidHeader,
	"http_500": model.Retry500, "http_502": model.Retry502, "http_503": model.Retry503, "http_504": model.Retry504,
	"http_403": model.Retry403, "http_404": model.Retry404, "http_429": model.Retry429,
}

// retry reads proxy-next-upstream and its like; what is not set is as ingress-nginx has it.
func (r *reader) retry() {
	_, conditions, set := r.text("proxy-next-upstream")
	_, _, tries := r.text("proxy-next-upstream-tries")
	_, _, within := r.text("proxy-next-upstream-timeout")
	c := r.in.Controller
	nonIdempotent := c != nil && c.nonIdempotent
	if !set && !tries && !within && !nonIdempotent {
		return
	}
	out := &model.Retry{
		On:     model.RetryError | model.RetryTimeout,
		Tries:  uint32(r.number("proxy-next-upstream-tries", 3, 0, 1000)),
		Within: time.Duration(r.number("proxy-next-upstream-timeout", 0, 0, 24*3600)) * time.Second,
	}
	if set {
		out.On = 0
		for _, word := range strings.Fields(conditions) {
			on, known := retryWords[word]
			switch {
			case known:
				out.On |= on
			case word == "non_idempotent":
				out.NonIdempotent = true
			case word == "off":
				out.On = 0
			default:
				r.invalid("proxy-next-upstream", word, "error, timeout, invalid_header, http_500, 502, 503, 504, 403, 404, 429, non_idempotent or off", "this word is ignored")
			}
		}
	}
	out.NonIdempotent = out.NonIdempotent || nonIdempotent
	r.want().Retry = out
}
