package explain

import (
	"testing"

	"github.com/kerngate/kerngate/userspace/look/status"
)

// TestClosed: a route that refuses everybody ends with 503, not with its pods.
func TestClosed(t *testing.T) {
	in := Input{Maps: &Maps{}, Routes: &status.Routes{Hosts: []status.Host{{Name: "a.example.com", Routes: []status.Route{
		{Path: "/", Match: status.MatchPrefix, Service: "shop/web:80", Source: "shop/web", Closed: "auth-type: \"digest\" is not supported"},
	}}}}, Target: Target{Scheme: "http", Host: "a.example.com", Port: 80, Path: "/"}}
	var access *Step
	for _, s := range Explain(in).Steps {
		if s.Name == "access" {
			access = &s
		}
	}
	if access == nil || access.Result != Stop || access.Summary != "the Ingress is closed: auth-type: \"digest\" is not supported" {
		t.Errorf("step %+v", access)
	}
}
