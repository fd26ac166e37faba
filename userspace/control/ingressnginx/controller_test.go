package ingressnginx

import (
	"slices"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/model"
)

// TestSettings: the table is sorted, so that keys are found; what names an equal names one that
// there is, and nothing that asks for no more than the default is complained about.
func TestSettings(t *testing.T) {
	if !slices.IsSortedFunc(settings, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("settings are not sorted")
	}
	for i, s := range settings {
		if got, ok := LookupSetting(s.Name); !ok || got.Name != s.Name || i > 0 && settings[i-1].Name == s.Name {
			t.Errorf("%s is not found, or is twice there", s.Name)
		}
		switch _, known := Lookup(s.Equal); {
		case s.By == ByAnnotation && !known:
			t.Errorf("%s: there is no annotation %q", s.Name, s.Equal)
		case s.By == ByFlag && !strings.HasPrefix(s.Equal, "--"):
			t.Errorf("%s: %q is no flag", s.Name, s.Equal)
		case (s.By == Needless || s.By == NotSupported) && s.Why == "":
			t.Errorf("%s: it is not said why", s.Name)
		}
		for _, v := range s.Same {
			_, found := ReadController("ns/c", map[string]string{s.Name: v}, nil)
			if len(found) > 0 {
				t.Errorf("%s: %s: %+v", s.Name, v, found)
			}
		}
	}
	for i, f := range controllerFlags {
		if i > 0 && controllerFlags[i-1].Name >= f.Name || f.Equal == "" && f.Why == "" {
			t.Errorf("flag %s", f.Name)
		}
	}
	for key, want := range map[string]SettingBy{"jaeger-endpoint": NotSupported, "zipkin-sample-rate": NotSupported, "global-rate-limit-memcached-host": NotSupported} {
		if s, ok := LookupSetting(key); !ok || s.By != want {
			t.Errorf("%s: %v %t", key, s.By, ok)
		}
	}
}

// TestControllerValues: what is wrong with a value is said of the ConfigMap, with its own key,
// and not of Ingresses.
func TestControllerValues(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"proxy-body-size", "much", "invalid"}, {"proxy-body-size", "8m", ""}, {"custom-http-errors", "200", "invalid"},
		{"hsts", "maybe", "invalid"}, {"hsts-max-age", "-1", "invalid"}, {"hsts-max-age", "1; evil", "invalid"},
		{"limit-req-status-code", "200", "invalid"}, {"no-auth-locations", "public", "invalid"}, {"block-user-agents", "~", "invalid"},
		{"block-referers", "~*(a", "invalid"}, {"hide-headers", "A B", "invalid"}, {"location-snippet", "a {", "closed"}, {"location-snippet", "return 200 ok;", ""},
		{"server-snippet", "access_by_lua_block { x }", ""}, {"global-auth-url", "http://localhost/", "closed"}, {"global-auth-url", "http://$http_x/", "closed"},
		{"global-auth-method", "BREW", ""}, {"whitelist-source-range", "x", "closed"}, {"use-geoip2", "true", "unsupported"},
		{"keep-alive", "30", "difference"}, {"worker-processes", "4", "difference"}, {"http-snippets", "x", "unknown"},
		{"main-snippet", "x", "unsupported"}, {"add-headers", "x", "invalid"}, {"add-headers", "a/../b", "invalid"},
	} {
		controller, found := ReadController("ns/c", map[string]string{c.key: c.value}, nil)
		got := ""
		for _, f := range found {
			if got = f.Verdict.String(); f.Key != c.key {
				t.Errorf("%s: %q: %+v", c.key, c.value, f)
			}
		}
		if got != c.want && c.want != "" || c.want == "" && (got == "invalid" || got == "unsupported" || got == "unknown") {
			t.Errorf("%s: %q: %q, want %q", c.key, c.value, got, c.want)
		}
		for _, f := range Read(Ingress{Namespace: "ns", Name: "web", Controller: controller}, known).Findings {
			if f.Verdict != Closed || f.Setting != "ns/c" || !strings.HasPrefix(f.Text(), "ConfigMap ns/c: ") {
				t.Errorf("%s: %q is said of the Ingress: %s %s", c.key, c.value, f.Verdict, f.Text())
			}
		}
	}
}

// TestControllerYields: an annotation of the Ingress goes before the ConfigMap's, whatever the
// value is.
func TestControllerYields(t *testing.T) {
	c, _ := ReadController("ns/c", map[string]string{
		"proxy-body-size": "8m", "whitelist-source-range": "10.0.0.0/8", "global-auth-url": "http://a.ns.svc/", "global-auth-signin": "https://login/", "ssl-redirect": "false",
	}, nil)
	got := Read(Ingress{Namespace: "ns", Name: "web", Controller: c, Annotations: map[string]string{
		Prefix + "proxy-body-size": "1m", Prefix + "allowlist-source-range": "192.0.2.0/24", Prefix + "auth-url": "http://b.ns.svc/", Prefix + "ssl-redirect": "true",
	}}, known)
	p := got.Policy
	if *p.MaxBody != 1<<20 || len(p.Access.Allow) != 1 || p.Access.Allow[0].String() != "192.0.2.0/24" || !*got.HTTPS.WithTLS {
		t.Errorf("%+v %+v", p, p.Access)
	}
	if e := p.Access.External; e.To.Authority != "b.ns.svc" || e.SignIn != "" {
		t.Errorf("%+v: what belongs to global-auth-url is added to another service", e)
	}
	bare := Read(Ingress{Namespace: "ns", Name: "web", Controller: c}, known)
	if p := bare.Policy; *p.MaxBody != 8<<20 || p.Access.External.To.Authority != "a.ns.svc" || p.Access.External.SignIn != "https://login/" || *bare.HTTPS.WithTLS || bare.Used {
		t.Errorf("%+v", bare)
	}
	if by := bare.Policy.Origins[model.RuleMaxBody]; !slices.Equal(by, []string{"ConfigMap ns/c: proxy-body-size"}) {
		t.Errorf("%q: explain would not name the ConfigMap", by)
	}
}

func FuzzController(f *testing.F) {
	f.Add("block-user-agents", "~*bot, curl/7.1", "location-snippet", "more_set_headers 'a: b';")
	f.Add("add-headers", "a/b", "hsts-max-age", "1\r\nb: c")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		fields := func(string, string) (map[string]string, error) { return map[string]string{k1: v2, k2: v1}, nil }
		c, _ := ReadController("ns/c", map[string]string{k1: v1, k2: v2, "add-headers": "a/b", "proxy-set-headers": "a/b"}, fields)
		if strings.ContainsAny(c.HSTS, "\r\n\x00") {
			t.Errorf("%q", c.HSTS)
		}
		p := Read(Ingress{Namespace: "ns", Name: "web", Controller: c}, known).Policy
		if p == nil {
			return
		}
		for _, h := range slices.Concat(p.RequestHeaders, p.ResponseHeaders) {
			if strings.ContainsAny(h.Name+h.Value, "\r\n\x00") {
				t.Errorf("%q: %q", h.Name, h.Value)
			}
		}
	})
}
