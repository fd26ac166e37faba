package ingressnginx

import (
	"github.com/kerngate/kerngate/userspace/control/nginxconf"

	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestConfigMapNames: only names of the Ingress's own namespace are looked up, and what a
// watch is made for is what is read.
func TestConfigMapNames(t *testing.T) {
	for value, want := range map[string]string{
		"fields": "fields", "ns/fields": "fields", " ns/a.b-c1 ": "a.b-c1",
		"other/fields": "", "ns/": "", "/fields": "", "ns/a/b": "", "Fields": "", "a b": "", "..": "..", strings.Repeat("a", 254): "",
	} {
		got := ConfigMaps("ns", map[string]string{Prefix + "custom-headers": value})
		if want == "" && len(got) > 0 || want != "" && !slices.Equal(got, []string{want}) {
			t.Errorf("%q: %q", value, got)
		}
	}
}

// TestManyFields: a ConfigMap of any size makes no policy of any size.
func TestManyFields(t *testing.T) {
	many := map[string][]byte{}
	for i := range nginxconf.MaxDirectives + 1 {
		many[fmt.Sprintf("X-%d", i)] = []byte("v")
	}
	in := Ingress{Namespace: "ns", Name: "web", Annotations: map[string]string{
		Prefix + "custom-headers": "many", Prefix + "auth-proxy-set-headers": "many", Prefix + "auth-url": "http://a.b.svc/",
	}}
	r := Read(in, secrets{"many": many})
	if r.Policy == nil || len(r.Policy.ResponseHeaders) > 0 || r.Policy.Access.Closed == "" || len(r.Policy.Access.External.Headers) > 0 {
		t.Errorf("%+v", r.Policy)
	}
	for _, f := range r.Findings {
		if f.Key != "auth-url" && !strings.Contains(f.Message, "has 257 fields, more than 256") {
			t.Errorf("%+v", f)
		}
	}
}
