package kube

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/control/gateway"
	"github.com/kerngate/kerngate/userspace/model"
)

// Ingress and Gateway API meet host by host. Of two that claim the same path of a host the older
// object wins, as between two Ingresses, so that nobody takes a path away by an object of the other
// kind, and one path at a time can be moved: the HTTPRoute is made first and begins to serve it when
// the Ingress lets go of it.

// gatewayLookup finds for package gateway what its objects name.
type gatewayLookup struct{ *translation }

func (l gatewayLookup) Service(n types.NamespacedName) *corev1.Service {
	return l.lookup.service(nameFrom(n))
}

func (l gatewayLookup) Certificate(n types.NamespacedName) (model.Certificate, error) {
	c, err := l.certificate(nameFrom(n))
	return c.Certificate, err
}

// translateGateway translates the objects of Gateway API. The translation notes what they use.
func (t *translation) translateGateway(objects gateway.Objects) gateway.Result {
	if objects.Empty() {
		return gateway.Result{}
	}
	r := gateway.Translate(objects, gatewayLookup{t}, gateway.Options{Listeners: t.options.listeners(), Addresses: t.options.Addresses})
	for key := range r.Services {
		t.keys[key] = struct{}{}
	}
	for id, c := range r.Certificates {
		t.certificates[id] = c
	}
	t.found = append(t.found, r.Problems...)
	return r
}

// translateGateway takes over what objects of Gateway API come to, and notes the hosts that differ.
func (t *routeTranslator) translateGateway() {
	part := newPartOf(Objects{}, t.options, newLookup(t.store), t.read)
	r := part.translateGateway(t.store.Gateway())
	for _, hosts := range []map[string]model.Host{t.gateway.Hosts, r.Hosts} {
		for host := range hosts {
			t.changed.hosts[host] = struct{}{} // finish finds out whether it is
		}
	}
	t.changed.statuses = t.changed.statuses || !reflect.DeepEqual(r.Findings, t.gateway.Findings) ||
		!reflect.DeepEqual(r.Attached, t.gateway.Attached) || !reflect.DeepEqual(r.Published, t.gateway.Published)
	t.gateway = r
	t.gatewayGroup = groupOf(part)
	t.add(t.gatewayGroup)
}

// touchGateway notes that objects of Gateway API may have changed.
func (t *routeTranslator) touchGateway() { t.dissolve(t.gatewayGroup) }

// meeting is what is known of a host that both vocabularies may have.
type meeting struct {
	options Options
	created func(model.ObjectRef) time.Time // of an Ingress
	guests  []string                        // namespaces that the owner of the Ingresses lets in
}

// meet puts together what Ingresses and HTTPRoutes publish of one host.
func (m meeting) meet(own finished, other model.Host, result *gateway.Result) finished {
	age := func(ref model.ObjectRef) time.Time {
		if ref.Kind == "Ingress" {
			return m.created(ref)
		}
		return result.Created[ref]
	}
	older := func(a, b model.ObjectRef) bool {
		if c := age(a).Compare(age(b)); c != 0 {
			return c < 0
		}
		return a.Kind == "Ingress" && b.Kind != "Ingress" // of one second
	}
	all := slices.Concat(own.host.Routes, other.Routes)
	// The host belongs to the namespace of the oldest object that publishes anything of it.
	var owner model.ObjectRef
	oldest := map[routeKey]model.ObjectRef{}
	for i := range all {
		key := routeKey{all[i].Path, all[i].Match}
		if first, there := oldest[key]; !there || older(all[i].Source, first) {
			oldest[key] = all[i].Source
		}
		if owner == (model.ObjectRef{}) || older(all[i].Source, owner) {
			owner = all[i].Source
		}
	}
	out := finished{host: model.Host{Name: other.Name, TLS: own.host.TLS}, published: true, found: own.found}
	if out.host.TLS == nil {
		out.host.TLS = other.TLS
	} else if other.TLS != nil && owner.Kind != "Ingress" {
		// Its certificates count. What clients must show is asked for all the same, since pods of
		// Ingresses rely on it.
		joined := *out.host.TLS
		joined.Certificates, joined.Passthrough = other.TLS.Certificates, model.ServiceKey{}
		out.host.TLS = &joined
	}
	closed := own.host.TLS != nil && own.host.TLS.Client != nil
	for _, r := range all {
		key := routeKey{r.Path, r.Match}
		first := oldest[key]
		ingress := r.Source.Kind == "Ingress"
		if (first.Kind == "Ingress") != ingress {
			out.found.add(r.Source, model.Warning, "RouteConflict",
				fmt.Sprintf("%s of host %q is already served by %s, which is older: to move the path, take it away there", matchText(key), other.Name, naming(r.Source, first)))
			continue
		}
		if (owner.Kind == "Ingress") != ingress && owner.Namespace != r.Source.Namespace && !m.admits(&out, owner, r.Source, other.Name) {
			continue
		}
		if !ingress && closed {
			r.ClearText = isChallenge(&r)
			r.RedirectHTTPS = !r.ClearText
		}
		out.host.Routes = append(out.host.Routes, r)
	}
	slices.SortStableFunc(out.host.Routes, comparePrecedence)
	return out
}

// finishBoth returns a host as it is published, whoever publishes it.
func finishBoth(host string, bases map[string]*base, m meeting, result *gateway.Result) (f finished) {
	if b := bases[host]; b != nil {
		f, m.guests = finishHost(host, bases), b.guests
	}
	if other, there := result.Hosts[host]; there {
		f = m.meet(f, other, result)
	}
	return f
}

// admits reports whether an object may publish paths of a host that belongs to one of the other
// vocabulary in another namespace.
func (m meeting) admits(out *finished, owner, guest model.ObjectRef, host string) bool {
	if m.options.SharedHosts == SharedHostsAllow || owner.Kind == "Ingress" && (slices.Contains(m.guests, guest.Namespace) || slices.Contains(m.guests, "*")) {
		return true
	}
	if m.options.SharedHosts == SharedHostsDeny {
		out.found.add(guest, model.Refused, "HostOwned", fmt.Sprintf("host %q belongs to another namespace, which has an older %s for it: nothing of this %s is served there", host, owner.Kind, guest.Kind))
		return false
	}
	out.found.add(guest, model.Warning, "HostShared", fmt.Sprintf("host %q belongs to another namespace, which has an older %s for it: paths of this %s are served beside its own until --shared-hosts=deny is set", host, owner.Kind, guest.Kind))
	return true
}

// sameGateway reports whether two lists hold the same objects, which are never changed in place.
func sameGateway(a, b *gateway.Objects) bool {
	return slices.Equal(a.Classes, b.Classes) && slices.Equal(a.Gateways, b.Gateways) && slices.Equal(a.Routes, b.Routes) &&
		slices.Equal(a.Grants, b.Grants) && slices.Equal(a.Namespaces, b.Namespaces)
}

// ageOf returns when Ingresses were made.
func ageOf(ingresses map[name]time.Time) func(model.ObjectRef) time.Time {
	return func(ref model.ObjectRef) time.Time { return ingresses[name{ref.Namespace, ref.Name}] }
}
