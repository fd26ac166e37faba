package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestMigrate: the plan in its forms, copies, and a shadow run from a log on standard input.
func TestMigrate(t *testing.T) {
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host, r.URL.Path) }))
	defer old.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/b" {
			w.WriteHeader(http.StatusTeapot)
		}
		fmt.Fprint(w, r.Host, r.URL.Path)
	}))
	defer other.Close()
	manifest := "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec:\n  ingressClassName: nginx\n  rules:\n  - {host: a.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}\n"
	log := func(path string) string { return `- - - [x] "GET ` + path + ` HTTP/1.1" 200 1` + "\n" }
	post := strings.Replace(log("/a"), "GET", "POST", 1)
	for _, c := range []struct {
		stdin string
		args  string
		want  string
		err   string
	}{
		{manifest, "migrate -", "# From ingress-nginx to Kerngate", ""},
		{manifest, "migrate - -o html", "<h1>From ingress-nginx to Kerngate</h1>", ""},
		{manifest, "migrate - -o json", `"flag": "--ingress-class"`, ""},
		{manifest, "check - -o markdown", "| default/a | served | -:3 |", ""},
		{manifest, "check - -o html", "<td>default/a</td>", ""},
		{manifest, "routes - -o html", "", "want table, json or yaml"},
		{manifest, "migrate copy -", "name: a-kerngate", ""},
		{"", "migrate", "", "name one file"},
		{log("/a"), "migrate shadow - --host a.example.com --rate 100 --old " + old.URL + " --new " + other.URL, "1 requests sent to both, 0 with differences", ""},
		{log("/a") + log("/b"), "migrate shadow - --host a.example.com --rate 100 --old " + old.URL + " --new " + other.URL, "GET a.example.com/b   status", "the answers differ"},
		{post + strings.Replace(post, "POST", "DELETE", 1) + post, "migrate shadow - --host a.example.com --old " + old.URL + " --new " + other.URL, "3 skipped by their method", "other methods (DELETE, POST); name those to send with --methods"},
		{log("/a"), "migrate shadow - --methods PUT --host a.example.com --old " + old.URL + " --new " + other.URL, "1 skipped by their method", "no request was sent"},
		{post + log("/a"), "migrate shadow - --host a.example.com --rate 100 --old " + old.URL + " --new " + other.URL, "1 requests sent to both, 0 with differences; 1 skipped", ""},
		{log("/a"), "migrate shadow - --host a.example.com --new " + other.URL, "", "--old must name"},
		{log("/a"), "migrate shadow - --old " + old.URL + " --new " + other.URL, "", "--host"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), env{stdin: strings.NewReader(c.stdin), stdout: &out, stderr: &out}, strings.Fields(c.args))
		if !strings.Contains(out.String(), c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v\n%s", c.args, err, out.String())
		}
		if strings.Contains(c.err, "--old") && !errors.As(err, new(usageError)) {
			t.Errorf("%s: %v is no usage error", c.args, err)
		}
	}
}
