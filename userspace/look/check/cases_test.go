package check

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// TestCases judges manifests that were judged wrongly once: what is served, and all that is
// said, but for Services and Secrets that are elsewhere.
func TestCases(t *testing.T) {
	for file, want := range map[string][]string{
		"acme-edit-in-place.yaml":  {"shop/board served"},
		"allow-deny-snippet.yaml":  {"shop/intra served"},
		"auth-request-set.yaml":    {"default/app served"},
		"auth-snippet-fields.yaml": {"shop/files served"},
		"auth-url-dot.yaml":        {"shop/media served"},
		"header-of-a-rule.yaml":    {"default/logs served"},
		"location-refused.yaml":    {"shop/api served"},
		"location-return.yaml":     {"default/id served"},
		"lookahead-path.yaml":      {"default/spa not served", `10 error PathInvalid  spec.rules[0].http.paths[0]: path "/(?!api)(.*)"`},
		"rewrite-elsewhere.yaml":   {"shop/moved served"},
		"rewrite-same-path.yaml":   {"shop/site served"},
		"signin-escaped.yaml":      {"shop/wiki served"},
		"snippet-values.yaml":      {"shop/ids served"},
		"list-kinds.json":          {"shop/il served, but", "1 error unknown no-such ingress-nginx has no such annotation"},
		"list-one-bad.yaml":        {"shop/first served", "shop/old served", "shop/third served", "10 warning ManifestWarning  Ingress of apiVersion networking.k8s.io/v1beta1 is read as"},
		"check-silent.yaml": {
			"shop/old served", "shop/nas not served", "shop/HelmRelease app:spec.values.ingress.main.annotations served, but",
			"3 warning ManifestWarning  Ingress of apiVersion extensions/v1beta1", "8 error IngressClassForeign  IngressClass nginx belongs to another controller",
			`19 error PathInvalid  spec.rules[0].http.paths[0]: path "/share/(.*)"`,
			"25 warning setting use-forwarded-headers a setting of ingress-nginx's controller; here it is the agent's --trusted-proxy", "26 warning setting proxy-body-size a setting of ingress-nginx's controller that is honoured if the agent has --ingress-nginx-configmap",
			"27 warning setting custom-http-errors a setting", "28 warning setting block-user-agents a setting", "29 warning setting hide-headers a setting", "30 warning setting global-auth-url a setting",
			`35 error setting 5432 "shop/db:5432:PROXY"`, "46 error unsupported modsecurity-snippet there is no web application firewall",
		},
	} {
		c := New(Options{})
		f, err := os.Open(filepath.Join("testdata", "cases", file))
		if err != nil {
			t.Fatal(err)
		}
		err = c.Add(file, f)
		f.Close()
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		r := c.Report()
		var got []string
		for _, i := range r.Ingresses {
			got = append(got, i.Name+" "+i.Outcome)
		}
		for _, f := range r.Findings {
			if f.Level != Note && f.Verdict != "NotInManifests" {
				got = append(got, fmt.Sprintf("%d %s %s %s %s", f.Line, f.Level, f.Verdict, strings.TrimPrefix(f.Key, prefix), f.Message))
			}
		}
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%s:\n%q, want\n%q", file, got, want)
		}
	}
	files, err := os.ReadDir("testdata/cases")
	if err != nil || len(files) != 16 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// TestForeign: the key of another product names the product, and what does the same here.
func TestForeign(t *testing.T) {
	for key, want := range map[string]string{
		"nginx.org/rewrites":                               "error F5's NGINX Ingress Controller reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/rewrite-target",
		"nginx.org/ssl-services":                           "error F5's NGINX Ingress Controller reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/backend-protocol: HTTPS",
		"nginx.org/websocket-services":                     "error F5's NGINX Ingress Controller reads this key; ingress-nginx did not, and Kerngate does not, and needs nothing in its place",
		"nginx.org/no-such":                                "error F5's NGINX Ingress Controller reads this key; ingress-nginx did not, and Kerngate does not: docs/annotations.md lists the keys that are read",
		"nginx.com/jwt-key":                                "error F5's NGINX Ingress Controller for NGINX Plus reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/auth-url",
		"haproxy.org/allow-list":                           "warning HAProxy Technologies' ingress controller reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/allowlist-source-range",
		"haproxy.org/response-set-header":                  `warning HAProxy Technologies' ingress controller reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/configuration-snippet: more_set_headers "NAME: VALUE";`,
		"haproxy-ingress.github.io/auth-url":               "warning HAProxy Ingress (jcmoraisjr) reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/auth-url",
		"traefik.ingress.kubernetes.io/router.middlewares": "warning Traefik reads this key; ingress-nginx did not, and Kerngate does not: use the annotations that do what the Middleware does",
		"alb.ingress.kubernetes.io/ssl-redirect":           "warning the AWS Load Balancer Controller reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/force-ssl-redirect",
		"alb.ingress.kubernetes.io/scheme":                 "warning the AWS Load Balancer Controller reads this key; ingress-nginx did not, and Kerngate does not, and needs nothing in its place",
		"appgw.ingress.kubernetes.io/backend-path-prefix":  "warning Azure's Application Gateway Ingress Controller reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/rewrite-target",
		"konghq.com/strip-path":                            "warning Kong reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/rewrite-target",
		"projectcontour.io/response-timeout":               "warning Contour reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/proxy-read-timeout",
		"ingress.kubernetes.io/rewrite-target":             "warning an old ingress-nginx, Traefik 1 or HAProxy Ingress reads this key; ingress-nginx did not, and Kerngate does not: use nginx.ingress.kubernetes.io/rewrite-target",
		"cert-manager.io/cluster-issuer":                   "", "kubernetes.io/ingress.class": "", "kerngate.dev/compression": "", "meta.helm.sh/release-name": "", "nginx.ingress.kubernetes.io/app-root": "",
	} {
		_, _, r := judged(t, ingress("a", "a.example.com", "/", key+": /x")+"---\n"+service)
		got := ""
		for _, f := range r.Findings {
			if f.Verdict == "foreign" {
				got = string(f.Level) + " " + f.Message
			}
		}
		if got != want {
			t.Errorf("%s:\n%s, want\n%s", key, got, want)
		}
	}
}

// TestEquals: what is named as an equal is an annotation that Kerngate reads.
func TestEquals(t *testing.T) {
	for _, product := range products {
		for name, equal := range product.equals {
			first, _, _ := strings.Cut(equal, " {")
			if equal == "" || strings.Contains(first, " ") {
				continue
			}
			if k, known := ingressnginx.Lookup(first); !known || k.Verdict == ingressnginx.Unsupported {
				t.Errorf("%s%s: %s is not read", product.prefix, name, equal)
			}
		}
	}
}
