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
		return "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: a\n  annotations:\n    nginx.ingress.kubernetes.io/" + annotation + "\n"
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
		{"", []string{folder}, "1 annotations of 1 Ingresses: 1 supported", ""},
		{"", []string{folder, "--all"}, "default/a   app-root     supported", ""},
		{ingress("enable-modsecurity: true"), []string{"-"}, "enable-modsecurity   unsupported   there is no web application firewall", "not honoured"},
		{ingress("enable-modsecurity: true"), []string{"-", "-o", "json"}, `"verdict": "unsupported"`, "not honoured"},
		{ingress("enable-modsecurity: true"), []string{"-", "--sarif"}, `"ruleId": "annotation-unsupported"`, "not honoured"},
		{"a: [", []string{"-"}, "no annotation", "document in line 1"},
		{"", []string{folder + "/missing"}, "no annotation", "no such file"},
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
