package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckCluster: Ingresses come as kubectl prints them, what it refuses is told, and so
// is that it is not there. The kubectl of this test is a script: the real one is what it is.
func TestCheckCluster(t *testing.T) {
	dir := t.TempDir()
	script := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	ctl := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), env{stdin: strings.NewReader(""), stdout: &out, stderr: &out}, append([]string{"check"}, args...))
		return out.String(), err
	}
	const list = `{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
"metadata": {"name": "web", "namespace": "shop", "annotations": {"nginx.ingress.kubernetes.io/enable-modsecurity": "true", "nginx.ingress.kubernetes.io/app-root": "/app"}}, "spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}}]}`
	script(`[ "$*" = "get ingresses.networking.k8s.io --all-namespaces --output json --kubeconfig k --context c" ] || exit 3; cat <<'E'` + "\n" + list + "\nE\n")
	out, err := ctl("--cluster", "--kubeconfig", "k", "--context", "c", "--all")
	if err == nil || !strings.Contains(out, "shop/web") || !strings.Contains(out, "app-root") || !strings.Contains(out, "1 Ingress: 1 served with findings; 1 error, 1 warning") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, _ = ctl("--cluster", "--kubeconfig", "k", "--context", "c", "-o", "sarif"); !strings.Contains(out, `"ruleId": "annotation-unsupported"`) {
		t.Errorf("%s", out)
	}
	script("echo 'Error from server (Forbidden): ingresses is forbidden' >&2; exit 1")
	if _, err = ctl("--cluster"); err == nil || !strings.Contains(err.Error(), "Forbidden") || !strings.Contains(err.Error(), "the right to list") {
		t.Errorf("%v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err = ctl("--cluster"); err == nil || !strings.Contains(err.Error(), "kubectl is not installed") {
		t.Errorf("%v", err)
	}
	if _, err = ctl("--cluster", "-"); err == nil || !strings.Contains(err.Error(), "or --cluster") {
		t.Errorf("%v", err)
	}
}
