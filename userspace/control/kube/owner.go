package kube

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// A host belongs to the namespace of the oldest Ingress that has a rule for it. Whoever may
// write Ingresses in another namespace can publish paths beside it at most: what holds for
// all of a host (certificates, what clients must show, cipher suites, whether paths are
// expressions, aliases) is said by its owner alone, and a canary takes requests from paths of
// its own namespace alone.

// annotationShareHost, on an Ingress of the namespace that owns a host: other namespaces that
// may publish paths of it, by commas, or "*".
const annotationShareHost = vocabularyOwn + "share-host-with"

// SharedHosts says what becomes of paths that an Ingress adds to a host of another namespace
// which has not named it as a guest.
type SharedHosts uint8

const (
	SharedHostsWarn  SharedHosts = iota // served, and both sides are told
	SharedHostsAllow                    // served
	SharedHostsDeny                     // not served
)

// ParseSharedHosts reads a SharedHosts.
func ParseSharedHosts(text string) (SharedHosts, error) {
	i := slices.Index([]string{"warn", "allow", "deny"}, text)
	if i < 0 {
		return 0, fmt.Errorf("%q is none of allow, warn and deny", text)
	}
	return SharedHosts(i), nil
}

// standing is what an Ingress may do at a host.
type standing uint8

const (
	owning   standing = iota // of the namespace to which the host belongs, or nobody has it
	guest                    // may publish paths
	stranger                 // may publish paths, and both sides are told
	shutOut                  // nothing
)

// readOwners notes whose each host is. Canaries own nothing, since they publish no path by
// themselves.
func (t *translation) readOwners(served []*networkingv1.Ingress) {
	for _, ingress := range served {
		if t.policyOf(ingress).rules.Canary != nil {
			continue
		}
		for _, host := range t.claimedHosts(ingress) {
			if _, owned := t.owners[host]; !owned {
				t.owners[host] = refOf("Ingress", ingress)
			}
			if t.owners[host].Namespace == ingress.Namespace {
				t.guests[host] = append(t.guests[host], t.guestsOf(ingress)...)
			}
		}
	}
}

// claimedHosts returns the hosts at which an Ingress publishes anything: any host ("") if it has
// no rules but a default backend or locations.
func (t *translation) claimedHosts(ingress *networkingv1.Ingress) []string {
	if len(ingress.Spec.Rules) == 0 && ingress.Spec.DefaultBackend == nil && len(t.policyOf(ingress).rules.ServerLocations) == 0 {
		return nil
	}
	return t.publishedHosts(ingress)
}

// guestsOf reads annotationShareHost.
func (t *translation) guestsOf(ingress *networkingv1.Ingress) (namespaces []string) {
	for text := range strings.SplitSeq(ingress.Annotations[annotationShareHost], ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if text != "*" && !rule.HostName(text) {
			t.found.add(refOf("Ingress", ingress), model.Warning, "AnnotationInvalid", fmt.Sprintf("annotation %s: %q is not a namespace; it is ignored", annotationShareHost, rule.Shorten(text)))
			continue
		}
		namespaces = append(namespaces, text)
	}
	return namespaces
}

func (t *translation) standing(ingress *networkingv1.Ingress, host string) standing {
	owner, owned := t.owners[host]
	switch {
	case !owned || owner.Namespace == ingress.Namespace:
		return owning
	case t.options.SharedHosts == SharedHostsAllow || slices.Contains(t.guests[host], ingress.Namespace) || slices.Contains(t.guests[host], "*"):
		return guest
	case t.options.SharedHosts == SharedHostsDeny:
		return shutOut
	}
	return stranger
}

// tellShared tells both sides of paths at a host of another namespace.
func (t *translation) tellShared(served []*networkingv1.Ingress) {
	strangers := map[string]map[string]struct{}{}
	for _, ingress := range served {
		ref := refOf("Ingress", ingress)
		if t.policyOf(ingress).rules.Canary != nil {
			continue // addCanaries
		}
		for _, host := range t.claimedHosts(ingress) {
			switch t.standing(ingress, host) {
			case shutOut:
				t.found.add(ref, model.Refused, "HostOwned", fmt.Sprintf("host %q belongs to another namespace, which has an older Ingress for it: nothing of this Ingress is served there, unless the owner names namespace %s in its annotation %s",
					host, ref.Namespace, annotationShareHost))
			case stranger:
				t.found.add(ref, model.Warning, "HostShared", fmt.Sprintf("host %q belongs to another namespace, which has an older Ingress for it: paths of this one are served beside its own until --shared-hosts=deny is set; the owner can name namespace %s in its annotation %s",
					host, ref.Namespace, annotationShareHost))
				if strangers[host] == nil {
					strangers[host] = map[string]struct{}{}
				}
				strangers[host][ref.Namespace] = struct{}{}
			}
		}
	}
	for host, namespaces := range strangers {
		t.found.add(t.owners[host], model.Warning, "HostShared", fmt.Sprintf("host %q: Ingresses of other namespaces add paths to it (%s): name those that may in the annotation %s; the agent's --shared-hosts=deny keeps the others out",
			host, firstOf(slices.Sorted(maps.Keys(namespaces)), maxLineProblems), annotationShareHost))
	}
}

// mayExpress says why an Ingress cannot have an expression as path at a host of another
// namespace: one that begins with no segment of its own could match every path of the host,
// and long ones are tried first.
func mayExpress(prefix string, complete bool) error {
	if complete || len(strings.Trim(prefix, "/")) > 0 {
		return nil
	}
	return fmt.Errorf("at a host of another namespace an expression must begin with a literal segment such as /app, so that it matches no paths but those below it")
}

// naming returns how one object is told of another: by name if both are of a namespace, for
// what others call their objects is not everybody's to know.
func naming(told, other model.ObjectRef) string {
	if told.Namespace == other.Namespace {
		return other.String()
	}
	return "an " + other.Kind + " of another namespace"
}

// settles reports whether an Ingress may say what holds for all of a host. A host that has
// no rule is its who first names it in spec.tls.
func (t *translation) settles(ref model.ObjectRef, host string) bool {
	owner, owned := t.owners[host]
	if h := t.tls[host]; !owned && h != nil {
		owner, owned = h.source, true
	}
	return !owned || owner.Namespace == ref.Namespace
}

// closedFor returns the policy of routes whose Ingress asks for certificates of clients at a
// host where it has no say: without one nobody gets in.
func closedFor(host string) *model.Policy {
	return &model.Policy{Access: &model.Access{Closed: fmt.Sprintf("auth-tls-secret: host %q belongs to another namespace", host)},
		Origins: model.Origins{model.RuleClosed: {annotationAuthTLSSecret}}}
}

// finished is a host as it is published, or why it is not.
type finished struct {
	host      model.Host
	published bool
	found     problems
}

// above returns the less specific host that would serve a host's requests if nobody named it: the
// wildcard, else any. nil: there is none.
func above(host string, all map[string]*base) (string, *base) {
	for _, less := range []string{wildcardOf(host), ""} {
		if b := all[less]; b != nil && less != host && isPublished(less, all) {
			return less, b
		}
	}
	return "", nil
}

// isPublished reports whether a host that spec.tls alone may name is its author's to name.
func isPublished(host string, all map[string]*base) bool {
	b := all[host]
	if b.routes != nil || host == "" {
		return true
	}
	_, less := above(host, all)
	return less == nil || less.owner().Namespace == b.owner().Namespace
}

// owner returns the Ingress by which the host belongs to its namespace.
func (b *base) owner() model.ObjectRef {
	if b.ownedBy != (model.ObjectRef{}) || b.tls == nil {
		return b.ownedBy
	}
	return b.tls.source
}

// covering keeps the certificates that are for the host if any is: those of other names would
// only be refused by clients.
func covering(offers []offered) []offered {
	if !slices.ContainsFunc(offers, func(o offered) bool { return o.covers }) {
		return offers
	}
	return slices.DeleteFunc(slices.Clone(offers), func(o offered) bool { return !o.covers })
}

// sortOffers puts what costs the least CPU first.
func sortOffers(offers []offered) {
	slices.SortStableFunc(offers, func(a, b offered) int { return cmp.Compare(preference[a.kind], preference[b.kind]) })
}
