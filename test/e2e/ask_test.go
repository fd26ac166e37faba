//go:build linux

package e2e

import (
	"net/http"
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

// TestAskedElsewhere: requests that the proxy makes itself reach pods of other Services: one
// that decides who gets in, and one that writes error pages.
func TestAskedElsewhere(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}, {"auth", 2}, {"errors", 1}})
	const nginx = "nginx.ingress.kubernetes.io/"
	asked := lab.Ingress("asked", lab.Path{Host: "asked.example.com", Service: "web"})
	for key, value := range map[string]string{
		"auth-url": "http://auth.default.svc.cluster.local/?status=$arg_auth&header=X-User:ann", "auth-response-headers": "X-User",
		"auth-signin": "https://login.example.com/start",
	} {
		asked = lab.Annotate(asked, nginx+key, value)
	}
	paged := lab.Ingress("paged", lab.Path{Host: "paged.example.com", Service: "web"})
	for key, value := range map[string]string{"custom-http-errors": "404,503", "default-backend": "errors"} {
		paged = lab.Annotate(paged, nginx+key, value)
	}
	must(t, s.Manifests.Write("ingress.yaml", asked, paged))
	s.start()
	s.eventually("http://asked.example.com/?auth=200", "the pod", func(r *reply) bool { return r.Pod.Service == "web" })

	r := s.get("http://asked.example.com/x?auth=200", "X-User: forged")
	if got := r.Pod.Headers["X-User"]; len(got) != 1 || got[0] != "ann" {
		t.Errorf("the pod gets X-User %q", got)
	}
	for url, want := range map[string]int{
		"http://asked.example.com/x?auth=401": http.StatusFound, "http://asked.example.com/x?auth=403": http.StatusForbidden,
		"http://asked.example.com/x?auth=500": http.StatusInternalServerError, "http://asked.example.com/x?auth=302": http.StatusInternalServerError,
	} {
		if r := s.get(url); r.Status != want || r.Pod.Service == "web" {
			t.Errorf("%s: %d of %q, want %d", url, r.Status, r.Pod.Service, want)
		}
	}
	if r := s.get("http://asked.example.com/x?auth=401"); r.Header.Get("Location") != "https://login.example.com/start?rd=http://asked.example.com%2Fx%3Fauth%3D401" {
		t.Errorf("sent to %q", r.Header.Get("Location"))
	}

	r = s.get("http://paged.example.com/gone?status=404")
	if r.Pod.Service != "errors" || r.Pod.Headers.Get("X-Code") != "404" || r.Pod.Headers.Get("X-Original-Uri") != "/gone?status=404" || r.Pod.Headers.Get("X-Service-Name") != "web" {
		t.Errorf("the page is of %q, which got %v", r.Pod.Service, r.Pod.Headers)
	}
	if r := s.get("http://paged.example.com/?status=500"); r.Status != 500 || r.Pod.Service != "web" {
		t.Errorf("%d of %q", r.Status, r.Pod.Service)
	}

	// Without its pods the service says nothing, and nobody gets in.
	s.publish("auth")
	s.eventually("http://asked.example.com/?auth=200", "closed", func(r *reply) bool { return r.Status == http.StatusInternalServerError })
}
