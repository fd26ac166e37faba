package ingressnginx

// HTTPS is what an Ingress asks for clear-text requests.
type HTTPS struct {
	// WithTLS: where the Ingress has TLS for the host, they are sent to https. nil: nothing is said.
	WithTLS *bool
	Always  bool // they are sent to https
}

// https reads ssl-redirect and force-ssl-redirect. A value that cannot be read leaves the default,
// which is the safer one for ssl-redirect; nobody has the right to expect what a misspelt
// force-ssl-redirect says.
func (r *reader) https() {
	if _, _, set := r.text("ssl-redirect"); set {
		r.out.HTTPS.WithTLS = new(r.boolean("ssl-redirect", true))
	}
	r.out.HTTPS.Always = r.boolean("force-ssl-redirect", false)
	r.out.Passthrough = r.boolean("ssl-passthrough", false)
}
