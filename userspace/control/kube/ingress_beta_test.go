package kube_test

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kerngate/kerngate/userspace/control/kube"
)

// TestIngressBeta: an Ingress of v1beta1 is read as what the API server made of it, the v1 below.
func TestIngressBeta(t *testing.T) {
	const meta = "kind: Ingress\nmetadata: {name: old, namespace: shop, annotations: {kubernetes.io/ingress.class: nginx}}\n"
	const beta = meta + `spec:
  ingressClassName: nginx
  backend: {serviceName: rest, servicePort: http}
  tls: [{hosts: [a.example.com], secretName: a}]
  rules:
  - host: a.example.com
    http:
      paths:
      - {path: /one, backend: {serviceName: web, servicePort: 80}}
      - {path: /two, pathType: Exact, backend: {serviceName: web, servicePort: admin}}
      - {backend: {resource: {apiGroup: example.com, kind: Bucket, name: b}}}
  - host: b.example.com
`
	const v1 = meta + `spec:
  ingressClassName: nginx
  defaultBackend: {service: {name: rest, port: {name: http}}}
  tls: [{hosts: [a.example.com], secretName: a}]
  rules:
  - host: a.example.com
    http:
      paths:
      - {path: /one, pathType: ImplementationSpecific, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /two, pathType: Exact, backend: {service: {name: web, port: {name: admin}}}}
      - {pathType: ImplementationSpecific, backend: {resource: {apiGroup: example.com, kind: Bucket, name: b}}}
  - host: b.example.com
`
	read := func(document string) (all kube.Objects, warnings []string) {
		t.Helper()
		objects, warnings, err := kube.Decode([]byte(document))
		if err != nil || len(objects) != 1 {
			t.Fatal(len(objects), err)
		}
		all.Add(objects[0])
		all.Ingresses[0].TypeMeta.APIVersion, all.Ingresses[0].TypeMeta.Kind = "", ""
		return all, warnings
	}
	want, warnings := read("apiVersion: networking.k8s.io/v1\n" + v1)
	if len(warnings) != 0 {
		t.Error(warnings)
	}
	for _, version := range []string{"networking.k8s.io/v1beta1", "extensions/v1beta1"} {
		got, warnings := read("apiVersion: " + version + "\n" + beta)
		if diff := gocmp.Diff(want.Ingresses, got.Ingresses); diff != "" {
			t.Errorf("%s (-v1 +beta):\n%s", version, diff)
		}
		if len(warnings) != 1 || !strings.Contains(warnings[0], "write it as networking.k8s.io/v1") {
			t.Errorf("%s: warnings %q", version, warnings)
		}
	}
	// Fields of the other version are no fields of this one.
	if _, warnings := read("apiVersion: networking.k8s.io/v1beta1\n" + v1); len(warnings) != 2 {
		t.Errorf("the fields of v1 in v1beta1: warnings %q", warnings)
	}
	class, warnings, err := kube.Decode([]byte("apiVersion: networking.k8s.io/v1beta1\nkind: IngressClass\nmetadata: {name: nginx}\nspec: {controller: k8s.io/ingress-nginx}\n"))
	if err != nil || len(class) != 1 || len(warnings) != 1 {
		t.Errorf("an IngressClass: %v, warnings %q, %v", class, warnings, err)
	}
}
