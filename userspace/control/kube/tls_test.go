package kube_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

var authority = certtest.NewAuthority("Scenario CA")

// expand replaces in a scenario's input
//
//	{{pair "ecdsa" "a.example.com"}}  by the data of a kubernetes.io/tls Secret,
//	{{chain ...}} and {{key ...}}     by one half of it, in base64,
//	{{ca}} and {{crl}}                by the authority that signs all of them, and its list.
func expand(t testing.TB, text string) string {
	t.Helper()
	encode := base64.StdEncoding.EncodeToString
	functions := template.FuncMap{
		"pair": func(kind string, names ...string) string {
			chain, key := authority.Pair(kind, names...)
			return fmt.Sprintf("tls.crt: %s, tls.key: %s", encode(chain), encode(key))
		},
		"chain": func(kind string, names ...string) string {
			chain, _ := authority.Pair(kind, names...)
			return encode(chain)
		},
		"key": func(kind string, names ...string) string {
			_, key := authority.Pair(kind, names...)
			return encode(key)
		},
		"ca":  func() string { return encode(authority.PEM()) },
		"crl": func() string { return encode(authority.Revocation()) },
	}
	parsed, err := template.New("").Funcs(functions).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := parsed.Execute(&out, nil); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// checkTrust: certificates and authorities are in the model if, and only if, something
// uses them, or would if the host were its namespace's or the names fitted; and nothing that is printed
// holds a key.
func checkTrust(t *testing.T, m model.Model, problems []model.Problem) {
	t.Helper()
	used := map[string]bool{}
	trusted := map[string]bool{}
	inVain := func(id string) bool {
		return slices.ContainsFunc(problems, func(p model.Problem) bool {
			return (p.Reason == "HostOwned" || p.Reason == "ClientAuthConflict" || p.Reason == "CertificateNameMismatch") && strings.HasPrefix(id, p.Object.Namespace+"/")
		})
	}
	for _, h := range m.Hosts {
		if h.TLS != nil {
			for _, id := range h.TLS.Certificates {
				used[id] = true
			}
			if h.TLS.Client != nil {
				trusted[h.TLS.Client.Authority] = true
				for _, r := range h.Routes {
					challenge := strings.HasPrefix(r.Path+"/", "/.well-known/acme-challenge/") && !strings.ContainsAny(r.Path, "|()[]{}*+?^$\\")
					if r.RedirectHTTPS == r.ClearText || r.ClearText && !challenge {
						t.Errorf("host %q asks for client certificates, but %s is served in clear text", h.Name, r.Path)
					}
				}
			}
		}
		for _, r := range h.Routes {
			if r.Upstream.TLS != nil {
				used[r.Upstream.TLS.Certificate] = true
				trusted[r.Upstream.TLS.Authority] = true
			}
		}
	}
	used[m.DefaultCertificate] = true
	have := map[string]bool{}
	for i, c := range m.Certificates {
		have[c.ID] = true
		if !used[c.ID] && !inVain(c.ID) {
			t.Errorf("certificate %s is not used", c.ID)
		}
		if i > 0 && m.Certificates[i-1].ID >= c.ID {
			t.Errorf("certificates are not sorted at %s", c.ID)
		}
		if part := certtest.Leaks(m.Dump()+fmt.Sprintf("%v %+v %#v", m, m, c.Key), c.Key); part != "" {
			t.Errorf("a key is printed: %s", part)
		}
	}
	for i, a := range m.Authorities {
		if !trusted[a.ID] && !inVain(a.ID) {
			t.Errorf("authority %s is not used", a.ID)
		}
		if i > 0 && m.Authorities[i-1].ID >= a.ID {
			t.Errorf("authorities are not sorted at %s", a.ID)
		}
	}
	for _, h := range m.Hosts {
		if h.TLS != nil && slices.ContainsFunc(h.TLS.Certificates, func(id string) bool { return !have[id] }) {
			t.Errorf("host %q names certificates %v, which are not all there", h.Name, h.TLS.Certificates)
		}
	}
	if m.DefaultCertificate != "" && !have[m.DefaultCertificate] {
		t.Errorf("default certificate %s is not there", m.DefaultCertificate)
	}
}

// TestSecretsStaySecret: whatever a Secret holds, and wherever in it, no problem repeats it.
func TestSecretsStaySecret(t *testing.T) {
	chain, key := authority.Pair(certtest.RSA, "a.example.com")
	_, other := authority.Pair(certtest.ECDSA, "b.example.com")
	encode := base64.StdEncoding.EncodeToString
	for what, data := range map[string]string{
		"swapped":     "tls.crt: " + encode(key) + ", tls.key: " + encode(chain),
		"other key":   "tls.crt: " + encode(chain) + ", tls.key: " + encode(other),
		"damaged key": "tls.crt: " + encode(chain) + ", tls.key: " + encode(append(key[:200:200], key[230:]...)),
		"only key":    "tls.key: " + encode(key),
		"key in ca":   "ca.crt: " + encode(key) + ", tls.crt: " + encode(chain) + ", tls.key: " + encode(key),
		"key in crl":  "ca.crt: " + encode(chain) + ", ca.crl: " + encode(key),
		"not base64":  "tls.crt: " + string(encode(chain)) + ", tls.key: \"" + strings.ReplaceAll(string(key), "\n", "") + "\"",
		"a number":    "tls.key: 5, tls.crt: " + encode(key),
		"open quote":  "tls.key: \"" + encode(key),
		"bare PEM":    "tls.key: " + string(key),
	} {
		var objects kube.Objects
		var said strings.Builder
		for _, text := range []string{`apiVersion: v1
kind: Secret
metadata: {name: s}
data: {` + data + `}`, `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations:
    nginx.ingress.kubernetes.io/auth-tls-secret: default/s
    nginx.ingress.kubernetes.io/backend-protocol: HTTPS
    nginx.ingress.kubernetes.io/proxy-ssl-verify: "on"
    nginx.ingress.kubernetes.io/proxy-ssl-secret: s
spec:
  ingressClassName: kerngate
  tls: [{secretName: s}]
  rules: [{host: a.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]`} {
			decoded, warnings, err := kube.Decode([]byte(text))
			fmt.Fprintln(&said, warnings, err)
			for _, o := range decoded {
				fmt.Fprintf(&said, "%v\n", o.Ref)
				objects.Add(o)
			}
		}
		m, problems := kube.Translate(objects, kube.Options{Class: "kerngate", ClassOptional: true})
		said.WriteString(m.Dump() + dumpProblems(problems))
		for _, k := range [][]byte{key, other} {
			if part := certtest.Leaks(said.String(), k); part != "" {
				t.Errorf("%s: %q of the key is in\n%s", what, part, said.String())
			}
		}
		if !strings.Contains(said.String(), "Secret") {
			t.Errorf("%s: nothing is said\n%s", what, said.String())
		}
	}
}
