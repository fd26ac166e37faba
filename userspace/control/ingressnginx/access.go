package ingressnginx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/htpasswd"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// access reads who gets in. Whatever cannot be read keeps everybody out.
func (r *reader) access() {
	a := model.Access{}
	used := false
	if key, v, set := r.text("allowlist-source-range", "whitelist-source-range"); set {
		used = true
		var err error
		if a.Allow, err = prefixes(v); err != nil {
			r.close(key, err.Error())
		} else if len(a.Allow) == 0 {
			r.close(key, "it names no source")
		}
		r.setBy(model.RuleAllow, key)
	}
	if key, v, set := r.text("denylist-source-range"); set {
		used = true
		var err error
		if a.Deny, err = prefixes(v); err != nil {
			r.close(key, err.Error())
		}
		r.setBy(model.RuleDeny, key)
	}
	if basic, set := r.basic(); set {
		used, a.Basic = true, basic
	}
	if _, v, set := r.text("satisfy"); set {
		switch v {
		case "any":
			a.Any = true
		case "all":
		default:
			r.invalid("satisfy", v, "all or any", "all is used")
		}
	}
	a.External = r.external()
	if p := &r.policy; p.Access != nil { // close has been called
		used, a.Closed = true, p.Access.Closed
	}
	if !used && a.External == nil {
		return
	}
	r.want()
	r.policy.Access = &a
}

// basic reads auth-type and what belongs to it.
func (r *reader) basic() (*model.BasicAuth, bool) {
	_, kind, set := r.text("auth-type")
	_, secret, named := r.text("auth-secret")
	_, form, formed := r.text("auth-secret-type")
	_, realm, _ := r.text("auth-realm")
	switch {
	case !set && named:
		r.find("auth-secret", Difference, "has no effect without auth-type, as in ingress-nginx: no password is required")
		return nil, false
	case !set:
		return nil, false
	case kind != "basic":
		r.close("auth-type", fmt.Sprintf("%q is not supported, only basic is", rule.Shorten(kind)))
		return nil, true
	case !named:
		r.close("auth-secret", "it is missing: it names the Secret with names and passwords")
		return nil, true
	case formed && form != "auth-file" && form != "auth-map":
		r.close("auth-secret-type", fmt.Sprintf("%q is neither auth-file nor auth-map", rule.Shorten(form)))
		return nil, true
	}
	if !rule.Realm(realm) {
		r.invalid("auth-realm", realm, "printable ASCII without quotes", "the realm has no name")
		realm = ""
	}
	users, err := r.users(secret, form)
	if err != nil {
		r.close("auth-secret", err.Error())
		return nil, true
	}
	return &model.BasicAuth{Realm: realm, Users: users}, true
}

// users returns the entries of a Secret. No error shows a byte of it.
func (r *reader) users(secret, form string) (model.Credentials, error) {
	namespace, name, both := strings.Cut(secret, "/")
	switch {
	case !both:
		name = secret
	case namespace != r.in.Namespace:
		return nil, fmt.Errorf("Secret %s is of another namespace: only those of namespace %s are used", rule.Shorten(secret), r.in.Namespace)
	}
	if r.refs == nil {
		return nil, nil
	}
	data, err := r.refs.Secret(name)
	if err != nil {
		return nil, err
	}
	var file []byte
	if form == "auth-map" {
		names := make([]string, 0, len(data))
		for user := range data {
			names = append(names, user)
		}
		slices.Sort(names)
		for _, user := range names {
			hash := strings.TrimSpace(string(data[user]))
			if !strings.ContainsAny(user+hash, ":\r\n") {
				file = fmt.Appendf(file, "%s:%s\n", user, hash)
			}
		}
	} else if file = data["auth"]; len(file) == 0 {
		return nil, fmt.Errorf("Secret %s has no key \"auth\": it must hold a file as htpasswd writes it", name)
	}
	_, problems, err := htpasswd.Parse(file)
	if err != nil {
		return nil, fmt.Errorf("Secret %s: %w", name, err)
	}
	if len(problems) > 0 {
		r.find("auth-secret", Invalid, "Secret %s: %s; these users cannot sign in", name, strings.Join(problems[:min(len(problems), 5)], "; "))
	}
	return file, nil
}
