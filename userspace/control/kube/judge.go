package kube

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/userspace/control/gateway"
	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
)

// ReasonAbsent is the reason of a problem that manifests have alone: something they name is
// not among them. It may be in the cluster, and is taken to be.
const ReasonAbsent = "NotInManifests"

// Judgement is what becomes of one Ingress of a set of manifests.
type Judgement struct {
	Ref    model.ObjectRef
	Index  int // of the object that was given
	Routes int // that are published of it
	Closed int // of Routes: nobody gets in
	// Findings are about its annotations of ingress-nginx.
	Findings []ingressnginx.Finding
	// Problems are all others.
	Problems []model.Problem
}

// Judge translates manifests without a cluster, with the translation of the agent. With
// Options.Class "" every Ingress is judged as if it were of the served class. The problems
// that are returned beside the judgements are those of other objects.
func Judge(objects []Object, o Options) ([]Judgement, []model.Problem) {
	var all Objects
	var out []Judgement
	for i, object := range objects {
		object.SetAge(i)
		if object.Ref.Kind == "Ingress" {
			out = append(out, Judgement{Ref: object.Ref, Index: i})
		}
		all.Add(object)
	}
	var found problems
	if o.Class == "" {
		o.Class = "kerngate"
		for i, ingress := range all.Ingresses {
			all.Ingresses[i] = ofClass(ingress, o.Class)
		}
		for _, class := range all.Classes {
			if class.Spec.Controller != Controller {
				found.add(refOf("IngressClass", class), model.Refused, "IngressClassForeign", foreignClass(class))
			}
		}
		all.Classes = nil
	}
	all.Gateway = gateway.Objects{} // which ports and addresses a Gateway can have is the agent's to say
	o.ClassOptional, o.assume = true, true
	assumeServices(&all, &found)

	t := newTranslation(all, o)
	m, _ := t.all()
	for _, key := range t.sortedKeys() {
		_, more := TranslateService(key, t.lookup.service(name{key.Namespace, key.Name}), nil, o)
		found = append(found, more...)
	}
	found = append(found, t.found...)
	for i, p := range found {
		if p.Reason == "SecretNotFound" {
			found[i].Severity, found[i].Reason, found[i].Message = model.Warning, ReasonAbsent, absent(p.Message)
		}
	}
	readings := make(map[model.ObjectRef]ingressnginx.Reading, len(t.policies))
	for ingress, p := range t.policies {
		readings[refOf("Ingress", ingress)] = p.rules
	}
	byRef := make(map[model.ObjectRef]*Judgement, len(out))
	for i := range out {
		byRef[out[i].Ref] = &out[i]
		out[i].Findings = readings[out[i].Ref].Findings
	}
	for _, host := range m.Hosts {
		for _, route := range host.Routes {
			closed := route.Policy != nil && route.Policy.Access != nil && route.Policy.Access.Closed != ""
			sources := []model.ObjectRef{route.Source}
			for _, c := range route.Splits {
				sources = append(sources, c.Source)
			}
			for _, source := range sources {
				if j := byRef[source]; j != nil {
					j.Routes++
					if closed {
						j.Closed++
					}
				}
			}
		}
	}
	var rest []model.Problem
	for _, p := range found.sorted() {
		j := byRef[p.Object]
		switch {
		case j == nil:
			rest = append(rest, p)
		case !saysFinding(j.Findings, p.Message):
			j.Problems = append(j.Problems, p)
		}
	}
	return out, rest
}

// saysFinding reports whether a problem is the report of a finding.
func saysFinding(findings []ingressnginx.Finding, message string) bool {
	return slices.ContainsFunc(findings, func(f ingressnginx.Finding) bool {
		return message == f.Text()
	})
}

// absent turns the message about a missing Secret into one about a set of manifests.
func absent(message string) string {
	field, rest, _ := strings.Cut(message, "Secret ")
	what, _, _ := strings.Cut(rest, " does not exist")
	return fmt.Sprintf("%sSecret %s is not in these manifests; it must be in the cluster", field, what)
}

func ofClass(ingress *networkingv1.Ingress, class string) *networkingv1.Ingress {
	ingress = ingress.DeepCopy()
	delete(ingress.Annotations, AnnotationClass)
	ingress.Spec.IngressClassName = &class
	return ingress
}

// assumeServices adds the Services that Ingresses name and the manifests lack.
func assumeServices(all *Objects, found *problems) {
	have := map[name]*corev1.Service{}
	for _, s := range all.Services {
		have[nameOf(s)] = s
	}
	made := map[name]*corev1.Service{}
	for _, ingress := range all.Ingresses {
		told := map[name]bool{}
		want := func(b *networkingv1.IngressBackend) {
			if b == nil || b.Service == nil || b.Service.Name == "" {
				return
			}
			n := name{ingress.Namespace, b.Service.Name}
			if have[n] != nil {
				return
			}
			s := made[n]
			if s == nil {
				s = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: n.name}}
				made[n] = s
				all.Services = append(all.Services, s)
			}
			port := corev1.ServicePort{Name: b.Service.Port.Name, Port: b.Service.Port.Number}
			if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == port.Name && p.Port == port.Port }) {
				s.Spec.Ports = append(s.Spec.Ports, port)
			}
			if !told[n] && n.name != placeholder {
				told[n] = true
				found.add(refOf("Ingress", ingress), model.Warning, ReasonAbsent, fmt.Sprintf("Service %s is not in these manifests; it must be in the cluster", n))
			}
		}
		want(ingress.Spec.DefaultBackend)
		for _, rule := range ingress.Spec.Rules {
			if rule.HTTP != nil {
				for i := range rule.HTTP.Paths {
					want(&rule.HTTP.Paths[i].Backend)
				}
			}
		}
	}
}

// placeholder is the Service of AnnotatedIngress.
const placeholder = "kerngatectl-check"

// assumed answers for what an Ingress names like references, and remembers what is missing.
type assumed struct {
	references
	missing []string
}

func (a *assumed) Secret(secret string) (map[string][]byte, error) {
	data, err := a.references.Secret(secret)
	if err != nil {
		a.missing = append(a.missing, "Secret "+a.namespace+"/"+secret)
	}
	return data, err
}

func (a *assumed) ConfigMap(config string) (map[string]string, error) {
	data, err := a.references.ConfigMap(config)
	if err != nil {
		a.missing = append(a.missing, "ConfigMap "+a.namespace+"/"+config)
	}
	return data, err
}

func (a *assumed) Service(namespace, service string, port int) (model.ServiceKey, error) {
	key, err := a.references.Service(namespace, service, port)
	if err != nil && a.lookup.service(name{namespace, service}) == nil {
		a.missing = append(a.missing, "Service "+namespace+"/"+service)
	}
	return key, err
}

// readAssuming reads annotations of a manifest. If what they name is not there, all of it is
// taken to be.
func (t *translation) readAssuming(in ingressnginx.Ingress, ref model.ObjectRef) ingressnginx.Reading {
	refs := &assumed{references: references{t, in.Namespace}}
	reading := ingressnginx.Read(in, refs)
	if len(refs.missing) == 0 {
		return reading
	}
	for _, what := range refs.missing {
		t.found.add(ref, model.Warning, ReasonAbsent, what+" is not in these manifests; it must be in the cluster")
	}
	return ingressnginx.Read(in, nil)
}

// AnnotatedIngress is an Ingress of one path that has annotations which stand elsewhere: in
// the values of a chart, in a patch.
func AnnotatedIngress(namespace, called string, annotations map[string]string) Object {
	prefix := networkingv1.PathTypePrefix
	hash := sha256.Sum256([]byte(namespace + "/" + called))
	ingress := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: cmp.Or(namespace, metav1.NamespaceDefault), Name: called, Annotations: annotations},
		Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
			// A host of its own, so that several do not contradict each other.
			Host: fmt.Sprintf("x%x.invalid", hash[:8]),
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: "/", PathType: &prefix,
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: placeholder, Port: networkingv1.ServiceBackendPort{Number: 80}}},
			}}}},
		}}},
	}
	return Object{Ref: refOf("Ingress", ingress), value: ingress, ageless: true}
}

// Annotations are those of the object.
func (o Object) Annotations() map[string]string { return o.value.GetAnnotations() }

// ConfigData is what a ConfigMap holds, nil for other kinds.
func (o Object) ConfigData() map[string]string {
	if c, ok := o.value.(*corev1.ConfigMap); ok {
		return c.Data
	}
	return nil
}
