// Package cluster reads a cluster by informers, and has what has changed translated. In: the API server.
// Out: model.Update, whenever something is different.
package cluster

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// name identifies a namespaced object of a kind.
type name = types.NamespacedName

func nameOf(o metav1.Object) name { return name{Namespace: o.GetNamespace(), Name: o.GetName()} }

// reference is an object that Ingresses may name.
type reference struct {
	kind string
	name name // without a name: all objects of the kind in the namespace
}
