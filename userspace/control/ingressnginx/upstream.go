package ingressnginx

import (
	"strings"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Spoken is a protocol between proxy and pods.
type Spoken struct {
	Protocol  model.Protocol
	GRPC, TLS bool
}

// backendProtocols are the values of backend-protocol, which ingress-nginx reads in any case.
// AUTO_HTTP is resolved route by route.
var backendProtocols = map[string]Spoken{
	"HTTP":  {},
	"HTTPS": {TLS: true},
	"GRPC":  {Protocol: model.HTTP2, GRPC: true},
	"GRPCS": {Protocol: model.HTTP2, GRPC: true, TLS: true},
}

// Upstream is how an Ingress's pods are to be spoken to.
type Upstream struct {
	Spoken *Spoken // nil: as the Service's appProtocol says
	Auto   bool    // by the scheme of the request
	TLS    model.UpstreamTLS
	// Secret of the Ingress's namespace with the authority's certificates, or the certificate that is
	// shown to pods, or both; "": none. Verified pods for which none can be used have an Authority
	// that no Secret has, so that no connection is made.
	Secret string
}

// upstream reads backend-protocol and proxy-ssl-*. What verification needs and cannot be had makes it
// fail: no connection is made to a pod that should have been verified and could not be.
func (r *reader) upstream() {
	u := &r.out.Upstream
	if _, v, set := r.text("backend-protocol"); set {
		s, known := backendProtocols[strings.ToUpper(v)]
		switch {
		case known:
			u.Spoken = &s
		case strings.EqualFold(v, "AUTO_HTTP"):
			u.Auto = true
		case strings.EqualFold(v, "FCGI"):
			r.find("backend-protocol", Unsupported, "%q is not supported: use HTTP, HTTPS, GRPC, GRPCS or AUTO_HTTP; what the Service's appProtocol says, or HTTP, is used", v)
		default:
			r.invalid("backend-protocol", v, "HTTP, HTTPS, GRPC, GRPCS or AUTO_HTTP", "what the Service's appProtocol says, or HTTP, is used")
		}
	}
	if _, _, set := r.text("proxy-ssl-verify"); set {
		u.TLS.Verify = r.oneOfOr("proxy-ssl-verify", "on", "on", "off") == "on"
	}
	r.number("proxy-ssl-verify-depth", 1, 1, maxDepth)     // checked; chains of any length up to the authority are accepted
	r.oneOfOr("proxy-ssl-server-name", "off", "on", "off") // checked; the name is always sent, as pods that need none ignore it
	if _, v, set := r.text("proxy-ssl-name"); set {
		if name := strings.ToLower(v); !rule.HostName(name) || name[0] == '*' {
			r.invalid("proxy-ssl-name", v, "a DNS name", "the host of the request is used")
		} else {
			u.TLS.ServerName = name
		}
	}
	secret, id, set := r.secretName("proxy-ssl-secret")
	switch {
	case !set && u.TLS.Verify:
		r.ineffective("proxy-ssl-verify", "cannot be done without "+Prefix+"proxy-ssl-secret, which names the Secret with the authority's certificates: no connection is made to pods")
		u.TLS.Authority = r.in.Namespace + "/" // no Secret has this name
		return
	case !set:
		return
	}
	u.Secret = secret
	if u.TLS.Verify {
		u.TLS.Authority = id
	}
	if secret == "" {
		u.TLS.Certificate = id
	}
}
