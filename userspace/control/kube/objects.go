// Package kube turns Kubernetes objects into the desired state (userspace/model).
//
// Translate and TranslateService are pure: objects in, model and problems out, no clock,
// no I/O, and the same result whatever the order of the input. A Translator keeps their result
// up to date. Two sources feed it when objects change: userspace/control/cluster from informers,
// userspace/control/folder from a folder of manifests. userspace/control/report writes what was
// found back to a cluster's objects.
//
// Every contradiction between objects has one outcome, described by a scenario file in
// testdata/: the oldest object wins, what is valid is served, a route whose service is
// missing answers 503, and one broken object never takes another one down.
package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/control/gateway"
	"github.com/kerngate/kerngate/userspace/model"
)

// Controller is what IngressClass.spec.controller says of the classes served here.
const Controller = "kerngate.dev/ingress-controller"

// Annotations that are understood.
const (
	AnnotationClass         = "kubernetes.io/ingress.class"                 // on an Ingress: its class, before spec.ingressClassName existed
	annotationDefaultClass  = "ingressclass.kubernetes.io/is-default-class" // on an IngressClass: "true"
	annotationLoadBalancing = "kerngate.dev/load-balancing"                 // on a Service: "p2c", "round-robin" or "ewma"
	annotationSlowStart     = "kerngate.dev/slow-start"                     // on a Service: a duration
	annotationPreferLocal   = "kerngate.dev/prefer-local"                   // on a Service: "true" or "false"
	annotationSkMsg         = "kerngate.dev/sk-msg"                         // on a Service: "true" or "false"
	annotationAddress       = "kerngate.dev/address"                        // on a Service of the load balancer class: its addresses
)

// Objects is everything that a translation looks at. The objects are only read.
type Objects struct {
	Ingresses []*networkingv1.Ingress
	Classes   []*networkingv1.IngressClass
	Services  []*corev1.Service
	Slices    []*discoveryv1.EndpointSlice
	Secrets   []*corev1.Secret
	// ConfigMaps that Options.TCPServices, UDPServices and Defence or annotations name; others are
	// ignored.
	ConfigMaps []*corev1.ConfigMap
	Gateway    gateway.Objects

	// SecretsUnreadable says of namespaces why their Secrets cannot be read.
	SecretsUnreadable map[string]string
	// ConfigMapsUnreadable says of ConfigMaps, "namespace/name", why they cannot be read.
	ConfigMapsUnreadable map[string]string

	published func(*corev1.Service) bool // whether one of type LoadBalancer may be; nil: all. See Choose
}

// Options of a translation.
type Options struct {
	Class             string           // name of the class that is served
	NamespaceSelector labels.Selector  // of the namespaces whose objects are served; nil: all
	WithoutClass      bool             // Ingresses that name no class are served, too
	NoCatchAll        bool             // Ingresses with a default backend are not
	ClassOptional     bool             // the class is served although no IngressClass object exists (a folder of manifests)
	DefaultBackend    model.ServiceKey // answers what no route matches; zero: 404. Port is a name or a number
	AllowExternalName bool             // forward to Services of type ExternalName
	SharedHosts       SharedHosts      // what becomes of paths at hosts of other namespaces
	Node              string           // name of this node, "" if unknown: pods on it are Local
	Algorithm         model.Algorithm  // of Services without kerngate.dev/load-balancing
	PreferLocal       bool             // of Services without kerngate.dev/prefer-local

	Listeners   []model.Listener // of the Ingresses of the class
	Addresses   []netip.Addr     // ingress addresses, for L4 services that name none
	Allowed     []netip.Prefix   // destinations that may be named although they are the node's or the ingress's
	AddressPool []netip.Prefix   // further addresses that L4 services may name
	TCPServices string           // "namespace/name" of a ConfigMap as ingress-nginx's tcp-services; "": none
	UDPServices string           // the same for UDP
	// IngressNginx is "namespace/name" of the ConfigMap of ingress-nginx's controller, whose
	// settings hold here, too; "": none.
	IngressNginx string
	Defence      string // "namespace/name" of a ConfigMap with prefixes to deny and to allow; "": none

	ProxyService  string // "namespace/name" of the Service whose endpoints' nodes share limits of requests; "": none
	FabricService string // "namespace/name" of the Service whose endpoints are the nodes of the fabric; "": none
	// NamespaceBytes bounds the configuration that the Ingresses of one namespace add; 0: nothing does.
	NamespaceBytes int
	// StrictAnnotations leaves Ingresses unserved that have an annotation which is unknown,
	// unsupported or invalid.
	StrictAnnotations bool
	// AllowedResponseHeaders are the fields that the annotation custom-headers may set; none:
	// all but those that are the proxy's own.
	AllowedResponseHeaders []string

	// DefaultCertificate is "namespace/name" of the Secret for names that no Ingress has a
	// certificate for, "" for none.
	DefaultCertificate string

	assume bool // what annotations name and is not there is taken to be there (Judge)
}

// listeners returns those of the options, sorted as the model has them.
func (o *Options) listeners() []model.Listener {
	return slices.SortedFunc(slices.Values(o.Listeners), model.Listener.Compare)
}

// name identifies a namespaced object of a kind.
type name struct{ namespace, name string }

func nameOf(o metav1.Object) name { return name{o.GetNamespace(), o.GetName()} }

func (n name) String() string { return n.namespace + "/" + n.name }

func (n name) namespaced() types.NamespacedName {
	return types.NamespacedName{Namespace: n.namespace, Name: n.name}
}

func nameFrom(n types.NamespacedName) name { return name{n.Namespace, n.Name} }

func refOf(kind string, o metav1.Object) model.ObjectRef {
	return model.ObjectRef{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// byAge orders objects so that the winner of a conflict comes first: the oldest, and of
// the same second the first by namespace and name.
func byAge[O metav1.Object](a, b O) int {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	return cmp.Or(
		at.Time.Compare(bt.Time),
		cmp.Compare(a.GetNamespace(), b.GetNamespace()),
		cmp.Compare(a.GetName(), b.GetName()),
	)
}

// problems gathers what is wrong. Translation reports through it and never logs.
type problems []model.Problem

func (p *problems) add(object model.ObjectRef, severity model.Severity, reason, message string) {
	*p = append(*p, model.Problem{Object: object, Severity: severity, Reason: reason, Message: message})
}

// sorted returns the problems in a stable order, each once.
func (p problems) sorted() []model.Problem {
	slices.SortFunc(p, CompareProblems)
	return slices.Compact(p)
}

// CompareProblems orders problems by object, reason and message.
func CompareProblems(a, b model.Problem) int {
	return cmp.Or(
		cmp.Compare(a.Object.Kind, b.Object.Kind),
		cmp.Compare(a.Object.Namespace, b.Object.Namespace),
		cmp.Compare(a.Object.Name, b.Object.Name),
		cmp.Compare(a.Reason, b.Reason),
		cmp.Compare(a.Message, b.Message),
		cmp.Compare(a.Severity, b.Severity),
	)
}

// ParseServiceKey reads NAMESPACE/NAME:PORT, the port by name or number.
func ParseServiceKey(text string) (model.ServiceKey, error) {
	namespace, rest, ok := strings.Cut(text, "/")
	service, port, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 || namespace == "" || service == "" || port == "" {
		return model.ServiceKey{}, fmt.Errorf("%q is not of the form NAMESPACE/NAME:PORT", text)
	}
	return model.ServiceKey{Namespace: namespace, Name: service, Port: port}, nil
}
