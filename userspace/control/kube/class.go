package kube

import (
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/model"
)

// class answers whether an Ingress belongs to the class that is served.
type class struct {
	name      string
	served    bool   // there is such a class, and it is ours
	foreign   bool   // the IngressClass object belongs to another controller
	isDefault bool   // Ingresses that name no class belong to it
	any       bool   // so they do if it is not the default
	specific  bool   // Ingresses with a default backend do not belong to it
	why       string // !served: what to do about it
}

// classOf looks the class up among the IngressClass objects.
func classOf(o Options, classes []*networkingv1.IngressClass, found *problems) class {
	c := class{name: o.Class, any: o.WithoutClass, specific: o.NoCatchAll}
	i := slices.IndexFunc(classes, func(ic *networkingv1.IngressClass) bool { return ic.Name == o.Class })
	switch {
	case i >= 0 && classes[i].Spec.Controller != Controller:
		c.foreign = true
		c.why = foreignClass(classes[i])
		found.add(model.ObjectRef{Kind: "IngressClass", Name: o.Class}, model.Refused, "IngressClassForeign", c.why)
	case i >= 0:
		c.served = true
		c.isDefault = defaultClass(classes) == o.Class
	case o.ClassOptional:
		c.served = true
	default:
		c.why = fmt.Sprintf("IngressClass %s does not exist: create it with spec.controller: %s", o.Class, Controller)
	}
	return c
}

// foreignClass says what to do about a class of another controller.
func foreignClass(class *networkingv1.IngressClass) string {
	return fmt.Sprintf("IngressClass %s belongs to another controller (spec.controller: %q, not %q); spec.controller cannot be changed: delete the object and create it again, or name another class with --ingress-class",
		class.Name, class.Spec.Controller, Controller)
}

// defaultClass returns the class that the API server's admission would give to an
// Ingress without one: of several marked as default the newest, then the first by name.
// Following it keeps two controllers from both serving the Ingress.
func defaultClass(classes []*networkingv1.IngressClass) string {
	var chosen *networkingv1.IngressClass
	for _, ic := range classes {
		if ic.Annotations[annotationDefaultClass] != "true" {
			continue
		}
		if chosen == nil || chosen.CreationTimestamp.Before(&ic.CreationTimestamp) ||
			chosen.CreationTimestamp.Equal(&ic.CreationTimestamp) && ic.Name < chosen.Name {
			chosen = ic
		}
	}
	if chosen == nil {
		return ""
	}
	return chosen.Name
}

// serves reports whether the Ingress is to be served now.
func (c class) serves(ingress *networkingv1.Ingress, found *problems) bool {
	if ingress.DeletionTimestamp != nil || !c.has(ingress, found) {
		return false
	}
	if c.specific && ingress.Spec.DefaultBackend != nil {
		found.add(refOf("Ingress", ingress), model.Refused, "CatchAllDisabled", "spec.defaultBackend: by --disable-catch-all no Ingress is served that has one: write rules, or remove the flag of the agent")
		return false
	}
	return true
}

// has reports whether the Ingress is to be served. An Ingress that asks for the class by
// name but cannot get it is told why; one of another class is nobody's business here.
func (c class) has(ingress *networkingv1.Ingress, found *problems) bool {
	annotation := ingress.Annotations[AnnotationClass]
	field := ingress.Spec.IngressClassName
	switch {
	case field != nil:
		if annotation != "" && annotation != *field && (*field == c.name || annotation == c.name) {
			found.add(refOf("Ingress", ingress), model.Warning, "IngressClassContradiction",
				fmt.Sprintf("spec.ingressClassName %q and the annotation %s %q differ: the field counts, remove the annotation", *field, AnnotationClass, annotation))
		}
		if *field != c.name {
			return false
		}
		if !c.served {
			found.add(refOf("Ingress", ingress), model.Refused, "IngressClassNotServed", c.why)
		}
		return c.served
	case annotation != "":
		// The annotation is older than IngressClass objects and needs none; but an
		// object of that name that belongs to somebody else is respected.
		return annotation == c.name && !c.foreign
	default:
		return c.isDefault || c.any && c.served
	}
}
