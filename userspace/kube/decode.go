package kube

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/kerngate/kerngate/userspace/model"
)

// Object is one object read from a manifest.
type Object struct {
	Ref model.ObjectRef

	value   metav1.Object
	ageless bool // without creationTimestamp
}

// What is wrong with a Secret is told in these words alone: parsers quote what they do not
// understand, and that may be a key which slipped.
var (
	errSecret       = errors.New("the Secret cannot be read, and is not quoted here: data takes base64, stringData takes text")
	errSecretFields = errors.New("the Secret has a field twice, or one that Secrets do not have, or whose value is of another kind; it is not quoted here")
	errSecretName   = errors.New("metadata.name or metadata.namespace is missing or no DNS name")
)

// Decode reads one YAML (or JSON) document: an object, or a List of them. Kinds that
// ingress has no use for give nothing, so that a folder may hold a whole application.
// Unknown fields are warnings, as with kubectl; an error says that nothing of the
// document can be used.
func Decode(document []byte) (objects []Object, warnings []string, err error) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Items           []runtime.RawExtension `json:"items"`
	}
	if err := yaml.Unmarshal(document, &head); err != nil {
		return nil, nil, err
	}
	switch {
	case head.Kind == "" && head.APIVersion == "":
		var anything any
		if yaml.Unmarshal(document, &anything); anything == nil {
			return nil, nil, nil // empty, or comments alone
		}
		return nil, nil, errors.New("neither kind nor apiVersion is set: not a Kubernetes object")
	case head.Kind == "List" && head.APIVersion == "v1":
		for i, item := range head.Items {
			inner, warned, err := Decode(item.Raw)
			if err != nil {
				return nil, nil, fmt.Errorf("items[%d]: %w", i, err)
			}
			objects = append(objects, inner...)
			warnings = append(warnings, warned...)
		}
		return objects, warnings, nil
	}

	value, namespaced, err := newObject(head.TypeMeta)
	if value == nil {
		return nil, nil, err
	}
	_, secret := value.(*corev1.Secret)
	if err := yaml.UnmarshalStrict(document, value); err != nil {
		if secret {
			err = errSecretFields
		}
		warnings = append(warnings, err.Error())
		if err := yaml.Unmarshal(document, value); err != nil {
			if secret {
				err = errSecret
			}
			return nil, nil, err
		}
	}
	if secret, ok := value.(*corev1.Secret); ok { // as the API server does it
		for key, v := range secret.StringData {
			if secret.Data == nil {
				secret.Data = map[string][]byte{}
			}
			secret.Data[key] = []byte(v)
		}
		secret.StringData = nil
	}
	if namespaced && value.GetNamespace() == "" {
		value.SetNamespace(metav1.NamespaceDefault)
	}
	if err := checkNames(value, namespaced); err != nil {
		if secret {
			err = errSecretName
		}
		return nil, nil, fmt.Errorf("%s: %w", head.Kind, err)
	}
	created := value.GetCreationTimestamp()
	return []Object{{Ref: refOf(head.Kind, value), value: value, ageless: created.IsZero()}}, warnings, nil
}

// newObject returns nil for kinds that are not used, with an error if that is because of
// their version.
func newObject(t metav1.TypeMeta) (value metav1.Object, namespaced bool, err error) {
	used := map[string]struct {
		apiVersion string
		value      metav1.Object
		namespaced bool
	}{
		"Ingress":       {"networking.k8s.io/v1", &networkingv1.Ingress{}, true},
		"IngressClass":  {"networking.k8s.io/v1", &networkingv1.IngressClass{}, false},
		"Service":       {"v1", &corev1.Service{}, true},
		"Secret":        {"v1", &corev1.Secret{}, true},
		"EndpointSlice": {"discovery.k8s.io/v1", &discoveryv1.EndpointSlice{}, true},
	}
	u, ok := used[t.Kind]
	switch {
	case !ok:
		return nil, false, nil
	case t.APIVersion == u.apiVersion:
		return u.value, u.namespaced, nil
	case t.APIVersion == "extensions/v1beta1", t.APIVersion == "networking.k8s.io/v1beta1", t.APIVersion == "discovery.k8s.io/v1beta1":
		return nil, false, fmt.Errorf("%s of apiVersion %s is not served by Kubernetes any more: write it as %s", t.Kind, t.APIVersion, u.apiVersion)
	}
	return nil, false, nil // a kind of the same name in another group
}

// checkNames applies those of the API server's rules that keep names short and printable.
func checkNames(o metav1.Object, namespaced bool) error {
	if o.GetName() == "" {
		return errors.New("metadata.name is missing")
	}
	if wrong := validation.IsDNS1123Subdomain(o.GetName()); len(wrong) > 0 {
		return fmt.Errorf("metadata.name %q: %s", o.GetName(), wrong[0])
	}
	if namespaced {
		if wrong := validation.IsDNS1123Label(o.GetNamespace()); len(wrong) > 0 {
			return fmt.Errorf("metadata.namespace %q: %s", o.GetNamespace(), wrong[0])
		}
	}
	service, ok := o.(*corev1.Service)
	if !ok {
		return nil
	}
	if wrong := validation.IsDNS1123Label(service.Name); len(wrong) > 0 {
		return fmt.Errorf("metadata.name %q: %s", service.Name, wrong[0])
	}
	for i, port := range service.Spec.Ports {
		if port.Name != "" && len(validation.IsValidPortName(port.Name)) > 0 && len(validation.IsDNS1123Label(port.Name)) > 0 {
			return fmt.Errorf("spec.ports[%d].name %q: must be lower-case letters, digits and -", i, port.Name)
		}
		if wrong := validation.IsValidPortNum(int(port.Port)); len(wrong) > 0 {
			return fmt.Errorf("spec.ports[%d].port %d: %s", i, port.Port, wrong[0])
		}
	}
	return nil
}

// SetAge gives an object without creationTimestamp the age of its place in a folder:
// what comes first is older, and older than whatever has a timestamp.
func (o Object) SetAge(place int) {
	if o.ageless {
		o.value.SetCreationTimestamp(metav1.Time{Time: time.Unix(int64(place), 0).UTC()})
	}
}

// Add puts an object into its list.
func (o *Objects) Add(object Object) {
	switch v := object.value.(type) {
	case *networkingv1.Ingress:
		o.Ingresses = append(o.Ingresses, v)
	case *networkingv1.IngressClass:
		o.Classes = append(o.Classes, v)
	case *corev1.Service:
		o.Services = append(o.Services, v)
	case *discoveryv1.EndpointSlice:
		o.Slices = append(o.Slices, v)
	case *corev1.Secret:
		o.Secrets = append(o.Secrets, v)
	}
}
