package ingressnginx

import (
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// maxDepth bounds the length of chains that clients and pods may show.
const maxDepth = 10

// Client is what clients of an Ingress's hosts are asked for.
type Client struct {
	Auth model.ClientAuth
	// Secret of the Ingress's namespace that has the authority's certificates. "": none can be used,
	// and Auth.Authority is a name that no Secret has, so that every client is refused.
	Secret string
}

var clientModes = map[string]model.ClientMode{
	"on": model.ClientRequired, "optional": model.ClientOptional, "optional_no_ca": model.ClientOptionalNoCA,
}

// client reads auth-tls-*. It fails closed: whatever cannot be read, a client without a valid
// certificate does not get in.
func (r *reader) client() {
	secret, id, set := r.secretName("auth-tls-secret")
	if !set {
		for _, key := range []string{"auth-tls-verify-client", "auth-tls-match-cn"} {
			if _, v, alone := r.text(key); alone && v != "off" {
				r.ineffective(key, "clients are not asked for a certificate, as "+Prefix+"auth-tls-secret does not name a Secret with the authority's certificates")
			}
		}
		return
	}
	mode := r.oneOfOr("auth-tls-verify-client", "on", "on", "off", "optional", "optional_no_ca")
	if mode == "off" {
		return
	}
	c := &Client{Secret: secret, Auth: model.ClientAuth{
		Mode: clientModes[mode], Authority: id,
		Depth:     r.number("auth-tls-verify-depth", 1, 1, maxDepth),
		PassChain: r.boolean("auth-tls-pass-certificate-to-upstream", false),
	}}
	r.out.Client = c
	if _, v, set := r.text("auth-tls-error-page"); set {
		if !rule.AbsoluteURL(v) {
			r.invalid("auth-tls-error-page", v, "a URL that begins with http:// or https://", "such clients get 400")
		} else {
			c.Auth.ErrorPage = v
		}
	}
	if _, v, set := r.text("auth-tls-match-cn"); set {
		if _, err := rule.Subject(v); err != nil {
			r.find("auth-tls-match-cn", Invalid, "%q is not an RE2 expression of up to 1000 bytes (%v); to fail closed, every client is refused", rule.Shorten(v), err)
			c.Auth.Authority, c.Secret = id+"/", "" // no Secret has this name
			return
		}
		c.Auth.Subject = v
	}
}
