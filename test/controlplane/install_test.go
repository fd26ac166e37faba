package controlplane

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestInstall applies manifests/install.yaml as it is, and then works with the rights that
// it gives and no others: informers, Secrets, events, status, the Lease and ticket keys.
func TestInstall(t *testing.T) {
	s := newScene(t, "install")
	must(t, Install(t.Context(), plane.Config, "../../manifests/install.yaml"))
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

// accountConfig has the rights of a service account, by a real token of it.
func (s *scene) accountConfig(namespace, name string) *rest.Config {
	s.t.Helper()
	token, err := Token(s.t.Context(), plane.Config, namespace, name)
	must(s.t, err)
	config := rest.CopyConfig(plane.Config)
	config.BearerToken = token
	return config
}
