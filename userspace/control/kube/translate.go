package kube

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
)

// Translate turns objects into the desired state and says what is wrong with them. The
// result is sorted, so that equal inputs in any order give equal results.
func Translate(objects Objects, o Options) (model.Model, []model.Problem) {
	t := newTranslation(o.Choose(objects), o)
	m, _ := t.all()
	m.Listeners = o.listeners()
	for _, key := range t.sortedKeys() {
		n := name{key.Namespace, key.Name}
		service, found := TranslateService(key, t.lookup.service(n), t.lookup.endpoints(n), o)
		m.Services = append(m.Services, service)
		t.found = append(t.found, found...)
	}
	for _, s := range t.l4() {
		n := name{s.Service.Namespace, s.Service.Name}
		service, found := completeL4(s, t.lookup.service(n), t.lookup.endpoints(n), o)
		m.L4 = append(m.L4, service)
		t.found = append(t.found, found...)
	}
	if n, ok := o.fabricService(); ok {
		var found problems
		m.Members, found = translateMembers(t.lookup.endpoints(n))
		t.found = append(t.found, found...)
	}
	if n, ok := o.proxyService(); ok {
		m.Proxies = countProxies(t.lookup.endpoints(n))
	}
	return m, t.found.sorted()
}

// all translates everything but the endpoints: a model without services. It also returns
// the Ingresses that were looked at, oldest first.
func (t *translation) all() (model.Model, []*networkingv1.Ingress) {
	t.class = classOf(t.options, t.objects.Classes, &t.found)
	t.strict = t.readCompat()
	t.controller = t.readController()
	var served []*networkingv1.Ingress
	for _, ingress := range t.objects.Ingresses {
		if t.class.serves(ingress, &t.found) {
			served = append(served, ingress)
		}
	}
	slices.SortFunc(served, byAge)
	served = t.withinBudget(served)
	t.routes(served)
	bases := t.bases()
	m := model.Model{Default: t.classDefault(), DefaultCertificate: t.defaultCertificate(), Defence: t.defence(), HSTS: hstsOf(t.controller), ForwardedFor: forwardedForOf(t.controller)}
	result := t.translateGateway(t.objects.Gateway)
	created := make(map[name]time.Time, len(served))
	for _, ingress := range served {
		created[nameOf(ingress)] = ingress.CreationTimestamp.Time
	}
	names := maps.Clone(bases)
	for host := range result.Hosts {
		names[host] = bases[host]
	}
	for _, host := range slices.Sorted(maps.Keys(names)) {
		f := finishBoth(host, bases, meeting{options: t.options, created: ageOf(created)}, &result)
		t.found = append(t.found, f.found...)
		if f.published {
			m.Hosts = append(m.Hosts, f.host)
		}
	}
	m.Certificates = sortedValues(t.certificates)
	m.Authorities = sortedValues(t.authorities)
	return m, served
}

// routes translates Ingresses, the oldest first: all of them, or some that have no host in
// common with any other.
func (t *translation) routes(served []*networkingv1.Ingress) {
	t.readOwners(served)
	t.tellShared(served)
	t.readRegexpHosts(served)
	for _, ingress := range served {
		t.addRules(ingress)
	}
	for _, ingress := range served { // after all rules: explicit routes go before fallbacks
		t.addFallback(ingress)
	}
	t.addSlashes(served)
	t.addCanaries(served)
	t.addLocations(served)
	t.addHosts(served)
	for _, ingress := range served { // after all routes
		t.addTLS(ingress)
	}
	for _, alias := range slices.Sorted(maps.Keys(t.aliases)) {
		t.shareTLS(alias)
	}
	t.useCertificates()
}

// translation is the work in progress of one Translate, or of a part of it.
type translation struct {
	objects Objects
	options Options
	lookup  lookup
	read    *secretMemory
	class   class
	hosts   map[string]map[routeKey]published
	keys    map[model.ServiceKey]struct{} // that routes name
	found   problems

	policies     map[*networkingv1.Ingress]*policy
	variants     map[variant]*model.Policy  // of policies, for routes
	strict       bool                       // annotationCompat of the class
	controller   *ingressnginx.Controller   // of Options.IngressNginx; nil: none
	regexpHosts  map[string]bool            // all paths are expressions
	owners       map[string]model.ObjectRef // the oldest Ingress that has a rule for the host
	guests       map[string][]string        // namespaces that may publish paths of a host that is not theirs
	aliases      map[string]string          // the host that each alias stands for
	tls          map[string]*hostTLS
	certificates map[string]model.Certificate // in use, by id
	authorities  map[string]model.Authority   // in use, by id
}

// routeKey is what two routes of a host conflict by.
type routeKey struct {
	path  string
	match model.PathMatch
}

// published is a route that has its place.
type published struct {
	model.Route
	fallback bool // made of a default backend, not of a rule
}

func newTranslation(objects Objects, o Options) *translation {
	return newPartOf(objects, o, newLookup(newIndex(objects)), newSecretMemory())
}

// newPartOf returns a translation that finds in a store what its objects do not hold.
func newPartOf(objects Objects, o Options, l lookup, read *secretMemory) *translation {
	return &translation{
		objects: objects,
		options: o,
		lookup:  l,
		read:    read,
		hosts:   map[string]map[routeKey]published{},
		keys:    map[model.ServiceKey]struct{}{},

		policies:     map[*networkingv1.Ingress]*policy{},
		variants:     map[variant]*model.Policy{},
		owners:       map[string]model.ObjectRef{},
		guests:       map[string][]string{},
		aliases:      map[string]string{},
		tls:          map[string]*hostTLS{},
		certificates: map[string]model.Certificate{},
		authorities:  map[string]model.Authority{},
	}
}

// ServiceOf returns the Service that a slice says it belongs to.
func ServiceOf(slice *discoveryv1.EndpointSlice) (types.NamespacedName, bool) {
	service := slice.Labels[discoveryv1.LabelServiceName]
	return types.NamespacedName{Namespace: slice.Namespace, Name: service}, service != ""
}

func (t *translation) addRules(ingress *networkingv1.Ingress) {
	ref := refOf("Ingress", ingress)
	policy := t.policyOf(ingress)
	if policy.rules.Canary != nil {
		return // addCanaries
	}
	refused := t.refusedBy(policy)
	if refused != "" {
		t.found.add(ref, model.Refused, "AnnotationsRefused", fmt.Sprintf("annotation %s is not supported and --strict-annotations is set: this Ingress is not served", refused))
	}
	for i, rule := range ingress.Spec.Rules {
		field := fmt.Sprintf("spec.rules[%d]", i)
		if err := checkHost(rule.Host); err != nil {
			t.found.add(ref, model.Refused, "HostInvalid", fmt.Sprintf("%s.host: %q: %v", field, rule.Host, err))
			continue
		}
		if t.standing(ingress, rule.Host) == shutOut {
			continue // tellShared
		}
		t.claim(rule.Host)
		if rule.HTTP == nil || refused != "" {
			continue
		}
		for j, p := range rule.HTTP.Paths {
			field := fmt.Sprintf("%s.http.paths[%d]", field, j)
			path, match, err := t.pathOf(ingress, rule.Host, p)
			if err != nil {
				t.found.add(ref, model.Refused, "PathInvalid", fmt.Sprintf("%s: %v", field, err))
				continue
			}
			t.addRoute(ingress, rule.Host, field, p.Path, published{Route: model.Route{Path: path, Match: match, Source: ref}}, field+".backend", p.Backend)
		}
	}
}

// claim notes that a host is published, even if no route of it is valid: its requests
// must not fall through to a wildcard that somebody else owns.
func (t *translation) claim(host string) map[routeKey]published {
	routes := t.hosts[host]
	if routes == nil {
		routes = map[routeKey]published{}
		t.hosts[host] = routes
	}
	return routes
}

// addRoute adds a route unless an older object has it already. A route that is in
// conflict does not need its backend looked up. path is what the Ingress has written.
func (t *translation) addRoute(ingress *networkingv1.Ingress, host, field, path string, route published, backendField string, backend networkingv1.IngressBackend) {
	routes := t.claim(host)
	key := routeKey{route.Path, route.Match}
	if winner, taken := routes[key]; taken {
		owner := naming(route.Source, winner.Source) + ", which is older"
		switch {
		case winner.Source == route.Source:
			owner = "an earlier entry of this Ingress"
		case route.fallback && !winner.fallback:
			owner = "a rule of " + naming(route.Source, winner.Source)
		}
		t.found.add(route.Source, model.Warning, "RouteConflict",
			fmt.Sprintf("%s: %s of host %q is already served by %s", field, matchText(key), host, owner))
		return
	}
	p := t.policyOf(ingress)
	otherwise := "503"
	if all := p.rules.Policy; all != nil && all.Fallback != (model.ServiceKey{}) {
		otherwise = "the response of default-backend"
	}
	route.Service = t.backend(route.Source, backendField, backend, otherwise)
	route.RedirectHTTPS = t.redirectsHTTPS(ingress, p, host)
	open, clear := t.leftOut(&route.Route, path)
	route.Policy = t.routePolicy(ingress, host, path, backend, open)
	if route.Service == (model.ServiceKey{}) && route.Policy != nil && route.Policy.Fallback != (model.ServiceKey{}) {
		route.Service = route.Policy.Fallback // as if it had no ready pod
	} else {
		route.Upstream = t.upstream(p, &route.Route)
	}
	if p.client != nil && !t.settles(route.Source, host) {
		// Of this host it cannot ask what its pods count on.
		t.found.add(route.Source, model.Refused, "AccessClosed", fmt.Sprintf("annotation %s: %s of host %q: the host belongs to another namespace, which alone can set its client-certificate policy; to fail closed, every request is refused", annotationAuthTLSSecret, matchText(key), host))
		route.Policy = closedFor(host)
	}
	if clear {
		route.RedirectHTTPS = false
	}
	routes[key] = route
}

func matchText(k routeKey) string {
	return fmt.Sprintf("path %q (%s)", k.path, k.match)
}

// addFallback adds an Ingress's default backend: the route "/" of its hosts, or of any
// host if it has no rules.
func (t *translation) addFallback(ingress *networkingv1.Ingress) {
	if p := t.policyOf(ingress); ingress.Spec.DefaultBackend == nil || p.rules.Canary != nil || t.refusedBy(p) != "" {
		return
	}
	ref := refOf("Ingress", ingress)
	var hosts []string
	for _, rule := range ingress.Spec.Rules {
		if checkHost(rule.Host) == nil {
			hosts = append(hosts, rule.Host)
		}
	}
	if len(ingress.Spec.Rules) == 0 {
		hosts = []string{""}
	}
	slices.Sort(hosts)
	for _, host := range slices.Compact(hosts) {
		if t.standing(ingress, host) == shutOut {
			continue // tellShared
		}
		if winner, taken := t.hosts[host][routeKey{"/", model.Prefix}]; taken && winner.Source == ref {
			continue // the Ingress's own rule is no contradiction
		}
		fallback := published{Route: model.Route{Path: "/", Source: ref}, fallback: true}
		t.addRoute(ingress, host, "spec.defaultBackend", "/", fallback, "spec.defaultBackend", *ingress.Spec.DefaultBackend)
	}
}

// backend resolves what a route points to. A backend that cannot be had gives the zero
// key: the route stays and answers 503, since without it the requests would go to the
// service of a less specific path, which never asked for them.
func (t *translation) backend(ref model.ObjectRef, field string, b networkingv1.IngressBackend, otherwise string) model.ServiceKey {
	switch {
	case b.Resource != nil:
		t.found.add(ref, model.Refused, "ResourceBackendUnsupported",
			fmt.Sprintf("%s.resource: %s %q: only Services are supported as backends", field, b.Resource.Kind, b.Resource.Name))
		return model.ServiceKey{}
	case b.Service == nil || b.Service.Name == "":
		t.found.add(ref, model.Refused, "BackendInvalid", field+": no Service is named")
		return model.ServiceKey{}
	}
	return t.resolve(ref, field+".service", name{ref.Namespace, b.Service.Name}, b.Service.Port, otherwise)
}

// resolve returns the zero key, and a problem, for what cannot be had; otherwise is what
// clients then get.
func (t *translation) resolve(ref model.ObjectRef, field string, n name, port networkingv1.ServiceBackendPort, otherwise string) model.ServiceKey {
	service := t.lookup.service(n)
	if service == nil {
		t.found.add(ref, model.Warning, "ServiceNotFound", fmt.Sprintf("%s: Service %s does not exist; clients get %s until it does", field, n, otherwise))
		return model.ServiceKey{}
	}
	key, err := resolvePort(service, port)
	if err != nil {
		t.found.add(ref, model.Warning, "ServicePortNotFound", fmt.Sprintf("%s.port: %v; clients get %s", field, err, otherwise))
		return model.ServiceKey{}
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		if reason, message := checkExternalName(service, key, t.options); reason != "" {
			t.found.add(ref, model.Refused, reason, fmt.Sprintf("%s: %s", field, message))
			return model.ServiceKey{}
		}
	}
	t.keys[key] = struct{}{}
	return key
}

// classDefault resolves --default-backend.
func (t *translation) classDefault() model.ServiceKey {
	want := t.options.DefaultBackend
	if want == (model.ServiceKey{}) {
		return want
	}
	port := networkingv1.ServiceBackendPort{Name: want.Port}
	if number, err := strconv.ParseInt(want.Port, 10, 32); err == nil {
		port = networkingv1.ServiceBackendPort{Number: int32(number)}
	}
	ref := model.ObjectRef{Kind: "Service", Namespace: want.Namespace, Name: want.Name}
	return t.resolve(ref, "--default-backend", name{want.Namespace, want.Name}, port, "404")
}

// precedence of routes with the same path.
var precedence = [...]int{model.Exact: 0, model.Regexp: 1, model.Prefix: 2}

// comparePrecedence puts the longest path first, then Exact before Regexp before Prefix.
func comparePrecedence(a, b model.Route) int {
	return cmp.Or(
		cmp.Compare(len(b.Path), len(a.Path)),
		cmp.Compare(a.Path, b.Path),
		cmp.Compare(precedence[a.Match], precedence[b.Match]),
		a.Rank.Compare(b.Rank),
	)
}

func (t *translation) sortedKeys() []model.ServiceKey {
	return slices.SortedFunc(maps.Keys(t.keys), CompareKeys)
}

// CompareKeys orders services by namespace, name and port.
func CompareKeys(a, b model.ServiceKey) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port))
}
