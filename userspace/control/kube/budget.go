package kube

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
)

// The configuration of all namespaces is kept by every agent and every proxy, and a change of it is
// sent to all of them. Options.NamespaceBytes bounds what the Ingresses of one namespace may add:
// those that do not fit beside the older ones are refused by name, and the others are served.
//
// An Ingress counts by what it says itself and by the objects that it names, not by what becomes of
// it: so whether it fits does not depend on other namespaces, and routeTranslator settles that before
// it makes groups. A host needs no budget of its own: who adds paths to it pays for them.

// DefaultNamespaceBytes is room for some 10,000 Ingresses of the usual size.
const DefaultNamespaceBytes = 32 << 20

// weigh returns the bytes of configuration that an Ingress stands for. Policies are made of
// annotations for each host, so these count once for each.
func weigh(ingress *networkingv1.Ingress, store Store) int {
	policy, rest := 0, ingress.Spec.Size()
	for key, value := range ingress.Annotations {
		if strings.HasPrefix(key, ingressnginx.Prefix) || strings.HasPrefix(key, vocabularyOwn) {
			policy += len(key) + len(value)
		}
	}
	for _, r := range weighed(ingress) {
		switch r.kind {
		case "ConfigMap":
			if c, _ := store.ConfigMap(r.name.namespaced()); c != nil {
				for key, value := range c.Data {
					policy += len(key) + len(value)
				}
			}
		case "Secret":
			if s, _ := store.Secret(r.name.namespaced()); s != nil {
				for key, value := range s.Data {
					rest += len(key) + len(value)
				}
			}
		}
	}
	return rest + policy*len(hostsNamed(ingress))
}

// weighed returns the objects whose content becomes configuration with an Ingress, each once.
func weighed(ingress *networkingv1.Ingress) (out []reference) {
	add := func(kind, object string) {
		if i := strings.LastIndexByte(object, '/'); i >= 0 { // with its namespace, which must be this one
			object = object[i+1:]
		}
		r := reference{kind, name{ingress.Namespace, object}}
		if object != "" && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	for _, tls := range ingress.Spec.TLS {
		add("Secret", tls.SecretName)
	}
	for _, key := range secretAnnotations {
		add("Secret", ingress.Annotations[key])
	}
	for _, config := range ingressnginx.ConfigMaps(ingress.Namespace, ingress.Annotations) {
		add("ConfigMap", config)
	}
	return out
}

// withinBudget returns the Ingresses that fit, of all that are served, the oldest first.
func (t *translation) withinBudget(served []*networkingv1.Ingress) []*networkingv1.Ingress {
	if t.options.NamespaceBytes <= 0 {
		return served
	}
	used := map[string]int{}
	return slices.DeleteFunc(served, func(ingress *networkingv1.Ingress) bool {
		weight := weigh(ingress, t.lookup.store)
		refusal := t.options.judge(ingress.Namespace, weight, used[ingress.Namespace])
		if refusal != "" {
			t.found.add(refOf("Ingress", ingress), model.Refused, ReasonBudget, refusal)
			return true
		}
		used[ingress.Namespace] += weight
		return false
	})
}

// ReasonBudget is the reason of an Ingress that does not fit beside the older ones of its namespace.
const ReasonBudget = "NamespaceBudget"

// judge says why an Ingress is not served beside older ones that use so many bytes; "" if it is.
func (o *Options) judge(namespace string, weight, used int) string {
	left := o.NamespaceBytes - used
	if weight <= left {
		return ""
	}
	return fmt.Sprintf("it and the objects that it names come to %d bytes of configuration, and older Ingresses leave %d of the %d that namespace %s may have: it is not served. Remove what is not needed (large ConfigMaps, Secrets and snippets count once for each host), or have the agent's --namespace-config-bytes raised",
		weight, left, o.NamespaceBytes, namespace)
}

// budgets are kept for a routeTranslator.
type budgets struct {
	accounts map[string]*account // by namespace
	users    map[reference]map[*entry]struct{}
	reweigh  map[*entry]struct{}
	stale    map[string]struct{} // namespaces of which an Ingress has come or gone
}

type account struct {
	members map[*entry]struct{}
	total   int // weight of them
	refused int
}

func newBudgets() budgets {
	return budgets{map[string]*account{}, map[reference]map[*entry]struct{}{}, map[*entry]struct{}{}, map[string]struct{}{}}
}

// add notes an Ingress of the class, to be weighed.
func (b *budgets) add(e *entry) {
	namespace := e.ingress.Namespace
	if b.accounts[namespace] == nil {
		b.accounts[namespace] = &account{members: map[*entry]struct{}{}}
	}
	b.accounts[namespace].members[e] = struct{}{}
	if e.refusal != "" {
		b.accounts[namespace].refused++
	}
	e.weighed = weighed(e.ingress)
	for _, r := range e.weighed {
		if b.users[r] == nil {
			b.users[r] = map[*entry]struct{}{}
		}
		b.users[r][e] = struct{}{}
	}
	b.reweigh[e] = struct{}{}
}

func (b *budgets) remove(e *entry) {
	namespace := e.ingress.Namespace
	a := b.accounts[namespace]
	if a == nil {
		return
	}
	if delete(a.members, e); len(a.members) == 0 {
		delete(b.accounts, namespace)
	}
	a.total -= e.weight
	if e.refusal != "" {
		a.refused--
	}
	for _, r := range e.weighed {
		if delete(b.users[r], e); len(b.users[r]) == 0 {
			delete(b.users, r)
		}
	}
	delete(b.reweigh, e)
	b.stale[namespace] = struct{}{}
}

// touch notes that an object may weigh something else now. Without a name that is said of all of
// the kind in the namespace.
func (b *budgets) touch(r reference) {
	for e := range b.users[r] {
		b.reweigh[e] = struct{}{}
	}
	if r.name.name != "" {
		return
	}
	for used, entries := range b.users {
		if used.kind == r.kind && used.name.namespace == r.name.namespace {
			for e := range entries {
				b.reweigh[e] = struct{}{}
			}
		}
	}
}

// settleBudgets refuses the Ingresses that do not fit any more, and takes back those that do again.
// While all of a namespace fit, as usual, a change costs only what has changed.
func (t *routeTranslator) settleBudgets() {
	b := &t.budgets
	if t.options.NamespaceBytes <= 0 {
		clear(b.reweigh)
		clear(b.stale)
		return
	}
	for e := range b.reweigh {
		weight := weigh(e.ingress, t.store)
		b.accounts[e.ingress.Namespace].total += weight - e.weight
		e.weight = weight
		b.stale[e.ingress.Namespace] = struct{}{}
	}
	clear(b.reweigh)
	for namespace := range b.stale {
		a := b.accounts[namespace]
		if a == nil || a.total <= t.options.NamespaceBytes && a.refused == 0 {
			continue
		}
		used := 0
		for _, e := range a.byAge() {
			refusal := t.options.judge(namespace, e.weight, used)
			if refusal == "" {
				used += e.weight
			}
			if refusal != e.refusal {
				t.refuse(a, e, refusal)
			}
		}
	}
	clear(b.stale)
}

func (a *account) byAge() []*entry {
	out := make([]*entry, 0, len(a.members))
	for e := range a.members {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *entry) int { return byAge(a.ingress, b.ingress) })
	return out
}

// refuse has an Ingress served no more, or again if there is no reason.
func (t *routeTranslator) refuse(a *account, e *entry, refusal string) {
	t.changed.problems = true
	was := e.refusal
	e.refusal = refusal
	switch {
	case was == "":
		a.refused++
		t.expel(e)
	case refusal == "":
		a.refused--
		t.admit(e)
	default:
		return
	}
	t.moved[nameOf(e.ingress)] = struct{}{}
}
