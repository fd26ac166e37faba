// Package model is the desired state of an ingress in terms free of Kubernetes: which
// hosts and paths are published and which services with which pods answer them.
//
// Sources (userspace/control/kube, userspace/control/folder) produce it, userspace/control/compile turns it into
// kernel maps and proxy configuration. It holds plain values: no clock, no logger, no
// descriptors. Slices are sorted as their fields say, so that equal states compare equal.
package model

import (
	"cmp"
	"net/netip"
	"time"
)

// Model is everything that one class of Ingresses asks for.
type Model struct {
	Listeners []Listener // by address and port
	Hosts     []Host     // by Name; "" (any host) first
	Services  []Service  // by Key; every service that a route or Default names
	Default   ServiceKey // answers what no route matches; zero: 404

	L4 []L4Service // by key; services that the kernel forwards to

	Defence Defence

	// HSTS is the Strict-Transport-Security of responses over TLS where the proxies' settings have
	// none; "": none.
	HSTS string
	// ForwardedFor is the header in which trusted proxies say who the client is, where the proxies'
	// settings name none; "": X-Forwarded-For and its like.
	ForwardedFor string

	Members []Member // of the fabric, by Name
	Proxies uint32   // that share the limits of requests; 0: each has them for itself

	Certificates       []Certificate // by ID; every one that a Host, an Upstream or DefaultCertificate names
	Authorities        []Authority   // by ID; every one that a ClientAuth or an Upstream names
	DefaultCertificate string        // ID; "": proxies make a self-signed one
}

// Host is one virtual host.
type Host struct {
	Name   string  // lower case; "" any host; "*.example.com" exactly one label more, "**.example.com" any number
	Routes []Route // longest Path first, then Exact, Regexp, Prefix, then by Rank; package route has the precedence; may be none
	TLS    *TLS    // nil: connections that ask for this name get the default certificate
}

// PathMatch is how a route's path is compared.
type PathMatch uint8

const (
	Prefix PathMatch = iota // by path element: /foo matches /foo, /foo/ and /foo/bar, not /foobar
	Exact
	Regexp // Path is an RE2 expression, compared without case from the path's beginning on
)

// Route sends requests of a host and path to a service.
type Route struct {
	Path    string // begins with "/"; a Prefix has no trailing "/" unless it is "/"; see Regexp
	Match   PathMatch
	When    *Conditions // nil: every request of the path. Routes of one path differ by it
	Rank    Rank        // among the routes of one path
	Service ServiceKey  // zero: the named service port does not exist; answered with 503
	Source  ObjectRef   // the object that asked for it

	RedirectHTTPS bool // answer clear-text requests with 308 to https
	Upstream      Upstream
	// ClearText serves the route without TLS also where the host's clients must show a
	// certificate: the challenges of ACME.
	ClearText bool
	Policy    *Policy    // nil: none. Routes may share one; it is not changed
	Locations *Locations // nil: none. Routes may share them, too
	Splits    []Split    // in order of precedence
}

// ServiceKey names one port of one service. Port is the number or the name by which
// the Ingress refers to it, resolved to the Service's port name or number.
type ServiceKey struct {
	Namespace, Name, Port string
}

// String returns "namespace/name:port", the name used in maps, logs, metrics and the CLI.
func (k ServiceKey) String() string {
	if k == (ServiceKey{}) {
		return ""
	}
	return k.Namespace + "/" + k.Name + ":" + k.Port
}

// Algorithm is how a backend of a service is chosen.
type Algorithm uint8

const (
	P2C Algorithm = iota // power of two choices over requests in flight
	RoundRobin
	Maglev // by a hash; without one like P2C
	EWMA   // power of two choices over latency (peak exponential moving average) times requests in flight
	// ServiceAlgorithm leaves the choice to the service; only in Balance.
	ServiceAlgorithm
)

// Service is a group of interchangeable backends.
type Service struct {
	Key         ServiceKey
	Algorithm   Algorithm
	PreferLocal bool      // use pods of this node while there is one
	NoSkMsg     bool      // speak to its pods by TCP alone, also to those of this node
	Backends    []Backend // by Address; those that may get new requests

	Health    *HealthCheck // nil: pods are not asked
	Outlier   Outlier
	SlowStart time.Duration // in which a new pod's share grows to its own, 0: at once
	Bounds    Bounds
}

// Backend is one pod's port.
type Backend struct {
	Address  netip.AddrPort
	Node     string // "" if unknown
	Pod      string // "namespace/name", "" if unknown
	Local    bool   // on this agent's node
	Draining bool   // terminating but still serving: used only where nothing is ready
	Weight   uint16 // share of requests relative to the others', 0 counts as 1
}

// ObjectRef names the Kubernetes object behind a part of the model.
type ObjectRef struct {
	Kind, Namespace, Name string
}

// String returns "Kind namespace/name".
func (r ObjectRef) String() string { return r.Kind + " " + r.FullName() }

// FullName returns "namespace/name", and the name alone of an object without a namespace.
func (r ObjectRef) FullName() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}

// Short returns "namespace/name" of an Ingress, which most objects with routes are, and what String
// returns of others.
func (r ObjectRef) Short() string {
	if r.Kind == "Ingress" {
		return r.FullName()
	}
	return r.String()
}

// AppendFullName appends what FullName returns.
func (r ObjectRef) AppendFullName(dst []byte) []byte {
	if r.Namespace != "" {
		dst = append(append(dst, r.Namespace...), '/')
	}
	return append(dst, r.Name...)
}

// Compare orders by kind, namespace and name.
func (r ObjectRef) Compare(other ObjectRef) int {
	return cmp.Or(cmp.Compare(r.Kind, other.Kind), cmp.Compare(r.Namespace, other.Namespace), cmp.Compare(r.Name, other.Name))
}

// Severity says whether the object that has a problem is still served.
type Severity uint8

const (
	Warning Severity = iota // served, but not as its author may expect
	Refused                 // this part is not served
)

// Problem is something about an object that its author should know. It becomes an
// event on the object, a log line and a row of `kerngatectl status`.
type Problem struct {
	Object   ObjectRef
	Severity Severity
	Reason   string // CamelCase, stable: the event's reason
	Message  string // says what is wrong, with the object's own words, and what to do
}
