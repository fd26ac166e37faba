// Package gateway turns objects of Gateway API into the desired state (userspace/model), and says
// in conditions what became of each.
//
// Translate is pure: objects in, hosts, services, certificates, findings and problems out, and the
// same result whatever the order of the input. It is a second vocabulary beside Ingress and no
// second engine: package kube joins its hosts with those of Ingresses, and everything behind the
// model knows neither.
//
// What is not supported is refused on the object that asks for it, with the reason that the
// specification has for it, and is never served in part: a route that is refused keeps its matches
// and answers 500, since without it requests would go to a less specific route that never asked
// for them.
package gateway

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/kerngate/kerngate/userspace/model"
)

// Controller is what GatewayClass.spec.controllerName says of the classes served here.
const Controller = "kerngate.dev/gateway-controller"

// Objects is everything of Gateway API that a translation looks at, and the labels of namespaces.
// The objects are only read.
type Objects struct {
	Classes    []*gatewayv1.GatewayClass
	Gateways   []*gatewayv1.Gateway
	Routes     []*gatewayv1.HTTPRoute
	Grants     []*gatewayv1.ReferenceGrant
	Namespaces []*corev1.Namespace
}

// Empty reports whether there is nothing that a translation could say anything about.
func (o *Objects) Empty() bool { return len(o.Classes)+len(o.Gateways)+len(o.Routes) == 0 }

// Cluster finds the objects to which those of Gateway API refer.
type Cluster interface {
	Service(types.NamespacedName) *corev1.Service // nil: there is none
	// Certificate returns the pair of a Secret. An error never holds a byte of it.
	Certificate(types.NamespacedName) (model.Certificate, error)
}

// Options of a translation.
type Options struct {
	Listeners []model.Listener // that Gateways may ask for
	Addresses []netip.Addr     // the ingress addresses, sorted
}

// Result is what a translation has made.
type Result struct {
	Hosts        map[string]model.Host // by Name
	Services     map[model.ServiceKey]struct{}
	Certificates map[string]model.Certificate // by id
	Published    []model.Published            // Gateways, the oldest first
	Findings     []model.Finding              // sorted
	Attached     []model.Attached             // of listeners of Gateways, sorted
	Problems     []model.Problem
	// Created is when each Gateway and HTTPRoute was made. Of what two objects claim the older wins.
	Created map[model.ObjectRef]time.Time
}

// Translate turns objects into hosts and says what became of them.
func Translate(objects Objects, c Cluster, o Options) Result {
	t := &translation{
		objects: objects, cluster: c, options: o,
		gateways: map[types.NamespacedName]*gateway{}, labels: map[string]map[string]string{},
		out: Result{
			Hosts: map[string]model.Host{}, Services: map[model.ServiceKey]struct{}{}, Certificates: map[string]model.Certificate{},
			Created: map[model.ObjectRef]time.Time{},
		},
	}
	for _, n := range objects.Namespaces {
		t.labels[n.Name] = n.Labels
	}
	t.readClasses()
	t.readGateways()
	t.readRoutes()
	t.publishHosts()
	t.reportGateways()
	slices.SortFunc(t.out.Findings, model.Finding.Compare)
	slices.SortFunc(t.out.Attached, model.Attached.Compare)
	return t.out
}

// translation is the work in progress of Translate.
type translation struct {
	objects Objects
	cluster Cluster
	options Options

	classes  map[string]bool // of this controller: whether it is accepted
	gateways map[types.NamespacedName]*gateway
	sorted   []*gateway   // the oldest first
	routes   []*httpRoute // the oldest first
	labels   map[string]map[string]string
	out      Result
}

// readClasses judges the classes of this controller. Those of others are nobody's business here.
func (t *translation) readClasses() {
	t.classes = map[string]bool{}
	for _, class := range t.objects.Classes {
		if class.Spec.ControllerName != Controller {
			continue
		}
		f := model.Finding{Object: refOf("GatewayClass", class), Generation: class.Generation, Condition: string(gatewayv1.GatewayClassConditionStatusAccepted),
			True: true, Reason: string(gatewayv1.GatewayClassReasonAccepted), Message: "Gateways of this class are served"}
		if p := class.Spec.ParametersRef; p != nil {
			f.True, f.Reason = false, string(gatewayv1.GatewayClassReasonInvalidParameters)
			f.Message = fmt.Sprintf("spec.parametersRef names %s %s: this controller has no parameters, remove it", p.Kind, p.Name)
			t.problem(f.Object, model.Refused, f.Reason, f.Message)
		}
		t.classes[class.Name] = f.True
		t.out.Findings = append(t.out.Findings, f)
	}
}

func (t *translation) problem(object model.ObjectRef, severity model.Severity, reason, message string) {
	p := model.Problem{Object: object, Severity: severity, Reason: reason, Message: message}
	if !slices.Contains(t.out.Problems, p) {
		t.out.Problems = append(t.out.Problems, p)
	}
}

// SecretNamespaces returns the namespaces whose Secrets must be known before a translation: those
// that listeners of Gateways of this controller name, as far as they may.
func SecretNamespaces(objects Objects) map[string]bool {
	out := map[string]bool{}
	ours := map[string]bool{}
	for _, class := range objects.Classes {
		ours[class.Name] = class.Spec.ControllerName == Controller
	}
	t := &translation{objects: objects}
	for _, g := range objects.Gateways {
		if !ours[string(g.Spec.GatewayClassName)] {
			continue
		}
		for i := range g.Spec.Listeners {
			if g.Spec.Listeners[i].TLS == nil {
				continue
			}
			for _, ref := range g.Spec.Listeners[i].TLS.CertificateRefs {
				n := types.NamespacedName{Namespace: namespaceOr(ref.Namespace, g.Namespace), Name: string(ref.Name)}
				if isCore(ref.Group, ref.Kind, "Secret") && t.granted("Gateway", g.Namespace, "Secret", n) {
					out[n.Namespace] = true
				}
			}
		}
	}
	return out
}

// granted reports whether an object of a namespace may name one of another: a ReferenceGrant beside
// the latter says so.
func (t *translation) granted(kind, from, toKind string, to types.NamespacedName) bool {
	if from == to.Namespace {
		return true
	}
	for _, g := range t.objects.Grants {
		if g.Namespace != to.Namespace || g.DeletionTimestamp != nil {
			continue
		}
		mayAsk := slices.ContainsFunc(g.Spec.From, func(f gatewayv1.ReferenceGrantFrom) bool {
			return f.Group == gatewayv1.GroupName && string(f.Kind) == kind && string(f.Namespace) == from
		})
		isGiven := slices.ContainsFunc(g.Spec.To, func(t gatewayv1.ReferenceGrantTo) bool {
			return t.Group == "" && string(t.Kind) == toKind && (t.Name == nil || *t.Name == "" || string(*t.Name) == to.Name)
		})
		if mayAsk && isGiven {
			return true
		}
	}
	return false
}

func namespaceOr(n *gatewayv1.Namespace, own string) string {
	if n == nil || *n == "" {
		return own
	}
	return string(*n)
}

// isCore reports whether a reference names a kind of the core group, which is what it does if it
// names none.
func isCore(group *gatewayv1.Group, kind *gatewayv1.Kind, want string) bool {
	return (group == nil || *group == "") && (kind == nil || string(*kind) == want)
}

func refOf(kind string, o metav1.Object) model.ObjectRef {
	return model.ObjectRef{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// byAge orders objects as the specification settles conflicts: the oldest first, and of the same
// second by namespace and name.
func byAge(a, b metav1.Object) int {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	return cmp.Or(at.Compare(bt.Time), cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}
