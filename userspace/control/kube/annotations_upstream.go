package kube

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kerngate/kerngate/userspace/model"
)

const (
	annotationBackendProtocol = vocabularyNginx + "backend-protocol"
	annotationProxySSLSecret  = vocabularyNginx + "proxy-ssl-secret"
	annotationProxySSLVerify  = vocabularyNginx + "proxy-ssl-verify"
	annotationProxySSLDepth   = vocabularyNginx + "proxy-ssl-verify-depth"
	annotationProxySSLName    = vocabularyNginx + "proxy-ssl-name"
	annotationProxySSLSNI     = vocabularyNginx + "proxy-ssl-server-name"
	annotationProxyProtocol   = vocabularyOwn + "proxy-protocol"
)

// spoken is a protocol between proxy and pods.
type spoken struct {
	protocol model.Protocol
	grpc     bool
	tls      bool
}

// backendProtocols are the values of backend-protocol, which ingress-nginx reads in any
// case. AUTO_HTTP is resolved route by route.
var backendProtocols = map[string]spoken{
	"HTTP":  {},
	"HTTPS": {tls: true},
	"GRPC":  {protocol: model.HTTP2, grpc: true},
	"GRPCS": {protocol: model.HTTP2, grpc: true, tls: true},
}

// appProtocols are the values of a Service port's appProtocol that say something here:
// those that Kubernetes defines, and the names that others in use give the same. All else
// is HTTP/1.1, as if nothing were said.
var appProtocols = map[string]spoken{
	"kubernetes.io/h2c": {protocol: model.HTTP2},
	"kubernetes.io/ws":  {},
	"kubernetes.io/wss": {tls: true},
	"h2c":               {protocol: model.HTTP2},
	"http2":             {protocol: model.HTTP2},
	"http":              {},
	"https":             {tls: true},
	"grpc":              {protocol: model.HTTP2, grpc: true},
	"grpcs":             {protocol: model.HTTP2, grpc: true, tls: true},
}

// upstreamPolicy says how an Ingress's pods are spoken to.
type upstreamPolicy struct {
	spoken      *spoken // nil: as the Service's appProtocol says
	auto        bool    // backend-protocol AUTO_HTTP
	tls         model.UpstreamTLS
	proxyHeader uint8

	// Of proxy-ssl-secret; nil: not wanted, or cannot be had.
	authority   *model.Authority
	certificate *model.Certificate
}

func (t *translation) upstreamPolicy(a annotations) upstreamPolicy {
	var p upstreamPolicy
	if v, set := a.text(annotationBackendProtocol); set {
		s, known := backendProtocols[strings.ToUpper(v)]
		switch {
		case known:
			p.spoken = &s
		case strings.EqualFold(v, "AUTO_HTTP"):
			p.auto = true
		case strings.EqualFold(v, "FCGI"):
			a.warn("AnnotationUnsupported", annotationBackendProtocol, fmt.Sprintf("%q is not supported: use HTTP, HTTPS, GRPC, GRPCS or AUTO_HTTP; what the Service's appProtocol says, or HTTP, is used", v))
		default:
			a.invalid(annotationBackendProtocol, v, "HTTP, HTTPS, GRPC, GRPCS, AUTO_HTTP", "what the Service's appProtocol says, or HTTP,")
		}
	}
	switch a.oneOf(annotationProxyProtocol, "none", "v1", "v2") {
	case "v1":
		p.proxyHeader = 1
	case "v2":
		p.proxyHeader = 2
	}
	t.readProxySSL(a, &p)
	return p
}

// readProxySSL reads proxy-ssl-*. What verification needs and cannot be had makes it fail:
// no connection is made to a pod that should have been verified and could not be.
func (t *translation) readProxySSL(a annotations, p *upstreamPolicy) {
	if _, set := a.text(annotationProxySSLVerify); set {
		p.tls.Verify = a.oneOf(annotationProxySSLVerify, "on", "on", "off") == "on"
	}
	a.number(annotationProxySSLDepth, 1, 1, maxDepth)  // checked; chains of any length up to the authority are accepted
	a.oneOf(annotationProxySSLSNI, "off", "on", "off") // checked; the name is always sent, as pods that need none ignore it
	if v, set := a.text(annotationProxySSLName); set {
		if len(validation.IsDNS1123Subdomain(strings.ToLower(v))) > 0 {
			a.invalid(annotationProxySSLName, v, "a DNS name", "the host of the request")
		} else {
			p.tls.ServerName = strings.ToLower(v)
		}
	}
	n, id, set := a.secret(annotationProxySSLSecret)
	switch {
	case !set && p.tls.Verify:
		a.warn("AnnotationIneffective", annotationProxySSLVerify, "cannot be done without "+annotationProxySSLSecret+", which names the Secret with the authority's certificates: no connection is made to pods")
		p.tls.Authority = a.of.Namespace + "/" // no Secret has this name
		return
	case !set:
		return
	}
	if p.tls.Verify {
		p.tls.Authority = id
	}
	if n == (name{}) {
		p.tls.Certificate = id
		return
	}
	secret, err := t.lookup.secret(n)
	if err != nil {
		what := "; no certificate is shown to pods"
		if p.tls.Verify {
			what = "; no connection is made to pods, as none can be verified"
		}
		a.warn(reasonOf(err), annotationProxySSLSecret, err.Error()+what)
		return
	}
	if p.tls.Verify {
		if authority, err := t.authority(n); err != nil {
			a.warn(reasonOf(err), annotationProxySSLSecret, err.Error()+"; no connection is made to pods, as none can be verified")
		} else {
			p.authority = &authority
		}
	}
	if !hasPair(secret) {
		return // it is there for ca.crt
	}
	if certificate, err := t.certificate(n); err != nil {
		a.warn(reasonOf(err), annotationProxySSLSecret, err.Error()+"; no certificate is shown to pods")
	} else {
		p.certificate, p.tls.Certificate = &certificate.Certificate, id
	}
}

// upstream says how the pods of a route are spoken to, and notes what that takes.
func (t *translation) upstream(p *policy, route *model.Route) model.Upstream {
	s := t.appProtocol(route.Service)
	switch {
	case p.upstream.spoken != nil:
		s = *p.upstream.spoken
	case p.upstream.auto:
		// The request's own scheme. Where clear text is redirected it is always https;
		// else both can come, and clear text is what most pods speak.
		s = spoken{tls: route.RedirectHTTPS}
		if !s.tls {
			t.found.add(route.Source, model.Warning, "AnnotationDiffers",
				fmt.Sprintf("annotation %s: AUTO_HTTP is HTTP here, for requests over TLS too, as path %q is also served in clear text: write HTTP or HTTPS", annotationBackendProtocol, route.Path))
		}
	}
	u := model.Upstream{Protocol: s.protocol, GRPC: s.grpc, ProxyHeader: p.upstream.proxyHeader}
	if !s.tls {
		return u
	}
	u.TLS = &p.upstream.tls
	if c := p.upstream.certificate; c != nil {
		t.certificates[c.ID] = *c
	}
	if a := p.upstream.authority; a != nil {
		t.authorities[a.ID] = *a
	}
	return u
}

func (t *translation) appProtocol(key model.ServiceKey) spoken {
	service := t.lookup.service(name{key.Namespace, key.Name})
	if service == nil {
		return spoken{}
	}
	for _, port := range service.Spec.Ports {
		if port.AppProtocol != nil && portKey(port) == key.Port {
			return appProtocols[strings.ToLower(*port.AppProtocol)]
		}
	}
	return spoken{}
}
