package controlplane

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
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
// it gives and no others: informers, Secrets, events, status, the Lease and ticket keys.
func TestInstall(t *testing.T) {
	s := newScene(t, "install")
	applyInstall(t)
	s.class = "kerngate" // of install.yaml, whose rights to ticket keys name it
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

	s.createSecret("web-tls", "install.example.com")
	s.createTLS("secure", "install.example.com", "web-tls")
	f.untilHas(t, "the certificate", "certificate "+s.namespace+"/web-tls: ECDSA P-256 for install.example.com")
	f.untilRings(t, 1)

	// What the account must not be able to do.
	account, err := kubernetes.NewForConfig(config)
	must(t, err)
	_, secret := account.CoreV1().Secrets(s.namespace).Get(t.Context(), "web-tls", get)
	_, makeSecret := account.CoreV1().Secrets(s.namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, create)
	dropSecret := account.CoreV1().Secrets("kerngate-system").Delete(t.Context(), "kerngate-kerngate-tickets", remove)
	_, pods := account.CoreV1().Pods(s.namespace).List(t.Context(), everyone)
	spec, err := account.NetworkingV1().Ingresses(s.namespace).Get(t.Context(), "winner", get)
	must(t, err)
	_, change := account.NetworkingV1().Ingresses(s.namespace).Update(t.Context(), spec, replace)
	for what, err := range map[string]error{"get a secret": secret, "make a secret": makeSecret, "delete a secret": dropSecret, "list pods": pods, "change an Ingress": change} {
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
