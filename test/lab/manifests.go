//go:build linux

package lab

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// Manifests is a folder of Kubernetes objects, as kerngate-agent --manifests reads it.
type Manifests string

// Object is one Kubernetes object, ready for YAML.
type Object map[string]any

// Write replaces the file at once, as kubectl-like tools and configuration management do:
// a reader sees the old content or the new.
func (m Manifests) Write(file string, objects ...Object) error {
	var text bytes.Buffer
	for _, object := range objects {
		document, err := yaml.Marshal(object)
		if err != nil {
			return err
		}
		text.WriteString("---\n")
		text.Write(document)
	}
	return m.WriteText(file, text.String())
}

// WriteText is Write for content that need not be valid.
func (m Manifests) WriteText(file, text string) error {
	temporary := filepath.Join(string(m), "."+file+".tmp")
	if err := os.WriteFile(temporary, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(string(m), file))
}

// Remove deletes a file.
func (m Manifests) Remove(file string) error { return os.Remove(filepath.Join(string(m), file)) }

// Path is one rule of an Ingress.
type Path struct {
	Host    string // "" any
	Path    string // "" is "/"
	Type    string // "" is Prefix
	Service string
	Port    any // number or name; nil: 80
}

// Ingress describes an Ingress in the namespace default. The rules keep their order.
func Ingress(name string, paths ...Path) Object {
	var rules []Object
	for _, p := range paths {
		rule := Object{"http": Object{"paths": []Object{{
			"path": orElse(p.Path, "/"), "pathType": orElse(p.Type, "Prefix"),
			"backend": ServiceBackend(p.Service, p.Port),
		}}}}
		if p.Host != "" {
			rule["host"] = p.Host
		}
		rules = append(rules, rule)
	}
	return Object{
		"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata(name),
		"spec": Object{"ingressClassName": "kerngate", "rules": rules},
	}
}

// ServiceBackend is a rule's or an Ingress's default backend. Port is a number, a name, or nil for 80.
func ServiceBackend(service string, port any) Object {
	var reference Object
	switch port := port.(type) {
	case nil:
		reference = Object{"number": 80}
	case string:
		reference = Object{"name": port}
	default:
		reference = Object{"number": port}
	}
	return Object{"service": Object{"name": service, "port": reference}}
}

// IngressClass is the class "kerngate".
func IngressClass() Object {
	return Object{
		"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": Object{"name": "kerngate"},
		"spec": Object{"controller": "kerngate.dev/ingress-controller"},
	}
}

// Service describes a Service whose port http, 80, is the pods' PodPort.
func Service(name string) Object {
	return Object{
		"apiVersion": "v1", "kind": "Service", "metadata": metadata(name),
		"spec": Object{
			"selector": Object{"app": name},
			"ports":    []Object{{"name": "http", "port": 80, "targetPort": PodPort, "protocol": "TCP"}},
		},
	}
}

// ServiceOf is Service with an appProtocol of its port: what the pods speak.
func ServiceOf(name, appProtocol string) Object {
	service := Service(name)
	service["spec"].(Object)["ports"].([]Object)[0]["appProtocol"] = appProtocol
	return service
}

// Endpoint is one pod in an EndpointSlice.
type Endpoint struct {
	Address    netip.Addr
	Node       string
	Pod        string
	Conditions Object // nil: ready
}

// Endpoint describes the pod as ready; six chooses its IPv6 address.
func (p *Pod) Endpoint(six bool) Endpoint {
	e := Endpoint{Address: p.IPv4, Node: p.Node.Name, Pod: p.Name}
	if six {
		e.Address = p.IPv6
	}
	return e
}

// EndpointSlice describes the slice NAME-ipv4 or NAME-ipv6 of a service, by the first address.
func EndpointSlice(service string, endpoints ...Endpoint) Object {
	family := "IPv4"
	if len(endpoints) > 0 && endpoints[0].Address.Is6() {
		family = "IPv6"
	}
	list := []Object{}
	for _, e := range endpoints {
		conditions := e.Conditions
		if conditions == nil {
			conditions = Object{"ready": true}
		}
		entry := Object{"addresses": []string{e.Address.String()}, "conditions": conditions}
		if e.Node != "" {
			entry["nodeName"] = e.Node
		}
		if e.Pod != "" {
			entry["targetRef"] = Object{"kind": "Pod", "namespace": "default", "name": e.Pod}
		}
		list = append(list, entry)
	}
	meta := metadata(service + "-" + strings.ToLower(family))
	meta["labels"] = Object{"kubernetes.io/service-name": service}
	return Object{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta,
		"addressType": family, "endpoints": list,
		"ports": []Object{{"name": "http", "port": PodPort, "protocol": "TCP"}},
	}
}

func metadata(name string) Object { return Object{"name": name, "namespace": "default"} }

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
