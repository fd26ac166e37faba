package kube

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Vocabularies of Ingress annotations. What the first can say is read as ingress-nginx
// read it; the second is for what it cannot.
const (
	vocabularyNginx = "nginx.ingress.kubernetes.io/"
	vocabularyOwn   = "kerngate.dev/"
)

// annotations reads those of one Ingress. A value that cannot be read is reported, with
// the values that can, and the method returns its fallback: what each group makes of that
// stands in its own file (annotations_*.go).
type annotations struct {
	of    *networkingv1.Ingress
	ref   model.ObjectRef
	found *problems
	// unread gets the first key whose value cannot be read, or may not be had.
	unread *string
}

// policy is what an Ingress asks for by annotations: one field a group.
type policy struct {
	redirect    redirectPolicy
	passthrough bool
	client      *clientPolicy // nil: clients are not asked for a certificate
	upstream    upstreamPolicy
	rules       ingressnginx.Reading
	unread      string // the first annotation that is read here and cannot be; "": none
}

// policyOf reads an Ingress's annotations, once.
func (t *translation) policyOf(ingress *networkingv1.Ingress) *policy {
	if p := t.policies[ingress]; p != nil {
		return p
	}
	p := new(policy)
	a := annotations{of: ingress, ref: refOf("Ingress", ingress), found: &t.found, unread: &p.unread}
	p.redirect = a.redirect()
	p.passthrough = a.boolean(annotationSSLPassthrough, false)
	p.client = t.clientPolicy(a)
	p.upstream = t.upstreamPolicy(a)
	p.rules = t.rulesOf(ingress)
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
	tls := &p.upstream.tls
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

func (a annotations) boolean(key string, fallback bool) bool {
	v, set := a.text(key)
	if !set {
		return fallback
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		a.invalid(key, v, "true or false", strconv.FormatBool(fallback))
		return fallback
	}
	return b
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

func (a annotations) number(key string, fallback, least, most int) int {
	v, set := a.text(key)
	if !set {
		return fallback
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		a.invalid(key, v, fmt.Sprintf("%d to %d", least, most), strconv.Itoa(fallback))
		return fallback
	}
	return n
}

// invalid reports a value and what counts in its place.
func (a annotations) invalid(key, value, allowed, instead string) {
	a.warn("AnnotationInvalid", key, fmt.Sprintf("%q is not allowed: it can be %s; %s is taken to be meant", rule.Shorten(value), allowed, instead))
}

func (a annotations) warn(reason, key, message string) {
	if (reason == "AnnotationInvalid" || reason == "AnnotationUnsupported" || reason == "SecretRefused") && *a.unread == "" {
		*a.unread = key
	}
	a.found.add(a.ref, model.Warning, reason, fmt.Sprintf("annotation %s: %s", key, message))
}

// secret returns the Secret that an annotation names, NAMESPACE/NAME or NAME. Only the
// Ingress's own namespace is looked in: who may write an Ingress must not thereby use
// Secrets that he may not read. id is how the model names it; where that is not allowed
// it is a name that no Secret can have, so that whatever depends on it fails closed.
func (a annotations) secret(key string) (n name, id string, set bool) {
	v, set := a.text(key)
	if !set {
		return name{}, "", false
	}
	namespace, secret, both := strings.Cut(v, "/")
	if !both {
		namespace, secret = a.of.Namespace, v
	}
	switch {
	case namespace != a.of.Namespace:
		a.warn("SecretRefused", key, fmt.Sprintf("Secret %s is of another namespace: only Secrets of namespace %s are used", rule.Shorten(v), a.of.Namespace))
		return name{}, a.of.Namespace + "/" + rule.Shorten(v), true
	case secret == "" || strings.Contains(secret, "/"):
		a.invalid(key, v, "NAME, or "+a.of.Namespace+"/NAME", "a Secret that does not exist")
		return name{}, a.of.Namespace + "//", true
	}
	n = name{namespace, secret}
	return n, n.String(), true
}
