package kube

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/gateway"
	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
)

// routeTranslator keeps what Ingresses publish up to date: a change costs what depends on it.
//
// Ingresses that name a host in common, directly or by others, are a group. What a group
// publishes depends on its Ingresses, on the objects that it has looked up, and on nothing
// else, so only groups that a change concerns are translated again. What crosses groups, the
// TLS and routes that a host has from less specific ones, is settled host by host (finishHost).
//
// The result equals that of a translation from nothing: TestTranslatorAgrees.
type routeTranslator struct {
	options Options
	store   Store
	read    *secretMemory

	classes       []*networkingv1.IngressClass
	class         class
	strict        bool
	classProblems problems

	controller         *ingressnginx.Controller
	controllerProblems problems
	controllerUses     map[reference]struct{} // ConfigMaps that it was read from
	controllerStale    bool

	entries map[name]*entry
	named   map[string]map[*entry]struct{} // by host
	users   map[reference]map[*group]struct{}
	bases   map[string]*base
	hosts   map[string]model.Host // finished
	told    map[string]problems   // of finished hosts
	below   map[string]map[string]struct{}
	tlsOnly map[string]struct{} // hosts without routes of their own

	keys         counted[model.ServiceKey, struct{}]
	certificates counted[string, model.Certificate]
	authorities  counted[string, model.Authority]
	wants        counted[reference, struct{}] // what must be watched before a translation

	gateway      gateway.Result
	gatewayGroup *group // nil: to be translated

	unnamed *group // what no Ingress names; nil: to be translated
	general general

	budgets budgets
	dirty   map[*entry]struct{}
	unused  []reference // Secrets that no group uses any more, for now
	changed changed

	served []model.Published // Ingresses that are served, oldest first; never changed in place
	moved  map[name]struct{} // Ingresses whose place in served may be another
}

// general is what does not belong to any host.
type general struct {
	service     model.ServiceKey // of the class, for what no route matches
	certificate string
	defence     model.Defence
	hsts        string
	forwarded   string            // header of trusted proxies
	l4          []model.L4Service // without backends
	published   []model.Published // of Services
	findings    []model.Finding
}

// changed says what of a routeTranslator's results differs since it was last asked.
type changed struct {
	hosts map[string]struct{}
	keys  map[model.ServiceKey]struct{} // that came or went
	trust bool                          // certificates or authorities
	// What of these was there before, nil if nothing was, for those that came or went.
	certificates map[string]*model.Certificate
	authorities  map[string]*model.Authority
	general      bool
	served       bool
	statuses     bool // of objects of Gateway API
	problems     bool
}

func (c *changed) any() bool {
	return len(c.hosts) > 0 || c.trust || c.general || c.served || c.statuses || c.problems
}

func newChanged() changed {
	return changed{
		hosts: map[string]struct{}{}, keys: map[model.ServiceKey]struct{}{},
		certificates: map[string]*model.Certificate{}, authorities: map[string]*model.Authority{},
	}
}

// entry is an Ingress that is served, or that has asked for the class or for room in vain.
type entry struct {
	ingress  *networkingv1.Ingress
	member   bool // of the class
	problems problems
	hosts    []string // that it names
	wants    []reference
	group    *group // nil: not translated yet

	weighed []reference // objects whose content becomes configuration with it
	weight  int         // bytes of its namespace's budget
	refusal string      // why it is not served beside the older ones of its namespace; "": it is
}

// group is what was made of Ingresses that have hosts in common.
type group struct {
	members      []*entry
	bases        map[string]*base
	keys         map[model.ServiceKey]struct{}
	certificates map[string]model.Certificate
	authorities  map[string]model.Authority
	used         map[reference]struct{}
	problems     problems
}

func newRouteTranslator(o Options, s Store) *routeTranslator {
	t := &routeTranslator{
		options: o, store: s, read: newSecretMemory(),
		entries: map[name]*entry{}, named: map[string]map[*entry]struct{}{}, users: map[reference]map[*group]struct{}{},
		bases: map[string]*base{}, hosts: map[string]model.Host{}, told: map[string]problems{}, below: map[string]map[string]struct{}{}, tlsOnly: map[string]struct{}{},
		keys: counted[model.ServiceKey, struct{}]{}, certificates: counted[string, model.Certificate]{},
		authorities: counted[string, model.Authority]{}, wants: counted[reference, struct{}]{},
		budgets: newBudgets(), moved: map[name]struct{}{}, dirty: map[*entry]struct{}{}, changed: newChanged(), controllerStale: true,
	}
	t.setClasses(nil)
	return t
}

// counted are values with the number of groups that have each.
type counted[K comparable, V any] map[K]*counter[V]

type counter[V any] struct {
	value V
	n     int
}

// add reports whether the key is new.
func (c counted[K, V]) add(key K, v V) bool {
	have := c[key]
	if have == nil {
		c[key] = &counter[V]{v, 1}
		return true
	}
	have.value = v
	have.n++
	return false
}

// drop reports whether nobody has the key any more.
func (c counted[K, V]) drop(key K) bool {
	have := c[key]
	have.n--
	if have.n > 0 {
		return false
	}
	delete(c, key)
	return true
}

// remember notes the value that a key has, unless one is noted already.
func (c counted[K, V]) remember(before map[K]*V, key K) {
	if _, noted := before[key]; noted {
		return
	}
	before[key] = nil
	if have := c[key]; have != nil {
		was := have.value
		before[key] = &was
	}
}

// differs reports whether any key has not the value that was noted.
func (c counted[K, V]) differs(before map[K]*V, equal func(a, b V) bool) bool {
	for key, was := range before {
		is := c[key]
		if (was == nil) != (is == nil) || was != nil && !equal(*was, is.value) {
			return true
		}
	}
	return false
}

func (c counted[K, V]) sorted(compare func(a, b K) int) (out []V) {
	for _, key := range slices.SortedFunc(maps.Keys(c), compare) {
		out = append(out, c[key].value)
	}
	return out
}

// setClasses takes over all IngressClass objects. A change can concern every Ingress.
func (t *routeTranslator) setClasses(classes []*networkingv1.IngressClass) {
	var found problems
	part := newPartOf(Objects{Classes: classes}, t.options, newLookup(t.store), t.read)
	now := classOf(t.options, classes, &found)
	strict := part.readCompat()
	found = append(found, part.found...)
	t.changed.problems = t.changed.problems || !slices.Equal(found, t.classProblems)
	same := now == t.class && strict == t.strict
	t.classes, t.class, t.strict, t.classProblems = classes, now, strict, found
	if same {
		return
	}
	for _, e := range slices.Collect(maps.Values(t.entries)) {
		t.remove(nameOf(e.ingress))
		t.set(e.ingress)
	}
}

// replaceIngresses takes over all Ingresses.
func (t *routeTranslator) replaceIngresses(all []*networkingv1.Ingress) {
	there := make(map[name]bool, len(all))
	for _, ingress := range all {
		there[nameOf(ingress)] = true
		t.set(ingress)
	}
	for n := range t.entries {
		if !there[n] {
			t.remove(n)
		}
	}
}

// set takes over an Ingress that has come or changed.
func (t *routeTranslator) set(ingress *networkingv1.Ingress) {
	n := nameOf(ingress)
	last := t.entries[n]
	if last != nil && last.ingress == ingress {
		return
	}
	_, moved := t.moved[n]
	t.remove(n)
	e := &entry{ingress: ingress}
	e.member = t.class.serves(ingress, &e.problems)
	if last != nil && last.member && e.member && byAge(last.ingress, ingress) == 0 {
		if !moved {
			delete(t.moved, n) // it keeps its place
		}
	} else if e.member {
		t.moved[n] = struct{}{}
	}
	// Of those that are not served it is kept that they are there: the class may change.
	t.entries[n] = e
	t.changed.problems = t.changed.problems || len(e.problems) > 0
	if !e.member {
		return
	}
	e.hosts, e.wants = hostsNamed(ingress), wantedBy(ingress)
	for _, r := range e.wants {
		t.wants.add(r, struct{}{})
	}
	if last != nil && last.member {
		e.refusal = last.refusal // until it is weighed
	}
	if t.budgets.add(e); e.refusal == "" {
		t.admit(e)
	}
}

// admit has an Ingress translated.
func (t *routeTranslator) admit(e *entry) {
	for _, host := range e.hosts {
		if t.named[host] == nil {
			t.named[host] = map[*entry]struct{}{}
		}
		t.named[host][e] = struct{}{}
	}
	t.dirty[e] = struct{}{}
}

// expel takes back what an Ingress has brought. The rest of its group is to be translated again.
func (t *routeTranslator) expel(e *entry) {
	for _, host := range e.hosts {
		if delete(t.named[host], e); len(t.named[host]) == 0 {
			delete(t.named, host)
		}
	}
	t.dissolve(e.group)
	delete(t.dirty, e)
}

// remove forgets an Ingress. The rest of its group is to be translated again.
func (t *routeTranslator) remove(n name) {
	e := t.entries[n]
	if e == nil {
		return
	}
	delete(t.entries, n)
	t.changed.problems = t.changed.problems || len(e.problems) > 0 || e.refusal != ""
	if !e.member {
		return
	}
	t.moved[n] = struct{}{}
	for _, r := range e.wants {
		t.wants.drop(r)
	}
	t.budgets.remove(e)
	t.expel(e)
}

// touch notes that an object has come, gone or changed that Ingresses may refer to. Without a
// name that is said of all objects of the kind in the namespace.
func (t *routeTranslator) touch(r reference) {
	t.budgets.touch(r)
	if _, used := t.controllerUses[r]; used {
		t.controllerStale = true
	}
	for g := range t.users[r] {
		t.dissolve(g)
	}
	if r.name.name != "" {
		return
	}
	for used, groups := range t.users {
		if used.kind == r.kind && used.name.namespace == r.name.namespace {
			for g := range groups {
				t.dissolve(g)
			}
		}
	}
}

// hostsNamed returns every host about which an Ingress can say anything, each once, whether
// it is valid or not.
func hostsNamed(ingress *networkingv1.Ingress) (hosts []string) {
	add := func(host string) {
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	if len(ingress.Spec.Rules) == 0 {
		add("")
	}
	www := ingress.Annotations[ingressnginx.Prefix+"from-to-www-redirect"] != ""
	for _, rule := range ingress.Spec.Rules {
		add(rule.Host)
		if bare, is := strings.CutPrefix(rule.Host, "www."); www && is {
			add(bare)
		} else if www {
			add("www." + rule.Host)
		}
	}
	for _, tls := range ingress.Spec.TLS {
		for _, host := range tls.Hosts {
			add(host)
		}
	}
	for _, alias := range ingressnginx.Aliases(ingress.Annotations) {
		add(alias)
	}
	return hosts
}

// dissolve takes back what a group has brought. Its members are to be translated again.
func (t *routeTranslator) dissolve(g *group) {
	if g == nil {
		return
	}
	if g == t.unnamed {
		t.unnamed = nil
	}
	if g == t.gatewayGroup {
		t.gatewayGroup = nil
	}
	for _, e := range g.members {
		e.group = nil
		if t.entries[nameOf(e.ingress)] == e {
			t.dirty[e] = struct{}{}
		}
	}
	for host := range g.bases {
		t.setBase(host, nil)
	}
	for key := range g.keys {
		if t.keys.drop(key) {
			t.changed.keys[key] = struct{}{}
		}
	}
	for id := range g.certificates {
		t.certificates.remember(t.changed.certificates, id)
		t.certificates.drop(id)
	}
	for id := range g.authorities {
		t.authorities.remember(t.changed.authorities, id)
		t.authorities.drop(id)
	}
	for r := range g.used {
		if delete(t.users[r], g); len(t.users[r]) == 0 {
			delete(t.users, r)
			if r.kind == "Secret" {
				t.unused = append(t.unused, r)
			}
		}
	}
	t.changed.problems = t.changed.problems || len(g.problems) > 0
}

func (t *routeTranslator) setBase(host string, b *base) {
	t.changed.hosts[host] = struct{}{}
	for other := range t.below[host] { // they may have the wildcard's certificate
		t.changed.hosts[other] = struct{}{}
	}
	if host == "" {
		for other := range t.tlsOnly {
			t.changed.hosts[other] = struct{}{}
			for below := range t.below[other] { // whether there is such a wildcard may depend on it
				t.changed.hosts[below] = struct{}{}
			}
		}
	}
	wildcard := wildcardOf(host)
	if b == nil {
		delete(t.bases, host)
		delete(t.tlsOnly, host)
		if delete(t.below[wildcard], host); len(t.below[wildcard]) == 0 {
			delete(t.below, wildcard)
		}
		return
	}
	t.bases[host] = b
	if t.below[wildcard] == nil {
		t.below[wildcard] = map[string]struct{}{}
	}
	t.below[wildcard][host] = struct{}{}
	if b.routes == nil {
		t.tlsOnly[host] = struct{}{}
	}
}

// update translates what has changed.
func (t *routeTranslator) update() {
	t.renewController()
	t.settleBudgets()
	// A group that has a host of a dirty Ingress becomes one with it.
	work := slices.Collect(maps.Keys(t.dirty))
	for len(work) > 0 {
		e := work[len(work)-1]
		work = work[:len(work)-1]
		for _, host := range e.hosts {
			for other := range t.named[host] {
				if g := other.group; g != nil {
					t.dissolve(g)
					work = append(work, g.members...)
				}
			}
		}
	}
	for len(t.dirty) > 0 {
		var first *entry
		for first = range t.dirty {
			break
		}
		t.translate(t.connected(first))
	}
	if t.unnamed == nil {
		t.translateUnnamed()
	}
	if t.gatewayGroup == nil {
		t.translateGateway()
	}
	for host := range t.changed.hosts {
		t.finish(host)
	}
	for _, r := range t.unused {
		if len(t.users[r]) == 0 { // nobody has named it again
			t.read.forget(r.name)
		}
	}
	t.unused = nil
}

// finish settles what of a host depends on others.
func (t *routeTranslator) finish(host string) {
	f := finishBoth(host, t.bases, meeting{options: t.options, created: t.createdIngress}, &t.gateway)
	last, was := t.hosts[host]
	if f.published {
		t.hosts[host] = f.host
	} else {
		delete(t.hosts, host)
	}
	if was == f.published && reflect.DeepEqual(last, f.host) {
		delete(t.changed.hosts, host) // what was touched says the same about it as before
	}
	if !slices.Equal(f.found, t.told[host]) {
		t.changed.problems = true
	}
	if delete(t.told, host); len(f.found) > 0 {
		t.told[host] = f.found
	}
}

func (t *routeTranslator) createdIngress(ref model.ObjectRef) (at time.Time) {
	if e := t.entries[name{ref.Namespace, ref.Name}]; e != nil {
		at = e.ingress.CreationTimestamp.Time
	}
	return at
}

// connected takes an Ingress and all that are of one group with it from those that are dirty.
func (t *routeTranslator) connected(first *entry) (members []*entry) {
	delete(t.dirty, first)
	members = []*entry{first}
	for i := 0; i < len(members); i++ {
		for _, host := range members[i].hosts {
			for other := range t.named[host] {
				if _, dirty := t.dirty[other]; dirty {
					delete(t.dirty, other)
					members = append(members, other)
				}
			}
		}
	}
	return members
}

// translate makes a group of Ingresses that have hosts in common.
func (t *routeTranslator) translate(members []*entry) {
	slices.SortFunc(members, func(a, b *entry) int { return byAge(a.ingress, b.ingress) })
	ingresses := make([]*networkingv1.Ingress, len(members))
	for i, e := range members {
		ingresses[i] = e.ingress
	}
	part := newPartOf(Objects{Classes: t.classes}, t.options, newLookup(t.store), t.read)
	part.class, part.strict, part.controller = t.class, t.strict, t.controller
	part.routes(ingresses)
	g := groupOf(part)
	g.members = members
	for _, e := range members {
		e.group = g
	}
	t.add(g)
}

// translateUnnamed translates what no Ingress names.
func (t *routeTranslator) translateUnnamed() {
	part := newPartOf(t.store.Unnamed(), t.options, newLookup(t.store), t.read)
	g := general{service: part.classDefault(), certificate: part.defaultCertificate(), defence: part.defence(), hsts: hstsOf(t.controller), forwarded: forwardedForOf(t.controller)}
	keys := maps.Clone(part.keys) // proxies know nothing of services to which the kernel forwards
	g.l4 = part.l4()
	g.published, g.findings = l4Statuses(g.l4, part.found)
	part.keys = keys
	t.changed.general = t.changed.general || !reflect.DeepEqual(t.general, g)
	t.general = g
	t.unnamed = groupOf(part)
	t.add(t.unnamed)
}

// groupOf returns what a translation has made.
func groupOf(part *translation) *group {
	return &group{
		bases: part.bases(), keys: part.keys, certificates: part.certificates, authorities: part.authorities,
		used: part.lookup.used, problems: part.found.sorted(),
	}
}

// add publishes what a group has brought.
func (t *routeTranslator) add(g *group) {
	for host, b := range g.bases {
		t.setBase(host, b)
	}
	for key := range g.keys {
		if t.keys.add(key, struct{}{}) {
			t.changed.keys[key] = struct{}{}
		}
	}
	for id, c := range g.certificates {
		t.certificates.remember(t.changed.certificates, id)
		t.certificates.add(id, c)
	}
	for id, a := range g.authorities {
		t.authorities.remember(t.changed.authorities, id)
		t.authorities.add(id, a)
	}
	for r := range g.used {
		if t.users[r] == nil {
			t.users[r] = map[*group]struct{}{}
		}
		t.users[r][g] = struct{}{}
	}
	t.changed.problems = t.changed.problems || len(g.problems) > 0
}

// takeChanged returns what has changed since it was last called.
func (t *routeTranslator) takeChanged() changed {
	c := t.changed
	t.changed = newChanged()
	c.served = len(t.moved) > 0
	c.trust = t.certificates.differs(c.certificates, equalCertificates) || t.authorities.differs(c.authorities, equalAuthorities)
	return c
}

func equalCertificates(a, b model.Certificate) bool {
	return bytes.Equal(a.Chain, b.Chain) && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.OCSP, b.OCSP)
}

func equalAuthorities(a, b model.Authority) bool {
	return bytes.Equal(a.Certificates, b.Certificates) && bytes.Equal(a.Revoked, b.Revoked)
}

// problems returns those of all Ingresses and classes, in no order.
func (t *routeTranslator) problems() (all problems) {
	all = slices.Concat(t.classProblems, t.controllerProblems)
	for _, g := range []*group{t.unnamed, t.gatewayGroup} {
		if g != nil {
			all = append(all, g.problems...)
		}
	}
	for _, found := range t.told {
		all = append(all, found...)
	}
	seen := map[*group]struct{}{}
	for _, e := range t.entries {
		all = append(all, e.problems...)
		if e.refusal != "" {
			all.add(refOf("Ingress", e.ingress), model.Refused, ReasonBudget, e.refusal)
		}
		if g := e.group; g != nil && len(g.problems) > 0 {
			if _, twice := seen[g]; !twice {
				seen[g] = struct{}{}
				all = append(all, g.problems...)
			}
		}
	}
	return all
}

// publish brings served up to date. A few Ingresses that have come or gone are put in or taken out:
// sorting all of them was most of what a change cost.
func (t *routeTranslator) publish() {
	const few = 64
	if len(t.moved) > few {
		t.served = t.publishedAnew()
		clear(t.moved)
		return
	}
	out := make([]model.Published, 0, len(t.served)+len(t.moved))
	for _, p := range t.served {
		if _, moved := t.moved[name{p.Object.Namespace, p.Object.Name}]; !moved {
			out = append(out, p)
		}
	}
	for n := range t.moved {
		e := t.entries[n]
		if e == nil || !e.served() {
			continue
		}
		i, _ := slices.BinarySearchFunc(out, e.ingress, func(p model.Published, ingress *networkingv1.Ingress) int {
			return byAge(t.entries[name{p.Object.Namespace, p.Object.Name}].ingress, ingress)
		})
		out = slices.Insert(out, i, t.published(e))
	}
	t.served = out
	clear(t.moved)
}

func (t *routeTranslator) publishedAnew() []model.Published {
	var served []*entry
	for _, e := range t.entries {
		if e.served() {
			served = append(served, e)
		}
	}
	slices.SortFunc(served, func(a, b *entry) int { return byAge(a.ingress, b.ingress) })
	out := make([]model.Published, len(served))
	for i, e := range served {
		out[i] = t.published(e)
	}
	return out
}

func (t *routeTranslator) published(e *entry) model.Published {
	return model.Published{Object: refOf("Ingress", e.ingress), Addresses: t.options.Addresses}
}

// served reports whether an Ingress is of the class, and its namespace has room for it.
func (e *entry) served() bool { return e.member && e.refusal == "" }

// mergeHosts returns a sorted list of hosts in which those that have changed are replaced.
func (t *routeTranslator) mergeHosts(last []model.Host, changed map[string]struct{}) []model.Host {
	if len(changed) == 0 {
		return last
	}
	names := slices.Sorted(maps.Keys(changed))
	out := make([]model.Host, 0, len(t.hosts))
	for i := 0; i < len(last) || len(names) > 0; {
		switch {
		case len(names) == 0:
			return append(out, last[i:]...)
		case i < len(last) && last[i].Name < names[0]:
			out = append(out, last[i])
			i++
			continue
		case i < len(last) && last[i].Name == names[0]:
			i++
		}
		if host, there := t.hosts[names[0]]; there {
			out = append(out, host)
		}
		names = names[1:]
	}
	return out
}
