package differential

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// startKerngate serves the manifests of all cases and returns the proxy's address.
func startKerngate(t *testing.T, p *pods, all []comparison) string {
	t.Helper()
	documents := []string{staff}
	var served []proxytest.Service
	names := make([]string, len(services))
	for i, name := range services {
		documents = append(documents, "apiVersion: v1\nkind: Service\nmetadata: {name: "+name+", namespace: default}\nspec: {ports: [{port: 80}]}\n")
		names[i] = "default/" + name + ":80"
		served = append(served, proxytest.Service{Name: names[i], Path: fmt.Sprintf("/%d", i), Backends: []string{p.address[name]}})
	}
	for _, c := range all {
		documents = append(documents, c.ingresses...)
	}
	var objects kube.Objects
	for i, text := range documents {
		decoded, warnings, err := kube.Decode([]byte(text))
		if err != nil || len(warnings) > 0 {
			t.Fatal(err, warnings, text)
		}
		for _, o := range decoded {
			o.SetAge(i)
			objects.Add(o)
		}
	}
	m, problems := kube.Translate(objects, kube.Options{Class: "kerngate", ClassOptional: true})
	for _, problem := range problems {
		if problem.Reason != "NoEndpoints" {
			t.Logf("%s", problem)
		}
	}
	proxy := proxytest.Start(t, served, nil)
	id := func(name string) (state.ServiceID, bool) {
		i := slices.Index(names, name)
		return state.ServiceID(i + 1), i >= 0
	}
	snapshot, err := config.Empty().Apply(compile.Route(&m, id, compile.Common{Settings: &feedpb.Settings{}}, nil, nil, nil).Snapshot(1))
	if err != nil {
		t.Fatal(err)
	}
	proxy.Config.Store(snapshot)
	return proxy.Address
}

// staff is a Secret with one user, ann, whose password is "secret".
const staff = "apiVersion: v1\nkind: Secret\nmetadata: {name: staff, namespace: default}\nstringData: {auth: \"ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\"}\n"

// configMap is a ConfigMap with these entries.
func configMap(name string, entries ...string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: default}\ndata:\n  " + strings.Join(entries, "\n  ") + "\n"
}

// ingress is an Ingress for the host NAME.test of the case: annotations, one a line, then
// after an empty line paths: TYPE PATH SERVICE (P, E or I for the type).
func ingress(name, text string) string { return ingressOf(name, name+".test", text) }

func ingressOf(name, host, text string) string {
	annotations, paths, _ := strings.Cut(text, "\n\n")
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: %s\n  namespace: default\n  annotations:\n    kgt: kgt\n", name)
	for _, line := range strings.Split(annotations, "\n") {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			fmt.Fprintf(&b, "    nginx.ingress.kubernetes.io/%s: %q\n", key, value)
		}
	}
	fmt.Fprintf(&b, "spec:\n  ingressClassName: kerngate\n  rules:\n  - host: %q\n    http:\n      paths:\n", host)
	for _, line := range strings.Split(paths, "\n") {
		words := strings.Fields(line)
		if len(words) != 3 {
			continue
		}
		kind := map[string]string{"P": "Prefix", "E": "Exact", "I": "ImplementationSpecific"}[words[0]]
		fmt.Fprintf(&b, "      - {path: %q, pathType: %s, backend: {service: {name: %s, port: {number: 80}}}}\n", words[1], kind, words[2])
	}
	return b.String()
}
