package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/route"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// annotationCompat, on an IngressClass, says how Ingresses with annotations of
// ingress-nginx are read: "ingress-nginx", the default, with its surprises; "strict" by
// what the Ingress API says, where the two differ.
const annotationCompat = "kerngate.dev/compat"

// references finds what an Ingress's annotations name.
type references struct {
	*translation
	namespace string
}

func (r references) Secret(secret string) (map[string][]byte, error) {
	n := name{r.namespace, secret}
	s, err := r.lookup.secret(n)
	if err != nil {
		return nil, err
	}
	return s.Data, nil
}

func (r references) Service(namespace, service string, port int) (none model.ServiceKey, err error) {
	s := r.lookup.service(name{namespace, service})
	if s == nil {
		return none, fmt.Errorf("Service %s/%s does not exist", namespace, service)
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return none, fmt.Errorf("Service %s/%s is of type ExternalName: name its host itself", namespace, service)
	}
	wanted := networkingv1.ServiceBackendPort{Number: int32(port)}
	if port == 0 && len(s.Spec.Ports) > 0 {
		wanted.Number = s.Spec.Ports[0].Port
	}
	key, err := resolvePort(s, wanted)
	if err != nil {
		return none, err
	}
	r.keys[key] = struct{}{}
	return key, nil
}

// rulesOf reads the annotations of ingress-nginx that package ingressnginx knows, and
// reports what does not come to what their author may expect.
func (t *translation) rulesOf(ingress *networkingv1.Ingress) ingressnginx.Reading {
	in := ingressnginx.Ingress{Namespace: ingress.Namespace, Name: ingress.Name, Annotations: ingress.Annotations, AllowedFields: t.options.AllowedResponseHeaders, Own: t.options.Addresses, Allowed: t.options.Allowed, Controller: t.controller}
	ref := refOf("Ingress", ingress)
	var reading ingressnginx.Reading
	if t.options.assume {
		reading = t.readAssuming(in, ref)
	} else {
		reading = ingressnginx.Read(in, references{t, ingress.Namespace})
	}
	if p := reading.Policy; p != nil && p.ErrorPages != nil && p.ErrorPages.Service == (model.ServiceKey{}) {
		if p.ErrorPages.Service = t.classDefault(); p.ErrorPages.Service == (model.ServiceKey{}) {
			if p.ErrorPages = nil; ingress.Annotations[ingressnginx.Prefix+"custom-http-errors"] != "" {
				t.found.add(ref, model.Warning, "AnnotationIneffective", "annotation "+ingressnginx.Prefix+"custom-http-errors: no service can answer: name one by default-backend, or by the agent's --default-backend")
			}
		}
	}
	for _, f := range reading.Findings {
		message := f.Text()
		if f.Reason != "" {
			t.found.add(ref, model.Warning, f.Reason, message)
			continue
		}
		switch f.Verdict {
		case ingressnginx.Unknown:
			t.found.add(ref, model.Warning, "AnnotationUnknown", message)
		case ingressnginx.Unsupported:
			t.found.add(ref, model.Warning, "AnnotationUnsupported", message)
		case ingressnginx.Invalid:
			t.found.add(ref, model.Warning, "AnnotationInvalid", message)
		case ingressnginx.Closed:
			t.found.add(ref, model.Refused, "AccessClosed", message)
		}
	}
	return reading
}

// refusedBy says which annotation keeps an Ingress from being served at all, "" for none.
func (t *translation) refusedBy(p *policy) string {
	if !t.options.StrictAnnotations {
		return ""
	}
	i := slices.IndexFunc(p.rules.Findings, func(f ingressnginx.Finding) bool { return f.Verdict.Refused() && f.Setting == "" })
	if i < 0 {
		return p.unread
	}
	return ingressnginx.Prefix + p.rules.Findings[i].Key
}

// readCompat returns whether annotations are read strictly.
func (t *translation) readCompat() (strict bool) {
	for _, class := range t.objects.Classes {
		v, set := class.Annotations[annotationCompat]
		if class.Name != t.options.Class || !set {
			continue
		}
		if strict = v == "strict"; !strict && v != "ingress-nginx" {
			t.found.add(refOf("IngressClass", class), model.Warning, "AnnotationInvalid",
				fmt.Sprintf("annotation %s: %q is neither ingress-nginx nor strict; ingress-nginx is used", annotationCompat, rule.Shorten(v)))
		}
	}
	return strict
}

// readRegexpHosts notes of which hosts all paths are expressions: in ingress-nginx one
// Ingress with use-regex or rewrite-target makes them so for all that share the host. Here
// that is said by Ingresses of the host's owner; of others their own paths are expressions.
func (t *translation) readRegexpHosts(served []*networkingv1.Ingress) {
	t.regexpHosts = map[string]bool{}
	for _, ingress := range served {
		p := t.policyOf(ingress)
		if t.strict || p.rules.Canary != nil {
			continue
		}
		for _, rule := range ingress.Spec.Rules {
			if t.standing(ingress, rule.Host) == owning && (p.rules.Regexp || rewritesAny(p, rule)) {
				t.regexpHosts[rule.Host] = true
			}
		}
	}
}

// rewritesAny reports whether a path of the rule is rewritten to another one. One that
// equals rewrite-target is left alone.
func rewritesAny(p *policy, rule networkingv1.IngressRule) bool {
	if p.rules.Elsewhere != nil {
		return rule.HTTP != nil
	}
	if p.rules.Policy == nil || p.rules.Policy.Rewrite == nil || rule.HTTP == nil {
		return false
	}
	return slices.ContainsFunc(rule.HTTP.Paths, func(path networkingv1.HTTPIngressPath) bool {
		return cmp.Or(path.Path, "/") != p.rules.Policy.Rewrite.Target
	})
}

// rewriteTarget is the path that an Ingress rewrites to, which is left alone and no expression.
func rewriteTarget(p *policy) string {
	if p.rules.Elsewhere != nil || p.rules.Policy == nil || p.rules.Policy.Rewrite == nil {
		return ""
	}
	return p.rules.Policy.Rewrite.Target
}

// pathOf translates a path of a rule: an expression, or what matchOf makes of it.
func (t *translation) pathOf(ingress *networkingv1.Ingress, host string, path networkingv1.HTTPIngressPath) (string, model.PathMatch, error) {
	p := t.policyOf(ingress)
	owns := t.standing(ingress, host) == owning
	loose := path.PathType != nil && *path.PathType == networkingv1.PathTypeImplementationSpecific
	rewrites := p.rules.Elsewhere != nil || p.rules.Policy != nil && p.rules.Policy.Rewrite != nil
	asks := p.rules.Regexp || rewrites && cmp.Or(path.Path, "/") != rewriteTarget(p)
	if !t.regexpHosts[host] && !(t.strict && (p.rules.Regexp || rewrites) && loose) && !(!t.strict && !owns && asks) {
		return matchOf(path.Path, path.PathType)
	}
	text := path.Path
	if text == "" && loose {
		text = "/"
	}
	parsed, err := route.ParsePattern(text)
	if err == nil && !owns {
		err = mayExpress(parsed.Literal())
	}
	if err != nil {
		return "", 0, fmt.Errorf("path %q, which is an expression as the host has an Ingress with use-regex or rewrite-target: %w", rule.Shorten(text), err)
	}
	if most := route.MaxPattern - len(elsewhereBegin+elsewhereEnd); p.rules.Elsewhere != nil && len(text) > most {
		return "", 0, fmt.Errorf("path %q has %d bytes: no more than %d are allowed with a rewrite-target that is a redirect", rule.Shorten(text), len(text), most)
	}
	return text, model.Regexp, nil
}

// addCanaries gives the canaries their part of the routes that others have made.
func (t *translation) addCanaries(served []*networkingv1.Ingress) {
	for _, ingress := range served {
		p := t.policyOf(ingress)
		if p.rules.Canary == nil {
			continue
		}
		ref := refOf("Ingress", ingress)
		for i, rule := range ingress.Spec.Rules {
			if rule.HTTP == nil {
				continue
			}
			for j, path := range rule.HTTP.Paths {
				field := fmt.Sprintf("spec.rules[%d].http.paths[%d]", i, j)
				text, match, err := t.pathOf(ingress, rule.Host, path)
				if err != nil {
					t.found.add(ref, model.Refused, "PathInvalid", fmt.Sprintf("%s: %v", field, err))
					continue
				}
				key := routeKey{text, match}
				main, there := t.hosts[rule.Host][key]
				if !there {
					t.found.add(ref, model.Refused, "CanaryAlone", fmt.Sprintf("%s: no regular (non-canary) Ingress serves %s of host %q; a canary needs one to split traffic from", field, matchText(key), rule.Host))
					continue
				}
				if main.Source.Namespace != ingress.Namespace {
					t.found.add(ref, model.Refused, "CanaryForeign", fmt.Sprintf("%s: %s of host %q is served for another namespace: a canary of namespace %s gets none of its requests", field, matchText(key), rule.Host, ingress.Namespace))
					continue
				}
				c := *p.rules.Canary
				c.Source, c.Service = ref, t.backend(ref, field+".backend", path.Backend, "503")
				main.Splits = append(main.Splits, c)
				if p.rules.CanaryLegacy {
					main.Policy = withoutSticky(main.Policy)
				}
				t.hosts[rule.Host][key] = main
			}
		}
	}
}

// addSlashes redirects "/x" to "/x/" where an Ingress that counts on ingress-nginx has the
// path "/x/", as nginx does by itself. What others publish there goes first.
func (t *translation) addSlashes(served []*networkingv1.Ingress) {
	if t.strict {
		return
	}
	for _, ingress := range served {
		p := t.policyOf(ingress)
		if !p.rules.Used || p.rules.Canary != nil {
			continue
		}
		ref := refOf("Ingress", ingress)
		for _, rule := range ingress.Spec.Rules {
			if rule.HTTP == nil || checkHost(rule.Host) != nil || t.regexpHosts[rule.Host] || t.standing(ingress, rule.Host) == shutOut {
				continue
			}
			for _, path := range rule.HTTP.Paths {
				text, _, err := matchOf(path.Path, path.PathType)
				text = strings.TrimSuffix(text, "/")
				if err != nil || text == "" || !strings.HasSuffix(path.Path, "/") {
					continue
				}
				key := routeKey{text, model.Exact}
				if _, taken := t.claim(rule.Host)[key]; taken {
					continue
				}
				target := "$scheme://$http_host$uri/$is_args$args"
				if p.rules.RelativeRedirects {
					target = "$uri/$is_args$args"
				}
				r := model.Route{Path: text, Match: model.Exact}
				_, clear := t.leftOut(&r, path.Path)
				t.hosts[rule.Host][key] = published{Route: model.Route{Path: text, Match: model.Exact, Source: ref,
					RedirectHTTPS: !clear && t.redirectsHTTPS(ingress, p, rule.Host),
					Policy:        t.slashPolicy(ingress, rule.Host, path, model.Redirect{Status: 301, Target: target, By: "the path of the Ingress, which ends with a slash"})}}
			}
		}
	}
}

// redirectsHTTPS reports whether clear text is redirected to https. The Ingress API defines no
// redirect, so in strict mode it must be requested explicitly.
func (t *translation) redirectsHTTPS(ingress *networkingv1.Ingress, p *policy, host string) bool {
	return redirectsAll(p.rules.HTTPS, t.strict, hasTLS(ingress, p, host))
}

// addHosts adds the hosts that annotations ask for: aliases of the first host of an
// Ingress, and the same names with or without "www." before them. A host that has a rule of
// its own is left as it is.
func (t *translation) addHosts(served []*networkingv1.Ingress) {
	for _, ingress := range served {
		p := t.policyOf(ingress)
		if p.rules.Canary != nil {
			continue
		}
		ref := refOf("Ingress", ingress)
		for i, rule := range ingress.Spec.Rules {
			routes := t.hosts[rule.Host]
			if checkHost(rule.Host) != nil || routes == nil {
				continue
			}
			if t.standing(ingress, rule.Host) != owning {
				// Its names would stand for paths of others, who ask other things of clients.
				if i == 0 && len(p.rules.Aliases) > 0 || p.rules.RedirectWWW {
					t.found.add(ref, model.Warning, "HostOwned", fmt.Sprintf("annotations server-alias and from-to-www-redirect: host %q belongs to another namespace, which has an older Ingress for it: only that namespace can add names to it", rule.Host))
				}
				continue
			}
			if i == 0 {
				for _, alias := range p.rules.Aliases {
					if t.addHost(ref, "server-alias", alias, routes) {
						t.aliases[alias] = rule.Host
					}
				}
			}
			if p.rules.RedirectWWW && rule.Host != "" && !strings.HasPrefix(rule.Host, "*.") {
				other := "www." + rule.Host
				if bare, www := strings.CutPrefix(rule.Host, "www."); www {
					other = bare
				}
				t.addHost(ref, "from-to-www-redirect", other, map[routeKey]published{{"/", model.Prefix}: {Route: model.Route{
					Path: "/", Source: ref,
					Policy: &model.Policy{Redirects: []model.Redirect{{Status: 308, Target: "$scheme://" + rule.Host + "$request_uri", By: ingressnginx.Prefix + "from-to-www-redirect"}}},
				}}})
			}
		}
	}
}

// addHost reports whether the host is now served.
func (t *translation) addHost(ref model.ObjectRef, key, host string, routes map[routeKey]published) bool {
	if err := checkHost(host); err != nil {
		t.found.add(ref, model.Warning, "AnnotationInvalid", fmt.Sprintf("annotation %s: host %q: %v", ingressnginx.Prefix+key, rule.Shorten(host), err))
		return false
	}
	if t.hosts[host] != nil {
		if key == "server-alias" {
			t.found.add(ref, model.Warning, "HostConflict", fmt.Sprintf("annotation %s: host %q is served by another Ingress already, and stays as it is", ingressnginx.Prefix+key, host))
		}
		return false
	}
	copied := t.claim(host)
	for k, r := range routes {
		copied[k] = r
	}
	t.owners[host] = ref
	return true
}

// redirectsAll reports whether clear-text requests for a host are sent to https. Where TLS is to be had
// that is ingress-nginx's default; in a strict class it must be said.
func redirectsAll(said ingressnginx.HTTPS, strict, tls bool) bool {
	withTLS := !strict
	if said.WithTLS != nil {
		withTLS = *said.WithTLS
	}
	return said.Always || withTLS && tls
}

// withoutSticky returns a policy whose affinity does not keep clients from canaries.
func withoutSticky(p *model.Policy) *model.Policy {
	if p == nil || p.Balance == nil || p.Balance.Affinity == nil || !p.Balance.Affinity.Canary {
		return p
	}
	out, balance, affinity := *p, *p.Balance, *p.Balance.Affinity
	affinity.Canary = false
	balance.Affinity = &affinity
	out.Balance = &balance
	return &out
}

// slashPolicy redirects to a path of an Ingress, with the headers that its responses have.
func (t *translation) slashPolicy(ingress *networkingv1.Ingress, host string, path networkingv1.HTTPIngressPath, to model.Redirect) *model.Policy {
	out := &model.Policy{Redirects: []model.Redirect{to}}
	if p := t.routePolicy(ingress, host, path.Path, path.Backend, false); p != nil {
		out.CORS = p.CORS
		for _, h := range p.ResponseHeaders {
			if h.Levels == 0 { // there are no steps
				out.ResponseHeaders = append(out.ResponseHeaders, h)
			}
		}
	}
	return out
}
