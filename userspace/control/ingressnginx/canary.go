package ingressnginx

import (
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// canary reads whether the Ingress takes a part of others' requests.
func (r *reader) canary() {
	on := r.boolean("canary", false)
	total := r.number("canary-weight-total", 100, 1, 1<<30)
	c := &model.Split{Total: uint32(total), Weight: uint32(r.number("canary-weight", 0, 0, total))}
	if _, v, set := r.text("canary-by-header"); set {
		if err := rule.FieldName(v); err != nil {
			verdict := Invalid
			if rule.ProxyOwn(v) {
				verdict = Unsupported
			}
			r.find("canary-by-header", verdict, "%v; it selects no request", err)
		} else {
			c.Header = v
		}
	}
	if _, v, set := r.text("canary-by-cookie"); set {
		if rule.Token(v) {
			c.Cookie = v
		} else {
			r.invalid("canary-by-cookie", v, "a name without spaces and separators", "it selects no request")
		}
	}
	_, value, valued := r.text("canary-by-header-value")
	_, pattern, patterned := r.text("canary-by-header-pattern")
	switch {
	case c.Header == "" && (valued || patterned):
		key := "canary-by-header-value"
		if !valued {
			key = "canary-by-header-pattern"
		}
		r.find(key, Difference, "has no effect without canary-by-header, as in ingress-nginx")
	case valued:
		c.Value = value
	case patterned:
		if _, err := rule.Expression(pattern); err != nil {
			r.find("canary-by-header-pattern", Invalid, "%q: %v; the header selects no request", rule.Shorten(pattern), err)
			c.Header = ""
			break
		}
		c.Pattern = pattern
	}
	// With affinity, ingress-nginx reads this of the canary, not of the Ingress that has it.
	r.out.CanaryLegacy = on && r.oneOf("affinity-canary-behavior", "sticky", "legacy") == "legacy"
	if on {
		r.out.Canary = c
	}
}
