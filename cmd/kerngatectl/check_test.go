package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheck: what stands in files, in a folder and on standard input, and the exit status.
func TestCheck(t *testing.T) {
	ingress := func(annotation string) string {
		return "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: a\n  annotations:\n    nginx.ingress.kubernetes.io/" + annotation + "\nspec:\n  rules:\n  - {host: a.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}\n---\n" +
			"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n"
	}
	folder := t.TempDir()
	for name, text := range map[string]string{"good.yaml": ingress("app-root: /app"), "notes.txt": "a: ["} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		stdin string
		args  []string
		want  string // in the output
		err   string
	}{
		{"", []string{folder}, "1 Ingress: 1 served; 0 errors, 0 warnings", ""},
		{"", []string{folder, "--all"}, "good.yaml:6   Ingress default/a   note    supported   app-root", ""},
		{ingress("enable-modsecurity: \"true\""), []string{"-"}, "-:6    Ingress default/a   error   unsupported   enable-modsecurity   there is no web application firewall", "not served as written"},
		{ingress("enable-modsecurity: \"true\""), []string{"-", "-o", "json"}, `"verdict": "unsupported"`, "not served as written"},
		{ingress("enable-modsecurity: \"true\""), []string{"-", "--sarif"}, `"ruleId": "annotation-unsupported"`, "not served as written"},
		{"a: [", []string{"-"}, "", "document in line 1"},
		{"", []string{folder + "/missing"}, "", "no such file"},
		{"", nil, "", "name one file"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), env{stdin: strings.NewReader(c.stdin), stdout: &out, stderr: &out}, append([]string{"check"}, c.args...))
		if !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: %s", c.args, out.String())
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v", c.args, err)
		}
		if errors.As(err, new(usageError)) != (c.args == nil) {
			t.Errorf("%q: usage error: %v", c.args, err)
		}
	}
}
