package kube

import (
	"fmt"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

const (
	annotationAuthTLSSecret    = vocabularyNginx + "auth-tls-secret"
	annotationAuthTLSVerify    = vocabularyNginx + "auth-tls-verify-client"
	annotationAuthTLSDepth     = vocabularyNginx + "auth-tls-verify-depth"
	annotationAuthTLSErrorPage = vocabularyNginx + "auth-tls-error-page"
	annotationAuthTLSPass      = vocabularyNginx + "auth-tls-pass-certificate-to-upstream"
	annotationAuthTLSMatchCN   = vocabularyNginx + "auth-tls-match-cn"
)

// maxDepth bounds the length of chains that clients and pods may show.
const maxDepth = 10

// clientPolicy is what clients of an Ingress's hosts are asked for.
type clientPolicy struct {
	auth      model.ClientAuth
	authority *model.Authority // nil: cannot be had, so every client is refused
}

// clientPolicy reads auth-tls-*. It fails closed: whatever cannot be read or had, a client
// without a valid certificate does not get in.
func (t *translation) clientPolicy(a annotations) *clientPolicy {
	n, id, set := a.secret(annotationAuthTLSSecret)
	if !set {
		for _, key := range []string{annotationAuthTLSVerify, annotationAuthTLSMatchCN} {
			v, alone := a.text(key)
			if alone && v != "off" {
				a.warn("AnnotationIneffective", key, "clients are not asked for a certificate, as "+annotationAuthTLSSecret+" does not name a Secret with the authority's certificates")
			}
		}
		return nil
	}
	mode := a.oneOf(annotationAuthTLSVerify, "on", "on", "off", "optional", "optional_no_ca")
	if mode == "off" {
		return nil
	}
	p := &clientPolicy{auth: model.ClientAuth{
		Mode: map[string]model.ClientMode{
			"on": model.ClientRequired, "optional": model.ClientOptional, "optional_no_ca": model.ClientOptionalNoCA,
		}[mode],
		Authority: id,
		Depth:     a.number(annotationAuthTLSDepth, 1, 1, maxDepth),
		PassChain: a.boolean(annotationAuthTLSPass, false),
	}}
	if v, set := a.text(annotationAuthTLSErrorPage); set {
		if !rule.AbsoluteURL(v) {
			a.invalid(annotationAuthTLSErrorPage, v, "a URL that begins with http:// or https://", "none, so that such clients get 400,")
		} else {
			p.auth.ErrorPage = v
		}
	}
	if v, set := a.text(annotationAuthTLSMatchCN); set {
		if _, err := rule.Subject(v); err != nil {
			a.warn("AnnotationInvalid", annotationAuthTLSMatchCN, fmt.Sprintf("%q is no expression of RE2 of up to 1000 bytes (%v); so that nobody whom it keeps out gets in, every client is refused", rule.Shorten(v), err))
			p.auth.Authority = id + "/" // no Secret has this name
			return p
		}
		p.auth.Subject = v
	}
	if n == (name{}) {
		return p
	}
	authority, err := t.authority(n)
	if err != nil {
		a.warn(reasonOf(err), annotationAuthTLSSecret, err.Error()+"; every client is refused until it is mended")
		return p
	}
	p.authority = &authority
	return p
}
