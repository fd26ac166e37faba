package kube

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/cert"
	"github.com/kerngate/kerngate/userspace/model"
)

// hostTLS is the TLS of a host in the making. Of several Ingresses the oldest wins, for
// each part of it.
type hostTLS struct {
	source       model.ObjectRef // the first that asked for anything
	certificates []offered
	client       *model.ClientAuth
	clientSource model.ObjectRef
	passthrough  model.ServiceKey
	suites       []string // of TLS 1.2; none: the proxy's
	suitesSource model.ObjectRef
}

// offered is a certificate of a host. One of each kind of key stands side by side.
type offered struct {
	id     string
	kind   x509.PublicKeyAlgorithm
	covers bool // it is for the host
	source model.ObjectRef
}

// preference orders kinds of keys: what costs the least CPU comes first.
var preference = map[x509.PublicKeyAlgorithm]int{x509.ECDSA: 0, x509.Ed25519: 1, x509.RSA: 2}

func (h *hostTLS) model() *model.TLS {
	if h == nil {
		return nil
	}
	t := &model.TLS{Client: h.client, Passthrough: h.passthrough, Suites: h.suites, Source: h.source}
	if t.Client != nil {
		t.Source = h.clientSource // who is to be told if a proxy refuses it
	}
	offers := slices.Clone(covering(h.certificates))
	sortOffers(offers)
	for _, c := range offers {
		t.Certificates = append(t.Certificates, c.id)
	}
	return t
}

// hasTLS reports whether an Ingress has TLS for a host: by name, by a wildcard, by an
// entry of spec.tls without hosts, or because it passes the host's connections through.
func hasTLS(ingress *networkingv1.Ingress, p *policy, host string) bool {
	if p.rules.Passthrough && host != "" {
		return true
	}
	for _, entry := range ingress.Spec.TLS {
		if len(entry.Hosts) == 0 || slices.Contains(entry.Hosts, host) || slices.Contains(entry.Hosts, wildcardOf(host)) {
			return true
		}
	}
	return false
}

// wildcardOf returns the wildcard that stands for a host's first label, or a name that no
// host has.
func wildcardOf(host string) string {
	_, parent, dotted := strings.Cut(host, ".")
	if !dotted || strings.HasPrefix(host, "*") {
		return "*"
	}
	return "*." + parent
}

// ruleHosts returns the hosts that an Ingress has valid rules for, each once.
func ruleHosts(ingress *networkingv1.Ingress) (hosts []string) {
	for _, rule := range ingress.Spec.Rules {
		if checkHost(rule.Host) == nil && !slices.Contains(hosts, rule.Host) {
			hosts = append(hosts, rule.Host)
		}
	}
	return hosts
}

func (t *translation) tlsOf(host string, source model.ObjectRef) *hostTLS {
	h := t.tls[host]
	if h == nil {
		h = &hostTLS{source: source}
		t.tls[host] = h
	}
	return h
}

// addTLS adds what an Ingress says of TLS: its certificates, what its hosts' clients are
// asked for, and whether their connections are passed through.
func (t *translation) addTLS(ingress *networkingv1.Ingress) {
	ref := refOf("Ingress", ingress)
	p := t.policyOf(ingress)
	settled := func(host string) bool { return t.settles(ref, host) }
	all := ruleHosts(ingress)
	rules := slices.DeleteFunc(slices.Clone(all), func(host string) bool { return !settled(host) })
	hosts := slices.Clone(rules)
	for i := range ingress.Spec.TLS {
		for _, host := range t.addCertificate(ingress, ref, i, rules) {
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	if p.client != nil {
		for _, host := range hosts {
			t.addClient(host, ref, p.client)
		}
	}
	if len(p.rules.Suites) > 0 {
		for _, host := range hosts {
			t.addSuites(host, ref, p.rules.Suites)
		}
	}
	if p.rules.Passthrough {
		t.addPassthrough(ref, all)
	}
	if len(rules) < len(all) && (p.client != nil || len(p.rules.Suites) > 0) {
		for _, host := range all {
			if !settled(host) {
				t.tellForeign(ref, host, "annotations for TLS of clients")
			}
		}
	}
}

// tellForeign says that an Ingress has no say in the TLS of a host.
func (t *translation) tellForeign(ref model.ObjectRef, host, what string) {
	t.found.add(ref, model.Warning, "HostOwned", fmt.Sprintf("%s: host %q belongs to another namespace, which has an older Ingress for it: only that namespace sets its certificates and its client-certificate policy", what, host))
}

// addCertificate adds one entry of spec.tls and returns its valid hosts. An entry without
// hosts is for those of the Ingress's rules.
func (t *translation) addCertificate(ingress *networkingv1.Ingress, ref model.ObjectRef, i int, rules []string) (hosts []string) {
	entry := ingress.Spec.TLS[i]
	field := fmt.Sprintf("spec.tls[%d]", i)
	for j, host := range entry.Hosts {
		if err := checkHost(host); err != nil || host == "" {
			t.found.add(ref, model.Refused, "HostInvalid", fmt.Sprintf("%s.hosts[%d]: %q is not a host name", field, j, host))
			continue
		}
		if !t.settles(ref, host) {
			t.tellForeign(ref, host, fmt.Sprintf("%s.hosts[%d]", field, j))
			continue
		}
		hosts = append(hosts, host)
	}
	if len(entry.Hosts) == 0 {
		hosts = slices.Clone(rules)
	}
	for _, host := range hosts {
		t.tlsOf(host, ref)
	}
	if entry.SecretName == "" {
		return hosts // the default certificate
	}
	c, err := t.certificate(name{ingress.Namespace, entry.SecretName})
	if err != nil {
		t.found.add(ref, model.Warning, reasonOf(err), fmt.Sprintf("%s.secretName: %v; clients get the default certificate", field, err))
		return hosts
	}
	for _, host := range hosts {
		t.offer(host, ref, field, c)
	}
	return hosts
}

// offer adds a certificate to a host, unless there is one of the same kind.
func (t *translation) offer(host string, ref model.ObjectRef, field string, c certificate) {
	h := t.tlsOf(host, ref)
	kind := c.leaf.PublicKeyAlgorithm
	covers := host == "" || cert.Covers(c.leaf, host)
	if !covers {
		t.found.add(ref, model.Warning, "CertificateNameMismatch",
			fmt.Sprintf("%s.secretName: the certificate of Secret %s is not for host %q but for %s: clients will refuse it", field, c.ID, host, cmp.Or(strings.Join(model.NamesOf(c.leaf), ", "), "no name at all")))
	}
	if i := slices.IndexFunc(h.certificates, func(o offered) bool { return o.kind == kind }); i >= 0 {
		taken := h.certificates[i]
		if taken.id == c.ID {
			return
		}
		if covers && !taken.covers {
			h.certificates[i] = offered{c.ID, kind, covers, ref}
			return
		}
		owner := naming(ref, taken.source) + ", which is older"
		if taken.source == ref {
			owner = "an earlier entry of this Ingress"
		}
		t.found.add(ref, model.Warning, "CertificateConflict",
			fmt.Sprintf("%s.secretName: host %q already has the %s certificate of Secret %s, from %s; Secret %s is not used for it", field, host, kind, taken.id, owner, c.ID))
		return
	}
	h.certificates = append(h.certificates, offered{c.ID, kind, covers, ref})
}

// useCertificates notes the certificates that hosts have in the end.
func (t *translation) useCertificates() {
	for _, h := range t.tls {
		for _, o := range covering(h.certificates) {
			n, _ := cutName(o.id)
			if c, err := t.certificate(n); err == nil { // as it was when it was offered
				t.certificates[o.id] = c.Certificate
			}
		}
	}
}

// addClient: as clients show their certificate before any path is known, what one Ingress
// asks for counts for all of the host. Another that asks for something else is told so.
func (t *translation) addClient(host string, ref model.ObjectRef, p *clientPolicy) {
	h := t.tlsOf(host, ref)
	if h.client != nil {
		if *h.client != p.auth {
			t.found.add(ref, model.Warning, "ClientAuthConflict",
				fmt.Sprintf("annotation %s: clients of host %q are already asked for a certificate as %s says, which is older", annotationAuthTLSSecret, host, h.clientSource))
		}
		return
	}
	h.client, h.clientSource = &p.auth, ref
	if p.authority != nil {
		t.authorities[p.authority.ID] = *p.authority
	}
}

// addSuites: suites are settled before any path is known, like clients' certificates.
func (t *translation) addSuites(host string, ref model.ObjectRef, suites []string) {
	h := t.tlsOf(host, ref)
	if h.suites == nil {
		h.suites, h.suitesSource = suites, ref
	} else if !slices.Equal(h.suites, suites) {
		t.found.add(ref, model.Warning, "SuitesConflict",
			fmt.Sprintf("annotation %sssl-ciphers: the suites of host %q are already settled by %s, which is older", vocabularyNginx, host, h.suitesSource))
	}
}

// addPassthrough gives the connections of an Ingress's hosts, still encrypted, to the
// service of path "/". That takes the host from all others, so only its owner may.
func (t *translation) addPassthrough(ref model.ObjectRef, hosts []string) {
	for _, host := range hosts {
		if host == "" {
			t.found.add(ref, model.Refused, "PassthroughInvalid", "annotation "+annotationSSLPassthrough+": a rule without a host cannot be passed through: such connections are routed by host alone")
			continue
		}
		if owner := t.owners[host]; owner != ref {
			t.found.add(ref, model.Refused, "PassthroughConflict", fmt.Sprintf("annotation %s: host %q is also served by %s, which is older and not passed through", annotationSSLPassthrough, host, naming(ref, owner)))
			continue
		}
		route, ok := t.hosts[host][routeKey{"/", model.Prefix}]
		if !ok || route.Source != ref {
			route, ok = t.hosts[host][routeKey{"/", model.Exact}]
		}
		if !ok || route.Source != ref {
			t.found.add(ref, model.Refused, "PassthroughInvalid", fmt.Sprintf("annotation %s: host %q needs a rule for path \"/\", whose service gets the connections", annotationSSLPassthrough, host))
			continue
		}
		t.tlsOf(host, ref).passthrough = route.Service
		for _, other := range t.hosts[host] {
			if other.Source != ref {
				t.found.add(other.Source, model.Warning, "PassthroughHides", fmt.Sprintf("host %q: its TLS connections are passed through for %s, so that rules of this Ingress for it are served in clear text only", host, naming(other.Source, ref)))
			}
		}
	}
}

// shareTLS: an alias asks no less of clients than the host that it stands for, whichever
// Ingress has said so.
func (t *translation) shareTLS(alias string) {
	above := t.tls[t.aliases[alias]]
	if above == nil || above.client == nil && above.suites == nil {
		return
	}
	h := t.tlsOf(alias, above.source)
	if h.client == nil {
		h.client, h.clientSource = above.client, above.clientSource
	}
	if h.suites == nil {
		h.suites, h.suitesSource = above.suites, above.suitesSource
	}
}

// defaultCertificate resolves --default-certificate, if it names a Secret.
func (t *translation) defaultCertificate() string {
	if t.options.DefaultCertificate == "" {
		return ""
	}
	namespace, secret, _ := strings.Cut(t.options.DefaultCertificate, "/")
	c, err := t.certificate(name{namespace, secret})
	if err != nil {
		t.found.add(model.ObjectRef{Kind: "Secret", Namespace: namespace, Name: secret}, model.Warning, reasonOf(err),
			fmt.Sprintf("--default-certificate: %v; proxies sign one themselves", err))
		return ""
	}
	t.certificates[c.ID] = c.Certificate
	return c.ID
}

func sortedValues[V any](m map[string]V) []V {
	var out []V
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[key])
	}
	return out
}
