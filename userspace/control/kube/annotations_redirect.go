package kube

const (
	annotationSSLRedirect      = vocabularyNginx + "ssl-redirect"
	annotationForceSSLRedirect = vocabularyNginx + "force-ssl-redirect"
	annotationSSLPassthrough   = vocabularyNginx + "ssl-passthrough"
)

// redirectPolicy says whether clear-text requests are sent to https.
type redirectPolicy struct {
	withTLS bool // where the Ingress has TLS for the host
	said    bool // withTLS is what the author wrote, not the default
	always  bool
}

// redirect: a value that cannot be read leaves the default, which is the safer one for
// ssl-redirect; nobody has the right to expect what a misspelt force-ssl-redirect says.
func (a annotations) redirect() redirectPolicy {
	_, said := a.text(annotationSSLRedirect)
	return redirectPolicy{
		said:    said,
		withTLS: a.boolean(annotationSSLRedirect, true),
		always:  a.boolean(annotationForceSSLRedirect, false),
	}
}
