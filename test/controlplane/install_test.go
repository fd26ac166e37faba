package controlplane

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// TestInstall applies manifests/install.yaml as it is, and then works with the rights that
// it gives and no others: informers, events, status and the Lease.
func TestInstall(t *testing.T) {
	s := newScene(t, "install")
	applyInstall(t)
	config := s.accountConfig("kerngate-system", "kerngate")

	s.createService("web")
	s.create(s.ingress("winner", "install.example.com", "/", "web"))
	f := s.followIn(config, "one", "kerngate-system")
	f.untilHas(t, "served", `host "install.example.com"`)
	untilAddresses(t, s, "winner", ingressIP.String())
	s.create(s.ingress("z-loser", "install.example.com", "/", "web"))
	wait(t, "the event", func() error {
		list, err := s.client.CoreV1().Events(s.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=z-loser,reason=RouteConflict"})
		if err == nil && len(list.Items) == 0 {
			err = fmt.Errorf("none")
		}
		return err
	})
	lease, err := s.client.CoordinationV1().Leases("kerngate-system").Get(t.Context(), "kerngate-"+s.class, get)
	must(t, err)
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != "one" {
		t.Errorf("lease %+v", lease.Spec)
	}

	// What the account must not be able to do.
	account, err := kubernetes.NewForConfig(config)
	must(t, err)
	_, secrets := account.CoreV1().Secrets(s.namespace).List(t.Context(), everyone)
	_, pods := account.CoreV1().Pods(s.namespace).List(t.Context(), everyone)
	spec, err := account.NetworkingV1().Ingresses(s.namespace).Get(t.Context(), "winner", get)
	must(t, err)
	_, change := account.NetworkingV1().Ingresses(s.namespace).Update(t.Context(), spec, replace)
	for what, err := range map[string]error{"list secrets": secrets, "list pods": pods, "change an Ingress": change} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want forbidden", what, err)
		}
	}

	class, err := s.client.NetworkingV1().IngressClasses().Get(t.Context(), "kerngate", get)
	must(t, err)
	if class.Spec.Controller != "kerngate.dev/ingress-controller" {
		t.Errorf("controller %q", class.Spec.Controller)
	}
}

// applyInstall applies each object of install.yaml server-side, with all fields checked.
func applyInstall(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("../../manifests/install.yaml")
	must(t, err)
	client, err := dynamic.NewForConfig(plane.Config)
	must(t, err)
	typed, err := kubernetes.NewForConfig(plane.Config)
	must(t, err)
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(typed.Discovery()))
	objects := 0
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		raw, err := yaml.YAMLToJSON(document)
		must(t, err)
		var o unstructured.Unstructured
		if json.Unmarshal(raw, &o.Object) != nil || len(o.Object) == 0 {
			continue
		}
		mapping, err := mapper.RESTMapping(o.GroupVersionKind().GroupKind(), o.GroupVersionKind().Version)
		must(t, err)
		var resource dynamic.ResourceInterface = client.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			resource = client.Resource(mapping.Resource).Namespace(o.GetNamespace())
		}
		force := true
		_, err = resource.Patch(t.Context(), o.GetName(), types.ApplyPatchType, raw,
			metav1.PatchOptions{FieldManager: "test", Force: &force, FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
		objects++
	}
	if objects < 8 {
		t.Errorf("%d objects in install.yaml", objects)
	}
}

// accountConfig has the rights of a service account, by a real token of it.
func (s *scene) accountConfig(namespace, name string) *rest.Config {
	s.t.Helper()
	token, err := s.client.CoreV1().ServiceAccounts(namespace).CreateToken(s.t.Context(), name, &authenticationv1.TokenRequest{}, create)
	must(s.t, err)
	config := rest.CopyConfig(plane.Config)
	config.BearerToken = token.Status.Token
	return config
}
