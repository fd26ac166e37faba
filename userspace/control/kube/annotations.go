package kube

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Vocabularies of Ingress annotations. What the first can say is read as ingress-nginx
// read it; the second is for what it cannot.
const (
	vocabularyNginx = ingressnginx.Prefix
	vocabularyOwn   = "kerngate.dev/"
)

// Annotations of which something is said that only shows when hosts and Secrets are known.
const (
	annotationAuthTLSSecret   = vocabularyNginx + "auth-tls-secret"
	annotationProxySSLSecret  = vocabularyNginx + "proxy-ssl-secret"
	annotationBackendProtocol = vocabularyNginx + "backend-protocol"
	annotationSSLPassthrough  = vocabularyNginx + "ssl-passthrough"
)

// annotations reads our own of one Ingress. A value that cannot be read is reported, with
// the values that can, and the method returns its fallback.
type annotations struct {
	of    *networkingv1.Ingress
	ref   model.ObjectRef
	found *problems
	// unread gets the first key whose value cannot be read, or may not be had.
	unread *string
}

// policy is what an Ingress asks for by annotations: one field a group.
type policy struct {
	client   *clientPolicy // nil: clients are not asked for a certificate
	upstream upstreamPolicy
	rules    ingressnginx.Reading
	unread   string // the first annotation of ours that cannot be read; "": none
}

// policyOf reads an Ingress's annotations, once.
func (t *translation) policyOf(ingress *networkingv1.Ingress) *policy {
	if p := t.policies[ingress]; p != nil {
		return p
	}
	p := new(policy)
	a := annotations{of: ingress, ref: refOf("Ingress", ingress), found: &t.found, unread: &p.unread}
	p.rules = t.rulesOf(ingress)
	p.client = t.clientPolicy(a, p.rules.Client)
	p.upstream = t.upstreamPolicy(a, p.rules.Upstream)
	if c := a.compression(); c != nil {
		if p.rules.Policy == nil {
			p.rules.Policy = new(model.Policy)
		}
		p.rules.Policy.Compression = c
		if p.rules.Policy.Origins == nil {
			p.rules.Policy.Origins = model.Origins{}
		}
		p.rules.Policy.Origins[model.RuleCompression] = []string{annotationCompression}
	}
	tls := &p.upstream.TLS
	tls.MinVersion, tls.MaxVersion, tls.Suites = p.rules.UpstreamMin, p.rules.UpstreamMax, p.rules.UpstreamSuites
	t.policies[ingress] = p
	return p
}

// text returns a value without the space around it, and whether there is one.
func (a annotations) text(key string) (string, bool) {
	v, set := a.of.Annotations[key]
	v = strings.TrimSpace(v)
	return v, set && v != ""
}

// oneOf returns a value that is among allowed, else the fallback.
func (a annotations) oneOf(key, fallback string, allowed ...string) string {
	v, set := a.text(key)
	if !set {
		return fallback
	}
	if !slices.Contains(allowed, v) {
		a.invalid(key, v, strings.Join(allowed, ", "), fallback)
		return fallback
	}
	return v
}

// invalid reports a value and what counts in its place.
func (a annotations) invalid(key, value, allowed, instead string) {
	a.warn("AnnotationInvalid", key, fmt.Sprintf("invalid value %q: use %s; %s is used", rule.Shorten(value), allowed, instead))
}

func (a annotations) warn(reason, key, message string) {
	if (reason == "AnnotationInvalid" || reason == "AnnotationUnsupported" || reason == "SecretRefused") && *a.unread == "" {
		*a.unread = key
	}
	a.found.add(a.ref, model.Warning, reason, fmt.Sprintf("annotation %s: %s", key, message))
}
