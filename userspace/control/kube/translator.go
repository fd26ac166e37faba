package kube

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/control/gateway"
	"github.com/kerngate/kerngate/userspace/model"
)

// Translator keeps a translation up to date: a change costs what it concerns, not what there
// is. What it sends adds up to what Translate makes of the same objects (TestTranslatorAgrees).
//
// It owns no goroutine and takes no lock; its user serialises calls.
type Translator struct {
	options Options
	store   Store
	routes  *routeTranslator

	started   bool                               // the first model has been returned
	model     model.Model                        // as it was last returned
	keys      map[name][]model.ServiceKey        // of Services that routes name
	renewed   map[model.ServiceKey]model.Service // that differ from those of model
	gone      bool                               // a service of model is named no more
	l4        map[name][]model.L4Service         // without backends
	renewedL4 map[model.L4Key]model.L4Service    // that differ from those of model

	staleServices map[name]struct{} // whose Service has changed
	staleMembers  bool

	routeProblems   problems
	memberProblems  problems // of the fabric
	serviceProblems map[model.ServiceKey][]model.Problem
	l4Problems      map[model.L4Key][]model.Problem
	problems        []model.Problem // all of these; nil: to be gathered
	statuses        model.Statuses
}

// NewStoreTranslator returns a translator of the objects of a store. It does not watch the store:
// SetIngress, Touch and the like report what has changed there.
func NewStoreTranslator(o Options, s Store) *Translator {
	return &Translator{
		model:   model.Model{Listeners: o.listeners()},
		options: o, store: s, routes: newRouteTranslator(o, s),
		keys: map[name][]model.ServiceKey{}, renewed: map[model.ServiceKey]model.Service{},
		l4: map[name][]model.L4Service{}, renewedL4: map[model.L4Key]model.L4Service{},
		staleServices: map[name]struct{}{}, staleMembers: true,
		serviceProblems: map[model.ServiceKey][]model.Problem{}, l4Problems: map[model.L4Key][]model.Problem{},
	}
}

// NewTranslator returns a translator of objects that Replace takes over.
func NewTranslator(o Options) *Translator { return NewStoreTranslator(o, newIndex(Objects{})) }

// Replace takes over all objects, of which those that have changed have another address.
func (t *Translator) Replace(objects Objects) {
	objects = t.options.Choose(objects)
	last, now := t.store.(*index), newIndex(objects)
	differ := func(kind string, n name, same bool) {
		if !same {
			t.touch(reference{kind, n})
		}
	}
	unnamed := t.options.NamespaceSelector != nil && !slices.Equal(last.objects.Gateway.Namespaces, objects.Gateway.Namespaces)
	each(last.services, now.services, func(n name, before, after *corev1.Service) {
		differ("Service", n, before == after)
		unnamed = unnamed || before != after && (before != nil && IsLoadBalancer(before) || after != nil && IsLoadBalancer(after))
	})
	each(last.secrets, now.secrets, func(n name, before, after *corev1.Secret) { differ("Secret", n, before == after) })
	each(last.configMaps, now.configMaps, func(n name, before, after *corev1.ConfigMap) {
		differ("ConfigMap", n, before == after)
		unnamed = unnamed || before != after
	})
	each(last.objects.SecretsUnreadable, objects.SecretsUnreadable, func(namespace, before, after string) {
		differ("Secret", name{namespace, ""}, before == after)
	})
	each(last.objects.ConfigMapsUnreadable, objects.ConfigMapsUnreadable, func(text, before, after string) {
		n, _ := cutName(text)
		differ("ConfigMap", n, before == after)
	})
	each(last.slices, now.slices, func(n name, before, after []*discoveryv1.EndpointSlice) {
		if slices.Equal(before, after) {
			return
		}
		t.staleServices[n] = struct{}{}
		t.staleMembers = t.staleMembers || t.HasMembers(n.namespaced())
	})
	t.store, t.routes.store = now, now
	if !sameGateway(&last.objects.Gateway, &objects.Gateway) {
		t.TouchGateway()
	}
	if unnamed {
		t.routes.dissolve(t.routes.unnamed)
	}
	t.routes.setClasses(objects.Classes)
	t.routes.replaceIngresses(objects.Ingresses)
}

// each calls f with what two maps have for each key of either.
func each[K comparable, V any](before, after map[K]V, f func(key K, before, after V)) {
	for key, v := range before {
		f(key, v, after[key])
	}
	for key, v := range after {
		if last, both := before[key]; !both {
			f(key, last, v)
		}
	}
}

// SetClasses takes over all IngressClasses.
func (t *Translator) SetClasses(classes []*networkingv1.IngressClass) { t.routes.setClasses(classes) }

// ReplaceIngresses takes over all Ingresses.
func (t *Translator) ReplaceIngresses(all []*networkingv1.Ingress) { t.routes.replaceIngresses(all) }

// SetIngress takes over an Ingress that has come or changed.
func (t *Translator) SetIngress(ingress *networkingv1.Ingress) { t.routes.set(ingress) }

// RemoveIngress forgets an Ingress.
func (t *Translator) RemoveIngress(n types.NamespacedName) { t.routes.remove(nameFrom(n)) }

// Touch notes that an object has come, gone or changed to which Ingresses may refer. Without a name
// that is said of all objects of the kind in the namespace.
func (t *Translator) Touch(kind string, n types.NamespacedName) {
	t.touch(reference{kind, nameFrom(n)})
}

// TouchUnnamed notes that something has changed of what counts without an Ingress naming it: the
// Unnamed of the Store.
func (t *Translator) TouchUnnamed() { t.routes.dissolve(t.routes.unnamed) }

// TouchGateway notes that objects of Gateway API have come, gone or changed.
func (t *Translator) TouchGateway() { t.routes.touchGateway() }

// TouchMembers notes that the nodes of the fabric, or those with proxies, may have changed.
func (t *Translator) TouchMembers() { t.staleMembers = true }

// HasMembers reports whether a Service's endpoints are the nodes of the fabric, or those with proxies.
func (t *Translator) HasMembers(service types.NamespacedName) bool {
	n := nameFrom(service)
	fabric, _ := t.options.fabricService()
	proxies, _ := t.options.proxyService()
	return n == fabric || n == proxies
}

// Wants returns what must be known before Ingresses are translated: namespaces whose Secrets they
// name, and ConfigMaps.
func (t *Translator) Wants() (secretsOf map[string]bool, configMaps map[types.NamespacedName]bool) {
	t.routes.renewController()
	secretsOf, configMaps = map[string]bool{}, map[types.NamespacedName]bool{}
	if n, ok := cutName(t.options.DefaultCertificate); ok {
		secretsOf[n.namespace] = true
	}
	for namespace := range gateway.SecretNamespaces(t.store.Gateway()) {
		secretsOf[namespace] = true
	}
	for r := range t.routes.wants {
		if r.kind == "Secret" {
			secretsOf[r.name.namespace] = true
		} else {
			configMaps[r.name.namespaced()] = true
		}
	}
	return secretsOf, configMaps
}

// touch notes that an object has come, gone or changed. Without a name that is said of all
// objects of the kind in the namespace.
func (t *Translator) touch(r reference) {
	t.routes.touch(r)
	if r.kind == "Service" {
		t.staleServices[r.name] = struct{}{}
	}
}

// Update translates what has changed. ok is false if nothing has; the first time it never is.
func (t *Translator) Update() (u model.Update, ok bool) {
	t.routes.update()
	changed := t.routes.takeChanged()
	u.Changed = &model.Changed{Hosts: slices.Sorted(maps.Keys(changed.hosts)), Trust: changed.trust || changed.general}
	lastProblems := t.problems
	m := t.model
	m.Hosts = t.routes.mergeHosts(m.Hosts, changed.hosts)
	if changed.served {
		t.routes.publish()
	}
	if g, api := &t.routes.general, &t.routes.gateway; changed.served || changed.general || changed.statuses {
		findings := slices.Concat(g.findings, api.Findings)
		slices.SortFunc(findings, model.Finding.Compare)
		published := t.routes.served
		if len(g.published)+len(api.Published) > 0 {
			published = slices.Concat(published, g.published, api.Published)
		}
		t.statuses = model.Statuses{Published: published, Findings: findings, Attached: api.Attached}
	}
	if changed.problems {
		t.routeProblems, t.problems = t.routes.problems(), nil
	}
	if changed.trust {
		m.Certificates, m.Authorities = t.routes.certificates.sorted(cmp.Compare), t.routes.authorities.sorted(cmp.Compare)
	}
	if changed.general {
		g := &t.routes.general
		m.Default, m.DefaultCertificate, m.Defence, m.HSTS, m.ForwardedFor, m.L4 = g.service, g.certificate, g.defence, g.hsts, g.forwarded, t.translateL4(g.l4)
	}
	members := t.staleMembers && t.translateMembers(&m)
	services := t.translateKeys(changed.keys)
	u.Changed.Services = services || changed.general || members
	t.complete(&u)
	if changed.problems = !slices.Equal(lastProblems, t.problems); t.started && !changed.any() && !u.Changed.Services {
		u.Model = &m
		return u, false
	}
	if !t.started {
		t.started, u.Changed = true, nil
	}
	m.Services, m.L4 = t.renewServices(m.Services), t.renewL4(m.L4)
	t.model, u.Model = m, &m
	return u, true
}

// EndpointsChanged translates the services whose endpoints have changed. ok is false if no
// route leads to them, or if they have the same backends as before: controllers write a slice
// again when nothing has changed that matters to a route.
func (t *Translator) EndpointsChanged(changed map[types.NamespacedName]struct{}) (u model.Update, ok bool) {
	lastProblems := t.problems
	for namespaced := range changed {
		n := nameFrom(namespaced)
		for _, key := range t.keys[n] {
			s := t.translateService(key, t.store.Service(n.namespaced())) // nil: deleted, its routes are about to be translated
			if t.renew(s) {
				u.Services = append(u.Services, s)
			}
		}
		for _, s := range t.l4[n] {
			if s = t.completeL4(s, t.store.Service(n.namespaced())); t.renewOneL4(s) {
				u.L4 = append(u.L4, s)
			}
		}
	}
	t.complete(&u)
	return u, len(u.Services)+len(u.L4) > 0 || t.started && !slices.Equal(lastProblems, t.problems)
}

// renew notes a service as it is now. It reports whether it differs from what is known of it.
func (t *Translator) renew(s model.Service) bool {
	last, known := t.renewed[s.Key]
	if !known {
		i, found := slices.BinarySearchFunc(t.model.Services, s.Key, func(a model.Service, key model.ServiceKey) int { return CompareKeys(a.Key, key) })
		if known = found; found {
			last = t.model.Services[i]
		}
	}
	if known && sameService(last, s) {
		return false
	}
	t.renewed[s.Key] = s
	return true
}

// renewOneL4 is renew for an L4 service.
func (t *Translator) renewOneL4(s model.L4Service) bool {
	last, known := t.renewedL4[s.L4Key]
	if !known {
		i := slices.IndexFunc(t.model.L4, func(a model.L4Service) bool { return a.L4Key == s.L4Key })
		if known = i >= 0; known {
			last = t.model.L4[i]
		}
	}
	if known && sameL4(last, s) {
		return false
	}
	t.renewedL4[s.L4Key] = s
	return true
}

func sameService(a, b model.Service) bool {
	if !slices.Equal(a.Backends, b.Backends) { // reflection takes its time with thousands
		return false
	}
	a.Backends, b.Backends = nil, nil
	return reflect.DeepEqual(a, b)
}

func sameL4(a, b model.L4Service) bool {
	if !slices.Equal(a.Backends, b.Backends) {
		return false
	}
	a.Backends, b.Backends = nil, nil
	return reflect.DeepEqual(a, b)
}

// complete adds what every update repeats: all problems and statuses.
func (t *Translator) complete(u *model.Update) {
	if t.problems == nil {
		all := slices.Concat(t.routeProblems, t.memberProblems)
		for _, found := range t.serviceProblems {
			all = append(all, found...)
		}
		for _, found := range t.l4Problems {
			all = append(all, found...)
		}
		if t.problems = all.sorted(); t.problems == nil {
			t.problems = []model.Problem{}
		}
	}
	u.Problems, u.Statuses = t.problems, t.statuses
}

// translateL4 completes L4 services and notes which Services they lead to.
func (t *Translator) translateL4(services []model.L4Service) (out []model.L4Service) {
	t.l4, t.problems = map[name][]model.L4Service{}, nil
	clear(t.l4Problems)
	clear(t.renewedL4)
	for _, s := range services {
		n := name{s.Service.Namespace, s.Service.Name}
		t.l4[n] = append(t.l4[n], s)
		out = append(out, t.completeL4(s, t.store.Service(n.namespaced())))
	}
	return out
}

// translateMembers translates the nodes of the fabric, and those with proxies. It reports whether
// they are others than before.
func (t *Translator) translateMembers(m *model.Model) (any bool) {
	t.staleMembers = false
	members, proxies := m.Members, m.Proxies
	if n, ok := t.options.fabricService(); ok {
		m.Members, t.memberProblems = translateMembers(t.store.Endpoints(n.namespaced()))
		t.problems = nil
	}
	if n, ok := t.options.proxyService(); ok {
		m.Proxies = countProxies(t.store.Endpoints(n.namespaced()))
	}
	return m.Proxies != proxies || !reflect.DeepEqual(m.Members, members)
}

// translateKeys translates the services that routes have begun to name, and those whose
// Service has changed, and forgets others. It reports whether there are any.
func (t *Translator) translateKeys(changed map[model.ServiceKey]struct{}) (any bool) {
	for key := range changed {
		n := name{key.Namespace, key.Name}
		i := slices.Index(t.keys[n], key)
		_, named := t.routes.keys[key]
		switch {
		case named && i < 0:
			t.keys[n] = append(t.keys[n], key)
			t.renewed[key] = t.translateService(key, t.store.Service(n.namespaced()))
		case !named && i >= 0:
			if t.keys[n] = slices.Delete(t.keys[n], i, i+1); len(t.keys[n]) == 0 {
				delete(t.keys, n)
			}
			t.forgetService(key)
			delete(t.renewed, key)
			t.gone = true
		default:
			continue
		}
		any = true
	}
	for n := range t.staleServices {
		for _, key := range t.keys[n] {
			any = t.renew(t.translateService(key, t.store.Service(n.namespaced()))) || any
		}
		for _, s := range t.l4[n] {
			any = t.renewOneL4(t.completeL4(s, t.store.Service(n.namespaced()))) || any
		}
	}
	clear(t.staleServices)
	return any
}

// renewServices returns a list of services in which those that are named no more are missing
// and those that were translated since are as they are now.
func (t *Translator) renewServices(last []model.Service) []model.Service {
	if len(t.renewed) == 0 && !t.gone {
		return last
	}
	out := make([]model.Service, 0, len(last)+len(t.renewed))
	for _, s := range last {
		if _, named := t.routes.keys[s.Key]; !named {
			continue
		}
		if renewed, ok := t.renewed[s.Key]; ok {
			s = renewed
			delete(t.renewed, s.Key)
		}
		out = append(out, s)
	}
	if len(t.renewed) > 0 {
		for _, s := range t.renewed {
			out = append(out, s)
		}
		slices.SortFunc(out, func(a, b model.Service) int { return CompareKeys(a.Key, b.Key) })
	}
	clear(t.renewed)
	t.gone = false
	return out
}

// renewL4 is renewServices for L4 services.
func (t *Translator) renewL4(last []model.L4Service) []model.L4Service {
	if len(t.renewedL4) == 0 {
		return last
	}
	out := slices.Clone(last)
	for i := range out {
		if renewed, ok := t.renewedL4[out[i].L4Key]; ok {
			out[i] = renewed
		}
	}
	clear(t.renewedL4)
	return out
}

func (t *Translator) translateService(key model.ServiceKey, service *corev1.Service) model.Service {
	translated, wrong := TranslateService(key, service, t.store.Endpoints(name{key.Namespace, key.Name}.namespaced()), t.options)
	if !slices.Equal(wrong, t.serviceProblems[key]) {
		t.forgetService(key)
		if t.problems = nil; len(wrong) > 0 {
			t.serviceProblems[key] = wrong
		}
	}
	return translated
}

func (t *Translator) forgetService(key model.ServiceKey) {
	if len(t.serviceProblems[key]) > 0 {
		t.problems = nil
	}
	delete(t.serviceProblems, key)
}

func (t *Translator) completeL4(s model.L4Service, service *corev1.Service) model.L4Service {
	translated, wrong := completeL4(s, service, t.store.Endpoints(name{s.Service.Namespace, s.Service.Name}.namespaced()), t.options)
	if slices.Equal(wrong, t.l4Problems[s.L4Key]) {
		return translated
	}
	t.problems = nil
	if delete(t.l4Problems, s.L4Key); len(wrong) > 0 {
		t.l4Problems[s.L4Key] = wrong
	}
	return translated
}
