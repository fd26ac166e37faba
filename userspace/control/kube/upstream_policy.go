package kube

import (
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
)

const annotationProxyProtocol = vocabularyOwn + "proxy-protocol"

// appProtocols are the values of a Service port's appProtocol that say something here:
// those that Kubernetes defines, and the names that others in use give the same. All else
// is HTTP/1.1, as if nothing were said.
var appProtocols = map[string]ingressnginx.Spoken{
	"kubernetes.io/h2c": {Protocol: model.HTTP2},
	"kubernetes.io/ws":  {},
	"kubernetes.io/wss": {TLS: true},
	"h2c":               {Protocol: model.HTTP2},
	"http2":             {Protocol: model.HTTP2},
	"http":              {},
	"https":             {TLS: true},
	"grpc":              {Protocol: model.HTTP2, GRPC: true},
	"grpcs":             {Protocol: model.HTTP2, GRPC: true, TLS: true},
}

// upstreamPolicy says how an Ingress's pods are spoken to.
type upstreamPolicy struct {
	ingressnginx.Upstream
	proxyHeader uint8

	// Of proxy-ssl-secret; nil: not wanted, or cannot be had.
	authority   *model.Authority
	certificate *model.Certificate
}

// upstreamPolicy finds the certificates that pods are verified by, and those that they are shown.
func (t *translation) upstreamPolicy(a annotations, said ingressnginx.Upstream) upstreamPolicy {
	p := upstreamPolicy{Upstream: said}
	switch a.oneOf(annotationProxyProtocol, "none", "v1", "v2") {
	case "v1":
		p.proxyHeader = 1
	case "v2":
		p.proxyHeader = 2
	}
	if said.Secret == "" {
		return p
	}
	n := name{a.of.Namespace, said.Secret}
	secret, err := t.lookup.secret(n)
	if err != nil {
		what := "; no certificate is shown to pods"
		if p.TLS.Verify {
			what = "; no connection is made to pods, as none can be verified"
		}
		a.warn(reasonOf(err), annotationProxySSLSecret, err.Error()+what)
		return p
	}
	if p.TLS.Verify {
		if authority, err := t.authority(n); err != nil {
			a.warn(reasonOf(err), annotationProxySSLSecret, err.Error()+"; no connection is made to pods, as none can be verified")
		} else {
			p.authority = &authority
		}
	}
	if !hasPair(secret) {
		return p // it is there for ca.crt
	}
	if certificate, err := t.certificate(n); err != nil {
		a.warn(reasonOf(err), annotationProxySSLSecret, err.Error()+"; no certificate is shown to pods")
	} else {
		p.certificate, p.TLS.Certificate = &certificate.Certificate, n.String()
	}
	return p
}

// upstream says how the pods of a route are spoken to, and notes what that takes.
func (t *translation) upstream(p *policy, route *model.Route) model.Upstream {
	s := t.appProtocol(route.Service)
	switch {
	case p.upstream.Spoken != nil:
		s = *p.upstream.Spoken
	case p.upstream.Auto:
		// The request's own scheme. Where clear text is redirected it is always https;
		// else both can come, and clear text is what most pods speak.
		s = ingressnginx.Spoken{TLS: route.RedirectHTTPS}
		if !s.TLS {
			t.found.add(route.Source, model.Warning, "AnnotationDiffers",
				fmt.Sprintf("annotation %s: AUTO_HTTP is HTTP here, for requests over TLS too, as path %q is also served in clear text: write HTTP or HTTPS", annotationBackendProtocol, route.Path))
		}
	}
	u := model.Upstream{Protocol: s.Protocol, GRPC: s.GRPC, ProxyHeader: p.upstream.proxyHeader}
	if !s.TLS {
		return u
	}
	u.TLS = &p.upstream.TLS
	if c := p.upstream.certificate; c != nil {
		t.certificates[c.ID] = *c
	}
	if a := p.upstream.authority; a != nil {
		t.authorities[a.ID] = *a
	}
	return u
}

func (t *translation) appProtocol(key model.ServiceKey) ingressnginx.Spoken {
	service := t.lookup.service(name{key.Namespace, key.Name})
	if service == nil {
		return ingressnginx.Spoken{}
	}
	for _, port := range service.Spec.Ports {
		if port.AppProtocol != nil && portKey(port) == key.Port {
			return appProtocols[strings.ToLower(*port.AppProtocol)]
		}
	}
	return ingressnginx.Spoken{}
}
