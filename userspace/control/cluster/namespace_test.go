package cluster

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kerngate/kerngate/userspace/control/kube"
)

// TestNamespaceSelector: Ingresses are served while the labels of their namespace match, also those
// that are kept while the API server is away.
func TestNamespaceSelector(t *testing.T) {
	selector, err := labels.Parse("team=shop")
	if err != nil {
		t.Fatal(err)
	}
	options := kube.Options{Class: "kerngate", NamespaceSelector: selector}
	objects := someObjects()
	label := func(value string) {
		objects.Gateway.Namespaces = []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "shop", ResourceVersion: "1", Labels: map[string]string{"team": value}}}}
	}
	label("other")
	a := newAPIServer(t, objects)
	a.start(t)
	folder := memory(t)
	s := a.followWith(t, folder, options)
	until := func(s *started, served bool) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
			if u := s.next(time.Until(deadline)); u != nil && strings.Contains(u.Model.Dump(), "shop.example.com") == served {
				return
			}
		}
		t.Fatalf("no update in which the Ingress is served: %t; %s", served, s.log)
	}
	until(s, false)
	for _, now := range []string{"shop", "other", "shop"} {
		a.stop() // so that all is listed again
		a.mu.Lock()
		label(now)
		a.objects = objects
		a.mu.Unlock()
		a.start(t)
		until(s, now == "shop")
	}
	s.stop()
	a.stop()
	until(a.followWith(t, folder, options), true)
}
