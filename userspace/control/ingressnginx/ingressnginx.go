// Package ingressnginx reads what Ingresses ask for in the words of ingress-nginx, the
// annotations nginx.ingress.kubernetes.io/*, into policies of package model. In: the
// annotations of one Ingress, and what they refer to. Out: a Reading: the policy, what
// concerns hosts and paths, and a finding for each annotation that does not mean here what
// its author may expect.
//
// The vocabulary ends here: model and proxy know policies, not who wrote them down, so that
// another vocabulary (Gateway API filters) comes to the same. Nothing in this package knows
// Kubernetes' client, so that `kerngatectl check` judges manifests without a cluster.
//
// Two rules hold for every key. A value that cannot be read changes nothing and is said.
// But what was meant to keep somebody out keeps everybody out if it cannot be read.
package ingressnginx

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/model"
)

// Prefix begins the keys of the vocabulary.
const Prefix = "nginx.ingress.kubernetes.io/"

// Ingress is what is read.
type Ingress struct {
	Namespace, Name string
	Annotations     map[string]string
	// AllowedFields are the fields that custom-headers may set; none: all.
	AllowedFields []string
	// Own are the addresses of the ingress, Allowed destinations that may be named although they
	// are the node's or its.
	Own     []netip.Addr
	Allowed []netip.Prefix
	// Controller is what holds for all Ingresses; nil: nothing.
	Controller *Controller
}

// References finds what annotations refer to.
type References interface {
	// Secret returns the data of a Secret in the Ingress's namespace. An error says for
	// the Ingress's author why there is none.
	Secret(name string) (map[string][]byte, error)
	// ConfigMap is the same for a ConfigMap.
	ConfigMap(name string) (map[string]string, error)
	// Service returns the key of a Service's port, of its first if port is 0, and sees to it
	// that its pods are known. An error is for the Ingress's author.
	Service(namespace, name string, port int) (model.ServiceKey, error)
}

// Reading is what an Ingress asks for.
type Reading struct {
	// Used is set if the Ingress has an annotation of the vocabulary at all: its author
	// expects what ingress-nginx does where Kubernetes leaves a choice.
	Used bool
	// Policy is for each route of the Ingress, nil if it asks for none.
	Policy *model.Policy
	// Regexp makes expressions of all paths of the Ingress's hosts, as does a Rewrite of the
	// Policy to another path than the route's own.
	Regexp bool
	// Elsewhere is a redirect that takes the place of a Rewrite. In its Target the groups of
	// each route's path may stand, which is to be its Pattern; it makes expressions of paths
	// like a Rewrite. nil: none.
	Elsewhere *model.Redirect
	// ServerLocations are the locations of server-snippet, which belong to all paths of the
	// Ingress's hosts, Locations those of configuration-snippet, within each path of the
	// Ingress.
	ServerLocations, Locations []model.Location
	// Aliases are further hosts, in lower case, for the first host of the Ingress.
	Aliases []string
	// RedirectWWW redirects between each host and the same with "www." before it.
	RedirectWWW bool
	// RelativeRedirects leaves scheme and host out of redirects that the proxy makes itself.
	RelativeRedirects bool
	// Canary is set if the Ingress takes a part of others' requests; its service is not
	// filled in, and the Policy is theirs.
	Canary *model.Split
	// CanaryLegacy has the Canary decide about clients, too, that have a cookie of the main Ingress's
	// affinity.
	CanaryLegacy bool
	// Suites of TLS 1.2 for clients of the Ingress's hosts, by their IANA names, sorted;
	// none: those of the proxy. UpstreamSuites are the same for pods.
	Suites, UpstreamSuites []string
	// UpstreamMin and UpstreamMax are the versions of TLS that are spoken to pods, "1.2" or
	// "1.3"; "": both.
	UpstreamMin, UpstreamMax string
	// HTTPS is what clear-text requests get; Passthrough hands connections to pods as they are.
	HTTPS       HTTPS
	Passthrough bool
	Client      *Client // nil: clients are not asked for a certificate
	Upstream    Upstream
	// Findings are sorted by key.
	Findings []Finding
}

// Finding is about one annotation.
type Finding struct {
	Key     string // without Prefix
	Verdict Verdict
	Reason  string // of the problem that it becomes; "": that of the Verdict
	Message string
	// Setting is the ConfigMap of the controller, "namespace/name", of which Key is a key; "": it
	// is one of an annotation.
	Setting string
}

// Text is the message with what it is about.
func (f Finding) Text() string {
	switch {
	case f.Setting == "":
		return fmt.Sprintf("annotation %s%s: %s", Prefix, f.Key, f.Message)
	case f.Key == "":
		return fmt.Sprintf("ConfigMap %s: %s", f.Setting, f.Message)
	}
	return fmt.Sprintf("ConfigMap %s: %s: %s", f.Setting, f.Key, f.Message)
}

// Verdict says what becomes of an annotation.
type Verdict uint8

const (
	Supported   Verdict = iota // does what ingress-nginx did
	Difference                 // does what the message says
	Unsupported                // known, and not read
	Unknown                    // no key of the vocabulary
	Invalid                    // this value cannot be read
	Closed                     // cannot be had, so that nobody gets in
)

// String returns the verdict as the CLI shows it.
func (v Verdict) String() string {
	return [...]string{"supported", "difference", "unsupported", "unknown", "invalid", "closed"}[v]
}

// Refused reports whether the annotation's author does not get what was asked for.
func (v Verdict) Refused() bool { return v >= Unsupported }

// Read reads an Ingress. refs may be nil: then what is referred to is taken to be there.
func Read(in Ingress, refs References) Reading {
	r := &reader{in: in, refs: refs, seen: map[string]bool{}}
	for key := range in.Annotations {
		r.out.Used = r.out.Used || strings.HasPrefix(key, Prefix)
	}
	if !r.out.Used && in.Controller == nil {
		return r.out
	}
	return r.read()
}

// read reads all that there is.
func (r *reader) read() Reading {
	r.controller()
	r.paths()
	r.redirects()
	r.headers()
	r.customHeaders()
	r.cors()
	r.body()
	r.responseHead()
	r.access()
	r.limits()
	r.pod()
	r.tls()
	r.traffic()
	r.tracing()
	r.mirror()
	r.errorPages()
	r.pace()
	r.snippets()
	r.blocked()
	r.canary()
	r.https()
	r.client()
	r.upstream()
	r.judge()
	if r.touched {
		r.noteOrigins()
		r.out.Policy = &r.policy
	}
	sortFindings(r.out.Findings)
	return r.out
}

func sortFindings(found []Finding) {
	slices.SortFunc(found, func(a, b Finding) int {
		return strings.Compare(a.Key+"\x00"+a.Message, b.Key+"\x00"+b.Message)
	})
}

// judge adds what the registry says of keys that nobody complained about.
func (r *reader) judge() {
	for key := range r.in.Annotations {
		name, ours := strings.CutPrefix(key, Prefix)
		if !ours || slices.ContainsFunc(r.out.Findings, func(f Finding) bool { return f.Key == name && f.Setting == "" }) {
			continue
		}
		k, known := Lookup(name)
		f := Finding{Key: name, Verdict: k.Verdict, Message: k.Why}
		if f.Verdict == Difference && !r.differs(name) {
			f.Verdict, f.Message = Supported, ""
		}
		if !known {
			f.Verdict, f.Message = Unknown, "ingress-nginx has no such annotation"
			if near := nearest(name); near != "" {
				f.Message += fmt.Sprintf(": is %s meant?", near)
			}
		}
		r.out.Findings = append(r.out.Findings, f)
	}
}
