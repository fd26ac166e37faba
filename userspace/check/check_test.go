package check

import (
	"encoding/json"
	"strings"
	"testing"
)

const manifests = `# two Ingresses, a List and something else
apiVersion: v1
kind: ConfigMap
metadata: {name: x, annotations: {nginx.ingress.kubernetes.io/app-root: /}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: a
  namespace: shop
  annotations:
    nginx.ingress.kubernetes.io/rewrite-target: /$1
    nginx.ingress.kubernetes.io/app-root: /app
    nginx.ingress.kubernetes.io/enable-modsecurity: "true"
    nginx.ingress.kubernetes.io/auth-type: basic
    nginx.ingress.kubernetes.io/auth-secret: staff
    other.example.com/x: y
---
apiVersion: v1
kind: List
items:
- apiVersion: networking.k8s.io/v1
  kind: Ingress
  metadata: {name: b, annotations: {nginx.ingress.kubernetes.io/limit-rps: many, nginx.ingress.kubernetes.io/limit-rsp: "1"}}
`

func TestFile(t *testing.T) {
	rows, err := File("all.yaml", strings.NewReader(manifests))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"shop/a app-root": "supported", "shop/a rewrite-target": "difference", "shop/a enable-modsecurity": "unsupported",
		"shop/a auth-type": "difference", "shop/a auth-secret": "difference",
		"default/b limit-rps": "invalid", "default/b limit-rsp": "unknown",
	}
	for _, r := range rows {
		key := r.Ingress + " " + strings.TrimPrefix(r.Key, "nginx.ingress.kubernetes.io/")
		if want[key] != r.Verdict {
			t.Errorf("%s: %s, want %s", key, r.Verdict, want[key])
		}
		delete(want, key)
		if line := map[string]int{"shop/a": 6, "default/b": 19}[r.Ingress]; r.Line != line {
			t.Errorf("%s: line %d, want %d", key, r.Line, line)
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if got := Summary(rows); got != "7 annotations of 2 Ingresses: 1 supported, 3 difference, 1 unsupported, 1 unknown, 1 invalid" {
		t.Error(got)
	}
	raw, err := SARIF(rows, "1")
	if err != nil {
		t.Fatal(err)
	}
	var sarif struct {
		Runs []struct{ Results []struct{ Level string } }
	}
	if err := json.Unmarshal(raw, &sarif); err != nil || len(sarif.Runs) != 1 || len(sarif.Runs[0].Results) != 6 {
		t.Errorf("%v: %s", err, raw)
	}
}

func TestBrokenDocument(t *testing.T) {
	rows, err := File("x.yaml", strings.NewReader("a: [\n---\n"+strings.SplitAfterN(manifests, "---\n", 2)[1]))
	if err == nil || !strings.Contains(err.Error(), "x.yaml, document in line 1") || len(rows) != 7 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add(manifests)
	f.Fuzz(func(t *testing.T, text string) {
		rows, _ := File("x", strings.NewReader(text))
		for _, r := range rows {
			if strings.ContainsAny(r.Message, "\r\n") {
				t.Errorf("message %q", r.Message)
			}
		}
		if _, err := SARIF(rows, ""); err != nil {
			t.Error(err)
		}
	})
}
