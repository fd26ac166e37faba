package ingressnginx

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// headers reads what changes fields of responses.
func (r *reader) headers() {
	if v, ok := r.pair("proxy-cookie-domain"); ok {
		p := r.want()
		p.CookieDomains = append(p.CookieDomains, v)
	}
	if v, ok := r.pair("proxy-cookie-path"); ok {
		p := r.want()
		p.CookiePaths = append(p.CookiePaths, v)
	}
	_, from, set := r.text("proxy-redirect-from")
	_, to, both := r.text("proxy-redirect-to")
	switch {
	case !set && both:
		r.invalid("proxy-redirect-to", to, "it together with proxy-redirect-from", "Location is passed on unchanged")
	case set && (from == "off" || from == "default"):
	case set && !both:
		r.invalid("proxy-redirect-from", from, "it together with proxy-redirect-to", "Location is passed on unchanged")
	case set:
		if v, ok := r.replacement("proxy-redirect-from", from, to); ok {
			p := r.want()
			p.Locations = append(p.Locations, v)
		}
	}
}

// pair reads "FROM TO", or "off".
func (r *reader) pair(key string) (model.Replacement, bool) {
	_, v, set := r.text(key)
	if !set || v == "off" {
		return model.Replacement{}, false
	}
	words := strings.Fields(strings.TrimSuffix(v, ";"))
	if len(words) != 2 {
		r.invalid(key, v, "off, or what is replaced and what by, separated by a space", "cookies are passed on unchanged")
		return model.Replacement{}, false
	}
	return r.replacement(key, words[0], words[1])
}

// replacement reads a text, or an expression after "~" (with case) or "~*" (without).
func (r *reader) replacement(key, from, to string) (v model.Replacement, ok bool) {
	v = model.Replacement{From: from, To: to}
	if expression, pattern := strings.CutPrefix(from, "~"); pattern {
		v.Pattern = true
		flags := ""
		if rest, folded := strings.CutPrefix(expression, "*"); folded || key == "proxy-cookie-domain" {
			expression, flags = rest, "(?i)"
		}
		if _, err := rule.Expression(expression); err != nil { // alone, without what stands around it below
			r.find(key, Invalid, "%q: %v; nothing is replaced", rule.Shorten(from), err)
			return v, false
		}
		// nginx looks for it anywhere, and replaces the whole value.
		v.From = flags + ".*?(?:" + expression + ").*"
	}
	if strings.ContainsFunc(v.From+v.To, func(c rune) bool { return c <= ' ' || c == 0x7f || c == ';' }) {
		r.invalid(key, from+" "+to, "a text without control characters and semicolons", "nothing is replaced")
		return v, false
	}
	if strings.Contains(v.To, "$") && (!v.Pattern || rule.Rewrite(v.To) != nil) {
		r.invalid(key, to, "a text without variables of the request; only groups of the regular expression, $1 to $9, may stand in it", "nothing is replaced")
		return v, false
	}
	if key == "proxy-cookie-domain" && !v.Pattern { // nginx compares the whole domain, with or without a dot before it
		v.From, v.Pattern = `(?i)\.?`+regexp.QuoteMeta(v.From)+"$", true
	}
	if len(v.From)+len(v.To) > maxReplacement {
		r.invalid(key, from, fmt.Sprintf("a text shorter than %d bytes", maxReplacement), "nothing is replaced")
		return v, false
	}
	if _, err := rule.Replacement(v.From, v.To, v.Pattern); err != nil {
		r.find(key, Invalid, "%q: %v; nothing is replaced", rule.Shorten(from), err)
		return v, false
	}
	return v, true
}

// maxReplacement bounds a text with the one that takes its place, in bytes.
const maxReplacement = 1000

// cors reads the CORS rule.
func (r *reader) cors() {
	const (
		methods = "GET, PUT, POST, DELETE, PATCH, OPTIONS"
		headers = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization"
	)
	c := &model.CORS{
		Origins:     r.origins(),
		Methods:     r.tokens("cors-allow-methods", methods),
		Headers:     r.tokens("cors-allow-headers", headers),
		Expose:      r.tokens("cors-expose-headers", ""),
		Credentials: r.boolean("cors-allow-credentials", true),
		MaxAge:      time.Duration(r.number("cors-max-age", 1728000, 0, 1<<31-1)) * time.Second,
	}
	if !r.boolean("enable-cors", false) {
		return
	}
	if len(c.Origins) == 0 {
		r.find("cors-allow-origin", Invalid, "no valid origin is left: CORS stays off")
		return
	}
	r.want().CORS = c
}

func (r *reader) origins() []string {
	_, v, set := r.text("cors-allow-origin")
	if !set {
		return []string{"*"}
	}
	var out []string
	for _, o := range list(v) {
		o = strings.ToLower(o)
		if _, _, err := rule.Origin(o); err != nil && o != "*" {
			r.invalid("cors-allow-origin", o, "*, or origins such as https://www.example.com or https://*.example.com", "this origin is not allowed")
			continue
		}
		out = append(out, o)
	}
	return out
}

func (r *reader) tokens(key, fallback string) []string {
	_, v, set := r.text(key)
	if !set {
		return list(fallback)
	}
	var out []string
	for _, item := range list(v) {
		if !rule.Token(item) {
			r.invalid(key, item, "names, separated by commas", "this entry is ignored")
			continue
		}
		out = append(out, item)
	}
	return out
}
