package check

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// ingress is an Ingress of one path.
func ingress(name, host, path, annotations string) string {
	return fmt.Sprintf(`apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: %s
  namespace: shop
  annotations: {%s}
spec:
  ingressClassName: nginx
  rules:
  - host: %s
    http:
      paths:
      - {path: "%s", pathType: ImplementationSpecific, backend: {service: {name: web, port: {number: 80}}}}
`, name, annotations, host, path)
}

const service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n"

const prefix = "nginx.ingress.kubernetes.io/"

// judged is what is said of files, in short.
func judged(t *testing.T, files ...string) (outcomes, findings []string, r Report) {
	t.Helper()
	c := New(Options{})
	for i, text := range files {
		if err := c.Add(fmt.Sprintf("%d.yaml", i), strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	r = c.Report()
	for _, i := range r.Ingresses {
		outcomes = append(outcomes, fmt.Sprintf("%s:%d %s %s", i.File, i.Line, i.Name, i.Outcome))
	}
	for _, f := range r.Findings {
		if f.Level != Note {
			findings = append(findings, fmt.Sprintf("%s:%d %s %s %s", f.File, f.Line, f.Level, f.Verdict, strings.TrimPrefix(f.Key, prefix)))
		}
	}
	return outcomes, findings, r
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		what     string
		files    []string
		outcomes []string
		findings []string
	}{
		{"as it is written", []string{ingress("a", "a.example.com", "/", "") + "---\n" + service}, []string{"0.yaml:4 shop/a served"}, nil},
		{"values without a difference", []string{ingress("a", "a.example.com", "/",
			prefix+`auth-type: basic, `+prefix+`auth-secret: staff, `+prefix+`use-regex: "false", `+prefix+`proxy-body-size: 8m`) + "---\n" + service},
			[]string{"0.yaml:4 shop/a served"}, []string{"0.yaml:4 warning NotInManifests "}},
		{"auth-type digest", []string{ingress("a", "a.example.com", "/", prefix+`auth-type: digest`) + "---\n" + service},
			[]string{"0.yaml:4 shop/a closed"}, []string{"0.yaml:6 error closed auth-type"}},
		{"a path that cannot be compiled", []string{"# a comment\n---\n" + ingress("spa", "spa.example.com", "/(?!api)(.*)", prefix+`use-regex: "true"`) + "---\n" + service},
			[]string{"0.yaml:6 shop/spa not served"}, []string{"0.yaml:15 error PathInvalid "}},
		{"a value that package kube reads", []string{ingress("a", "a.example.com", "/", prefix+`backend-protocol: FCGI`) + "---\n" + service},
			[]string{"0.yaml:4 shop/a served, but"}, []string{"0.yaml:6 error unsupported backend-protocol"}},
		{"a Service that is elsewhere", []string{ingress("a", "a.example.com", "/", "")}, []string{"0.yaml:4 shop/a served"}, []string{"0.yaml:4 warning NotInManifests "}},
		{"a port that the Service lacks", []string{ingress("a", "a.example.com", "/", "") + "---\n" + strings.ReplaceAll(service, "port: 80", "port: 81")},
			[]string{"0.yaml:4 shop/a served, but"}, []string{"0.yaml:13 error ServicePortNotFound "}},
		{"ExternalName", []string{ingress("a", "a.example.com", "/", "") + "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {type: ExternalName, externalName: nas.example.com, ports: [{port: 80}]}\n"},
			[]string{"0.yaml:4 shop/a served, but"}, []string{"0.yaml:13 error ExternalNameRefused "}},
		{"an old version", []string{"apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: old, namespace: shop}\nspec: {backend: {serviceName: web, servicePort: 80}}\n", service},
			[]string{"0.yaml:3 shop/old served"}, []string{"0.yaml:3 warning ManifestWarning "}},
		{"the class of another controller", []string{"apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: nginx}\nspec: {controller: k8s.io/ingress-nginx}\n"},
			nil, []string{"0.yaml:3 error IngressClassForeign "}},
		{"settings of the controller", []string{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ingress-nginx-controller}\ndata:\n  proxy-body-size: 20m\n  global-auth-url: http://x/\n"},
			nil, []string{"0.yaml:5 warning setting proxy-body-size", "0.yaml:6 warning setting global-auth-url"}},
		{"settings of the controller that are as here", []string{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ingress-nginx-controller}\ndata:\n  use-forwarded-headers: \"false\"\n  enable-modsecurity: \"False\"\n  proxy-body-size: \"0\"\n  hide-headers: \"\"\n  proxy-buffer-size: 128k\n  use-geoip2: \"true\"\n  keep-alive: \"10\"\n"},
			nil, []string{"0.yaml:9 warning setting proxy-buffer-size", "0.yaml:10 error setting use-geoip2", "0.yaml:11 warning setting keep-alive"}},
		{"a HelmRelease", []string{"apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: app, namespace: shop}\nspec:\n  values:\n    ingress:\n      annotations:\n        " + prefix + "modsecurity-snippet: x\n"},
			[]string{"0.yaml:7 shop/HelmRelease app:spec.values.ingress.annotations served, but"}, []string{"0.yaml:8 error unsupported modsecurity-snippet"}},
		{"values of a chart", []string{"ingress:\n  annotations:\n    " + prefix + "enable-modsecurity: \"true\"\n"},
			[]string{"0.yaml:2 default/values:ingress.annotations served, but"}, []string{"0.yaml:3 error unsupported enable-modsecurity"}},
		{"F5's controller", []string{ingress("a", "a.example.com", "/", `nginx.org/websocket-services: web`) + "---\n" + service},
			[]string{"0.yaml:4 shop/a served, but"}, []string{"0.yaml:6 error foreign nginx.org/websocket-services"}},
		{"a template", []string{"{{ if .Values.ingress }}\n" + ingress("{{ .Release.Name }}", "a.example.com", "/", "") + "{{ end }}\n"}, nil, []string{"0.yaml:1 error Template "}},
		{"variables", []string{ingress("a", "${HOST:=a}.${DOMAIN}", "/", "") + "---\n" + service}, []string{"0.yaml:4 shop/a served, but"}[:0:0], nil},
		{"a List with one bad item", []string{"apiVersion: v1\nkind: List\nitems:\n" +
			"- {apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a_b, namespace: shop}}\n" +
			"- apiVersion: networking.k8s.io/v1\n  kind: Ingress\n  metadata: {name: b, namespace: shop}\n  spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}\n", service},
			[]string{"0.yaml:4 shop/a_b not served", "0.yaml:7 shop/b served"}, []string{"0.yaml:4 error ManifestInvalid "}},
		{"an IngressList", []string{`{"apiVersion":"networking.k8s.io/v1","kind":"IngressList","items":[{"metadata":{"name":"il","namespace":"shop","annotations":{"` + prefix + `no-such":"1"}},"spec":{"defaultBackend":{"service":{"name":"web","port":{"number":80}}}}}]}`, service},
			[]string{"0.yaml:1 shop/il served, but"}, []string{"0.yaml:1 error unknown no-such"}},
		{"the same names in two files", []string{ingress("a", "a.example.com", "/", "") + "---\n" + service, ingress("a", "a.example.com", "/", prefix+`enable-modsecurity: "true"`)},
			[]string{"0.yaml:4 shop/a served", "1.yaml:4 shop/a served, but"}, []string{"1.yaml:6 error unsupported enable-modsecurity"}},
		{"one host and path twice", []string{ingress("a", "a.example.com", "/", "") + "---\n" + service, ingress("b", "a.example.com", "/", "")},
			[]string{"0.yaml:4 shop/a served", "1.yaml:4 shop/b not served"}, []string{"1.yaml:13 error RouteConflict "}},
	} {
		outcomes, findings, _ := judged(t, c.files...)
		if c.what == "variables" {
			if len(outcomes) != 1 || len(findings) != 1 || findings[0] != "0.yaml:1 warning Variable " {
				t.Errorf("%s: %q, %q", c.what, outcomes, findings)
			}
			continue
		}
		if !slices.Equal(outcomes, c.outcomes) || !slices.Equal(findings, c.findings) {
			t.Errorf("%s:\n%q\n%q, want\n%q\n%q", c.what, outcomes, findings, c.outcomes, c.findings)
		}
	}
}

// TestUTF16: no document of a file in UTF-16 is lost.
func TestUTF16(t *testing.T) {
	text := "\ufeff" + ingress("u1", "u1.example.com", "/", "") + "---\n" + ingress("u2", "u2.example.com", "/", "")
	var raw []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		raw = binary.LittleEndian.AppendUint16(raw, unit)
	}
	if outcomes, _, _ := judged(t, string(raw)); len(outcomes) != 2 {
		t.Errorf("%q", outcomes)
	}
}

// TestForms: the defaults are said once, findings are counted as findings, and SARIF has
// all that the table has.
func TestForms(t *testing.T) {
	_, _, r := judged(t, ingress("a", "a.example.com", "/", prefix+`enable-modsecurity: "true", `+prefix+`proxy-buffering: "on"`), service)
	if len(r.Notes) != len(defaults) || !strings.Contains(r.Notes[0], "1 MiB") || !r.Refused() {
		t.Errorf("notes %q, refused %t", r.Notes, r.Refused())
	}
	if got := r.Summary(); got != "1 Ingress: 1 served with findings; 1 error, 1 warning" {
		t.Error(got)
	}
	raw, err := r.SARIF("1")
	if err != nil {
		t.Fatal(err)
	}
	var sarif struct {
		Runs []struct {
			Results    []struct{ Level, RuleID string }
			Properties struct {
				Ingresses []Ingress
				Notes     []string
			}
		}
	}
	if err := json.Unmarshal(raw, &sarif); err != nil || len(sarif.Runs) != 1 || len(sarif.Runs[0].Results) != 2 ||
		sarif.Runs[0].Results[0].RuleID != "annotation-unsupported" || len(sarif.Runs[0].Properties.Ingresses) != 1 {
		t.Errorf("%v: %s", err, raw)
	}
	_, _, r = judged(t, service)
	if len(r.Notes) != 0 || r.Summary() != "no Ingress; 0 errors, 0 warnings" {
		t.Errorf("without Ingresses: %q, %q", r.Notes, r.Summary())
	}
}

func TestBrokenDocument(t *testing.T) {
	c := New(Options{})
	err := c.Add("x.yaml", strings.NewReader("a: [\n---\n"+ingress("a", "a.example.com", "/", "")))
	if err == nil || !strings.Contains(err.Error(), "x.yaml, document in line 1") || len(c.Report().Ingresses) != 1 {
		t.Errorf("%d Ingresses, %v", len(c.Report().Ingresses), err)
	}
}

// TestItems: what is no object in a List is named with its line, also beside an Ingress with
// annotations, and the rest is judged.
func TestItems(t *testing.T) {
	c := New(Options{})
	err := c.Add("x.yaml", strings.NewReader("kind: List\napiVersion: v1\nitems:\n- 5\n- null\n-\n- text\n- [1, 2]\n- true\n- kind: List\n  apiVersion: v1\n  items:\n  - 7\n"+
		"- {apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a, namespace: shop, annotations: {"+prefix+"use-regex: 'true'}}, spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}}\n"+
		"- {apiVersion: v1, kind: Service, metadata: 5}\n- {apiVersion: v1, kind: 5}\n---\n5\n---\n- a\n---\nkind: IngressList\napiVersion: networking.k8s.io/v1\nitems: {a: b}\n"))
	const no = ", not a Kubernetes object"
	want := []string{
		"x.yaml:4, items[0]: this is a number" + no, "x.yaml:5, items[1]: this is null" + no, "x.yaml:6, items[2]: this is null" + no, "x.yaml:7, items[3]: this is text" + no,
		"x.yaml:8, items[4]: this is a list" + no, "x.yaml:9, items[5]: this is true or false" + no, "x.yaml:13, items[6].items[0]: this is a number" + no,
		"x.yaml:15, items[8]: metadata is a number, not a mapping", "x.yaml:16, items[9]: kind is a number, not text",
		"x.yaml, document in line 18: this is a number" + no, "x.yaml, document in line 20: this is a list" + no, "x.yaml, document in line 22: items is a mapping, not a list",
	}
	if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, want) {
		t.Errorf("%q,\nwant\n%q", got, want)
	}
	if r := c.Report(); len(r.Ingresses) != 1 || r.Ingresses[0].Line != 14 {
		t.Errorf("%+v", r.Ingresses)
	}
}

func FuzzAdd(f *testing.F) {
	f.Add(ingress("a", "a.example.com", "/", prefix+`use-regex: "true"`) + "---\n" + service)
	f.Fuzz(func(t *testing.T, text string) {
		c := New(Options{})
		c.Add("x", strings.NewReader(text))
		r := c.Report()
		if _, err := r.SARIF(""); err != nil {
			t.Error(err)
		}
		for _, found := range r.Findings {
			if found.Line < 1 || found.Line > strings.Count(text, "\n")+2 {
				t.Errorf("line %d of %q", found.Line, text)
			}
		}
	})
}

// TestController: with the ConfigMap that the agent is to have, Ingresses are judged as it would
// serve them, and what is wrong with a key is told with its line.
func TestController(t *testing.T) {
	c := New(Options{IngressNginx: "ingress-nginx/controller"})
	config := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: controller, namespace: ingress-nginx}\ndata:\n  proxy-body-size: much\n  keep-alive: \"10\"\n  use-geoip2: \"true\"\n  global-auth-url: ftp://x/\n  add-headers: a/b\n"
	for file, text := range map[string]string{"i.yaml": ingress("a", "a.example.com", "/", "") + "---\n" + service, "c.yaml": config} {
		if err := c.Add(file, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	r := c.Report()
	var got []string
	for _, f := range r.Findings {
		if f.Level != Note {
			got = append(got, fmt.Sprintf("%s:%d %s %s %s", f.File, f.Line, f.Level, f.Verdict, f.Key))
		}
	}
	want := []string{"c.yaml:3 warning NotInManifests ", "c.yaml:5 error SettingInvalid proxy-body-size", "c.yaml:6 warning setting keep-alive", "c.yaml:7 error setting use-geoip2", "c.yaml:8 error AccessClosed global-auth-url", "i.yaml:4 error AccessClosed "}
	if !slices.Equal(got, want) || len(r.Ingresses) != 1 || r.Ingresses[0].Outcome != Closed {
		t.Errorf("%+v\n%q, want\n%q", r.Ingresses, got, want)
	}
	c = New(Options{IngressNginx: "ingress-nginx/controller"})
	if err := c.Add("i.yaml", strings.NewReader(ingress("a", "a.example.com", "/", "")+"---\n"+service)); err != nil {
		t.Fatal(err)
	}
	if r := c.Report(); len(r.Findings) != 1 || r.Findings[0].Verdict != "NotInManifests" || r.Ingresses[0].Outcome != Served {
		t.Errorf("%+v", r)
	}
}

// controller is a Deployment and a ConfigMap of ingress-nginx's controller.
const controller = `apiVersion: v1
kind: ConfigMap
metadata: {name: ingress-nginx-controller, namespace: ingress-nginx}
data:
  keep-alive: "30"
  use-forwarded-headers: "true"
  proxy-real-ip-cidr: 10.0.0.0/8, 192.0.2.0/24
  proxy-body-size: 8m
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress-nginx-controller, namespace: ingress-nginx}
spec:
  template:
    spec:
      containers:
      - name: controller
        args:
        - /nginx-ingress-controller
        - --configmap=$(POD_NAMESPACE)/ingress-nginx-controller
        - --default-ssl-certificate=certs/wildcard
        - --watch-ingress-without-class=true
        - --disable-catch-all=false
`

// TestPlan: the flags are those that the ConfigMap and the Deployment come to, and copies of
// Ingresses are for the other class, without what acts on hosts.
func TestPlan(t *testing.T) {
	c := New(Options{})
	text := ingress("a", "a.example.com", "/", prefix+`auth-type: digest, cert-manager.io/cluster-issuer: x, `+prefix+`app-root: "/a|b <script>"`) + "---\n" + ingress("b", "b.example.com", "/", "") + "---\n" + service
	for file, text := range map[string]string{"i.yaml": text, "c.yaml": controller} {
		if err := c.Add(file, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	p := c.Plan()
	var flags []string
	for _, f := range p.Flags {
		flags = append(flags, f.Text())
	}
	want := []string{"--ingress-class=kerngate", "--ingress-nginx-configmap=ingress-nginx/ingress-nginx-controller", "--default-certificate=certs/wildcard", "--watch-ingress-without-class",
		"--idle-timeout=30s", "--trusted-proxy=10.0.0.0/8", "--trusted-proxy=192.0.2.0/24", "--access-log=on"}
	if !slices.Equal(flags, want) || p.ConfigMap != "ingress-nginx/ingress-nginx-controller" || !slices.Equal(p.Classes, []string{"nginx"}) {
		t.Errorf("%q, want\n%q\n%s %q", flags, want, p.ConfigMap, p.Classes)
	}
	var markdown, html strings.Builder
	p.Document().Markdown(&markdown)
	if err := p.Document().HTML(&html); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{markdown.String(), html.String()} {
		if !strings.Contains(out, "shop/a") || !strings.Contains(out, "closed") || strings.Contains(out, "<script>") || !strings.Contains(out, "--idle-timeout=30s") {
			t.Errorf("%s", out)
		}
	}
	for line := range strings.Lines(markdown.String()) { // what a manifest says makes no column of its own
		if strings.HasPrefix(line, "| i.yaml") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 7 {
			t.Errorf("%s", line)
		}
	}
	copies, err := c.Copies("kerngate", "a.example.com")
	if err != nil || strings.Contains(copies, "cert-manager") || strings.Contains(copies, "b.example.com") || !strings.Contains(copies, "ingressClassName: kerngate") ||
		!strings.Contains(copies, "name: a-kerngate") || !strings.Contains(copies, prefix+"auth-type: digest") {
		t.Errorf("%v\n%s", err, copies)
	}
	again := New(Options{Class: "kerngate"})
	if err := again.Add("copies.yaml", strings.NewReader(copies+"---\n"+service)); err != nil || len(again.Report().Ingresses) != 1 {
		t.Errorf("%v %+v", err, again.Report())
	}
	if of, err := again.Copies("kerngate", ""); err != nil || of != "" {
		t.Errorf("copies of copies: %v\n%s", err, of)
	}
	// With copies beside them, Ingresses still go back to the class that they had.
	markdown.Reset()
	Plan{Classes: []string{"kerngate", "nginx"}}.Document().Markdown(&markdown)
	if _, back, _ := strings.Cut(markdown.String(), "Roll back"); !strings.Contains(back, `"ingressClassName":"nginx"`) {
		t.Errorf("%s", back)
	}
}
