package ingressnginx

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestOrigins: each rule names the annotations that asked for it, and no others.
func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  string // kinds, then what redirects and headers say of themselves
	}{
		{[]string{"whitelist-source-range: 10.0.0.0/8"}, "allow: whitelist-source-range"},
		{[]string{"whitelist-source-range: 10.0.0.0/8", "allowlist-source-range: 10.0.0.0/9"}, "allow: allowlist-source-range"},
		{[]string{"denylist-source-range: 192.0.2.1", "configuration-snippet: deny 192.0.2.8;"}, "deny: denylist-source-range configuration-snippet"},
		{[]string{"server-snippet: allow 10.0.0.0/8; deny all;"}, "allow: server-snippet"},
		{[]string{"auth-type: digest"}, "closed: auth-type"},
		{[]string{"auth-type: basic", "auth-secret: file"}, "basic-auth: auth-type auth-secret"},
		{[]string{"auth-url: http://gate.example/"}, "external-auth: auth-url"},
		{[]string{"proxy-body-size: 8m", "limit-rps: 5", "limit-connections: 2"}, "body-limit: proxy-body-size, connection-limit: limit-connections, rate-limit: limit-rps"},
		{[]string{"proxy-body-size: large"}, ""},
		{[]string{"upstream-vhost: a.example"}, "host: upstream-vhost"},
		{[]string{"upstream-vhost: a.example", "configuration-snippet: proxy_set_header Host b.example;"}, "host: configuration-snippet"},
		{[]string{"permanent-redirect: https://a.example"}, "redirect permanent-redirect"},
		{[]string{"app-root: /app", "server-snippet: return 404;"}, "redirect server-snippet, redirect app-root"},
		{[]string{"x-forwarded-prefix: /a", "configuration-snippet: proxy_set_header X-A b; add_header X-C d;", "custom-headers: fields"},
			"request x-forwarded-prefix, request configuration-snippet, response custom-headers, response custom-headers, response configuration-snippet"},
	} {
		r := read(c.lines...)
		var got []string
		if p := r.Policy; p != nil {
			for _, kind := range slices.Sorted(maps.Keys(p.Origins)) {
				got = append(got, fmt.Sprintf("%s: %s", kind, strings.Join(p.Origins[kind], " ")))
			}
			for _, d := range p.Redirects {
				got = append(got, "redirect "+d.By)
			}
			for _, h := range p.RequestHeaders {
				got = append(got, "request "+h.By)
			}
			for _, h := range p.ResponseHeaders {
				got = append(got, "response "+h.By)
			}
		}
		if text := strings.ReplaceAll(strings.Join(got, ", "), Prefix, ""); text != c.want {
			t.Errorf("%q: %s, want %s", c.lines, text, c.want)
		}
	}
}
