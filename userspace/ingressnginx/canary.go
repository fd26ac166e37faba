package ingressnginx

import (
	"regexp"

	"github.com/kerngate/kerngate/userspace/model"
)

// canary reads whether the Ingress takes a part of others' requests.
func (r *reader) canary() {
	on := r.boolean("canary", false)
	total := r.number("canary-weight-total", 100, 1, 1<<30)
	c := &model.Canary{Total: uint32(total), Weight: uint32(r.number("canary-weight", 0, 0, total))}
	for key, field := range map[string]*string{"canary-by-header": &c.Header, "canary-by-cookie": &c.Cookie} {
		if _, v, set := r.text(key); set && !token(v) {
			r.invalid(key, v, "a name without spaces and separators", "it decides about no request")
		} else {
			*field = v
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
		if _, err := regexp.Compile(pattern); err != nil || len(pattern) > 1000 {
			r.find("canary-by-header-pattern", Invalid, "%q: %v; the header decides about no request", shorten(pattern), err)
			c.Header = ""
			break
		}
		c.Pattern = pattern
	}
	if on {
		r.out.Canary = c
	}
}
