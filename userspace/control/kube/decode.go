package kube

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
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

// Decoded is what one object of a document came to.
type Decoded struct {
	Object          // only if Used
	Used     bool   // a kind that ingress has a use for, and readable
	Item     string // where it stands in a List, such as "items[2]"; "": it is the document
	Warnings []string
	Err      error // why nothing of it can be used; Ref then says what is known of it
}

// Decode reads one YAML (or JSON) document: an object, or a List of them. Kinds that
// ingress has no use for give nothing, so that a folder may hold a whole application.
// Unknown fields are warnings, as with kubectl. An error names the items that cannot be
// used; what is returned beside it can.
func Decode(document []byte) (objects []Object, warnings []string, err error) {
	var errs []error
	for _, d := range DecodeAll(document) {
		if d.Err != nil {
			errs = append(errs, d.where(d.Err))
		}
		for _, w := range d.Warnings {
			warnings = append(warnings, d.where(errors.New(w)).Error())
		}
		if d.Used {
			objects = append(objects, d.Object)
		}
	}
	return objects, warnings, errors.Join(errs...)
}

func (d Decoded) where(err error) error {
	if d.Item == "" {
		return err
	}
	return fmt.Errorf("%s: %w", d.Item, err)
}

// DecodeAll is Decode with all that is known of each object, used or not.
func DecodeAll(document []byte) []Decoded {
	return decodeAll(document, metav1.TypeMeta{}, "")
}

// decodeAll reads a document, or an item of a List, which may leave its type to the List.
func decodeAll(document []byte, implied metav1.TypeMeta, item string) (out []Decoded) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"metadata"`
		Items []runtime.RawExtension `json:"items"`
	}
	one := Decoded{Item: item}
	if err := yaml.Unmarshal(document, &head); err != nil {
		var kind metav1.TypeMeta
		if yaml.Unmarshal(document, &kind); kind.Kind == "Secret" {
			one.Err = errSecret
		} else if one.Err = notAnObject(document); one.Err == nil {
			one.Err = plainError(err)
		}
		return []Decoded{one}
	}
	typed := head.TypeMeta
	if typed.Kind == "" && typed.APIVersion == "" {
		typed = implied
	}
	one.Ref = model.ObjectRef{Kind: typed.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name}
	if typed.Kind == "" && typed.APIVersion == "" {
		var anything any
		if yaml.Unmarshal(document, &anything); anything == nil {
			return nil // empty, or comments alone
		}
		one.Err = errors.New("neither kind nor apiVersion is set: not a Kubernetes object")
		return []Decoded{one}
	}
	if of, isList := strings.CutSuffix(typed.Kind, "List"); isList && (of == "" || isUsed(of)) {
		itemType := metav1.TypeMeta{}
		if of != "" {
			itemType = metav1.TypeMeta{Kind: of, APIVersion: typed.APIVersion}
		}
		for i, raw := range head.Items {
			where := fmt.Sprintf("items[%d]", i)
			if item != "" {
				where = item + "." + where
			}
			if len(raw.Raw) == 0 || string(raw.Raw) == "null" {
				out = append(out, Decoded{Item: where, Err: notAnObject([]byte("null"))})
				continue
			}
			out = append(out, decodeAll(raw.Raw, itemType, where)...)
		}
		return out
	}
	one.decode(document, typed)
	return []Decoded{one}
}

// decode reads the object itself.
func (d *Decoded) decode(document []byte, typed metav1.TypeMeta) {
	value, namespaced, err := newObject(typed)
	if value == nil {
		d.Err = err
		if typed.Kind == "Endpoints" && typed.APIVersion == "v1" {
			d.Warnings = append(d.Warnings, "Endpoints are not read: a cluster makes EndpointSlices of them; in a folder of manifests write an EndpointSlice")
		}
		return
	}
	_, secret := value.(*corev1.Secret)
	if err := yaml.UnmarshalStrict(document, value); err != nil {
		if secret {
			err = errSecretFields
		}
		warning := plainError(err).Error()
		if err := yaml.Unmarshal(document, value); err != nil {
			if secret {
				err = errSecret
			}
			d.Err = plainError(err)
			return
		}
		d.Warnings = append(d.Warnings, warning)
	}
	if isIngressBeta(typed.APIVersion) {
		if beta, ok := value.(*networkingv1beta1.Ingress); ok {
			value = ingressOfBeta(beta)
		}
		d.Warnings = append(d.Warnings, fmt.Sprintf("%s of apiVersion %s is read as the API server converted it, but no Kubernetes since 1.22 takes it: write it as networking.k8s.io/v1 before you apply it", typed.Kind, typed.APIVersion))
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
		d.Err = fmt.Errorf("%s: %w", typed.Kind, err)
		return
	}
	created := value.GetCreationTimestamp()
	d.Object, d.Used = Object{Ref: refOf(typed.Kind, value), value: value, ageless: created.IsZero()}, true
}

// usedKinds are the kinds that ingress has a use for.
var usedKinds = map[string]struct {
	apiVersion string
	make       func() metav1.Object
	namespaced bool
}{
	"Ingress":       {"networking.k8s.io/v1", func() metav1.Object { return new(networkingv1.Ingress) }, true},
	"IngressClass":  {"networking.k8s.io/v1", func() metav1.Object { return new(networkingv1.IngressClass) }, false},
	"Service":       {"v1", func() metav1.Object { return new(corev1.Service) }, true},
	"Secret":        {"v1", func() metav1.Object { return new(corev1.Secret) }, true},
	"ConfigMap":     {"v1", func() metav1.Object { return new(corev1.ConfigMap) }, true},
	"Namespace":     {"v1", func() metav1.Object { return new(corev1.Namespace) }, false},
	"EndpointSlice": {"discovery.k8s.io/v1", func() metav1.Object { return new(discoveryv1.EndpointSlice) }, true},

	"GatewayClass":   {gatewayVersion, func() metav1.Object { return new(gatewayv1.GatewayClass) }, false},
	"Gateway":        {gatewayVersion, func() metav1.Object { return new(gatewayv1.Gateway) }, true},
	"HTTPRoute":      {gatewayVersion, func() metav1.Object { return new(gatewayv1.HTTPRoute) }, true},
	"ReferenceGrant": {gatewayVersion, func() metav1.Object { return new(gatewayv1.ReferenceGrant) }, true},
}

// gatewayVersion is the version of Gateway API that is read. Objects of gatewayBeta have the same
// fields, and ReferenceGrants are mostly written in it.
const (
	gatewayVersion = "gateway.networking.k8s.io/v1"
	gatewayBeta    = "gateway.networking.k8s.io/v1beta1"
)

func isUsed(kind string) bool {
	_, used := usedKinds[kind]
	return used || kind == "Endpoints"
}

// newObject returns nil for kinds that are not used, with an error if that is because of
// their version.
func newObject(t metav1.TypeMeta) (value metav1.Object, namespaced bool, err error) {
	u, ok := usedKinds[t.Kind]
	switch {
	case !ok:
		return nil, false, nil
	case t.APIVersion == u.apiVersion, u.apiVersion == gatewayVersion && t.APIVersion == gatewayBeta:
		return u.make(), u.namespaced, nil
	case t.Kind == "Ingress" && isIngressBeta(t.APIVersion):
		return new(networkingv1beta1.Ingress), true, nil
	case t.Kind == "IngressClass" && t.APIVersion == "networking.k8s.io/v1beta1": // it has the same fields
		return u.make(), u.namespaced, nil
	case t.APIVersion == "discovery.k8s.io/v1beta1":
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
	case *gatewayv1.GatewayClass:
		o.Gateway.Classes = append(o.Gateway.Classes, v)
	case *gatewayv1.Gateway:
		o.Gateway.Gateways = append(o.Gateway.Gateways, v)
	case *gatewayv1.HTTPRoute:
		o.Gateway.Routes = append(o.Gateway.Routes, v)
	case *gatewayv1.ReferenceGrant:
		o.Gateway.Grants = append(o.Gateway.Grants, v)
	case *corev1.Namespace:
		o.Gateway.Namespaces = append(o.Gateway.Namespaces, v)
	case *networkingv1.IngressClass:
		o.Classes = append(o.Classes, v)
	case *corev1.Service:
		o.Services = append(o.Services, v)
	case *discoveryv1.EndpointSlice:
		o.Slices = append(o.Slices, v)
	case *corev1.ConfigMap:
		o.ConfigMaps = append(o.ConfigMaps, v)
	case *corev1.Secret:
		o.Secrets = append(o.Secrets, v)
	}
}
