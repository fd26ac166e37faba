package kube

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// CopyFor returns a manifest of an Ingress for another class, "" if the object is none. It has a
// name of its own, and of the annotations only those that say how requests are answered: those of
// cert-manager or external-dns would have them act twice for one host.
func (o Object) CopyFor(class string) (string, error) {
	ingress, ok := o.value.(*networkingv1.Ingress)
	if !ok {
		return "", nil
	}
	name := ingress.Name + "-" + class
	if len(name) > 253 {
		name = name[len(name)-253:]
	}
	meta := slimMeta(&metav1.ObjectMeta{Namespace: ingress.Namespace, Name: name, Annotations: ingress.Annotations}, vocabularyNginx, vocabularyOwn)
	fields := map[string]any{"namespace": meta.Namespace, "name": meta.Name}
	if len(meta.Annotations) > 0 {
		fields["annotations"] = meta.Annotations
	}
	spec := ingress.Spec.DeepCopy()
	spec.IngressClassName = &class
	text, err := yaml.Marshal(map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": fields, "spec": spec})
	return string(text), err
}

// Hosts are those that an Ingress has rules for, none for other kinds.
func (o Object) Hosts() (hosts []string) {
	if ingress, ok := o.value.(*networkingv1.Ingress); ok {
		for _, r := range ingress.Spec.Rules {
			hosts = append(hosts, r.Host)
		}
	}
	return hosts
}

// Class is the one that an Ingress names, "" for none.
func (o Object) Class() string {
	ingress, ok := o.value.(*networkingv1.Ingress)
	switch {
	case !ok:
		return ""
	case ingress.Spec.IngressClassName != nil:
		return *ingress.Spec.IngressClassName
	}
	return ingress.Annotations[AnnotationClass]
}
