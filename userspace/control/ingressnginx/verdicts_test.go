package ingressnginx

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// findings are those that say something, as "key verdict", in order.
func findings(r Reading) (out []string) {
	for _, f := range r.Findings {
		if f.Verdict != Supported {
			out = append(out, fmt.Sprintf("%s %s", f.Key, f.Verdict))
		}
	}
	return out
}

// values are, of each annotation whose verdict in the registry is a difference, values that
// have none and values that have one. A value with other annotations is written with them.
var differenceValues = map[string]struct{ same, differ []string }{
	"default-backend":                   {nil, []string{"pages"}},
	"auth-cache-key":                    {nil, []string{"$cookie_a | auth-url: http://a.example"}},
	"auth-keepalive":                    {[]string{"0"}, []string{"10"}},
	"auth-keepalive-requests":           {[]string{"100", "100 | auth-keepalive: 0"}, []string{"100 | auth-keepalive: 10"}},
	"auth-keepalive-share-vars":         {[]string{"false"}, []string{"true"}},
	"auth-keepalive-timeout":            {[]string{"60"}, []string{"60 | auth-keepalive: 10"}},
	"auth-proxy-set-headers":            {[]string{"fields | auth-url: http://a.example"}, nil},
	"auth-secret":                       {[]string{"file | auth-type: basic"}, nil},
	"auth-snippet":                      {[]string{"proxy_set_header X-A $host; | auth-url: http://a.example"}, nil},
	"auth-tls-match-cn":                 {nil, []string{"CN=a"}},
	"auth-tls-secret":                   {[]string{"ca"}, nil},
	"auth-type":                         {[]string{"basic | auth-secret: file"}, nil},
	"auth-url":                          {[]string{"http://a.example/verify", "http://a.example/?u=$request_uri"}, []string{"https://$host/oauth2/auth"}},
	"backend-protocol":                  {[]string{"HTTP", "HTTPS", "GRPC", "grpcs"}, []string{"AUTO_HTTP"}},
	"canary-by-header-pattern":          {[]string{"^a | canary-by-header: X | canary: true"}, nil},
	"canary-weight":                     {[]string{"0 | canary: true", "20 | canary: true"}, nil},
	"client-body-buffer-size":           {nil, []string{"1m"}},
	"configuration-snippet":             {[]string{`add_header X-A b; more_set_headers "X-B: c";`, "# nothing"}, []string{"proxy_set_header Content-Length 1;"}},
	"connection-proxy-header":           {[]string{"keep-alive"}, []string{"close"}},
	"cors-allow-origin":                 {[]string{"*", "https://a.example"}, nil},
	"custom-headers":                    {[]string{"fields"}, nil},
	"custom-http-errors":                {[]string{"404,503"}, nil},
	"enable-global-auth":                {[]string{"true", "false"}, nil},
	"enable-opentelemetry":              {[]string{"false"}, []string{"true"}},
	"enable-rewrite-log":                {[]string{"false"}, []string{"true"}},
	"http2-push-preload":                {[]string{"false"}, []string{"true"}},
	"limit-connections":                 {[]string{"5"}, nil},
	"limit-rpm":                         {[]string{"5"}, nil},
	"limit-rps":                         {[]string{"5"}, nil},
	"limit-whitelist":                   {[]string{"10.0.0.0/8"}, []string{"10.0.0.0/8 | limit-allowlist: 10.0.0.0/9"}},
	"mirror-request-body":               {[]string{"on", "off"}, nil},
	"mirror-target":                     {[]string{"http://a.example | mirror-request-body: off"}, []string{"http://a.example$request_uri"}},
	"opentelemetry-trust-incoming-span": {[]string{"true", "false"}, nil},
	"permanent-redirect":                {[]string{"https://a.example", "https://a.example$request_uri", "/b | relative-redirects: true"}, []string{"https://a.example$uri", "/b"}},
	"preserve-trailing-slash":           {[]string{"true"}, []string{"false"}},
	"proxy-body-size":                   {[]string{"8m", "0"}, nil},
	"proxy-buffer-size":                 {[]string{"8k", "128k", "1m"}, []string{"2m"}},
	"proxy-buffering":                   {[]string{"off"}, []string{"on"}},
	"proxy-buffers-number":              {[]string{"4"}, nil},
	"proxy-busy-buffers-size":           {[]string{"16k"}, nil},
	"proxy-http-version":                {[]string{"1.1"}, []string{"1.0"}},
	"proxy-max-temp-file-size":          {[]string{"0 | proxy-buffering: off", "1024m"}, nil},
	"proxy-next-upstream":               {[]string{"error timeout", "off"}, []string{"error non_idempotent"}},
	"proxy-next-upstream-tries":         {[]string{"3"}, []string{"0", "20"}},
	"proxy-redirect-to":                 {[]string{"/ | proxy-redirect-from: http://a/"}, nil},
	"proxy-request-buffering":           {[]string{"off"}, []string{"on"}},
	"proxy-ssl-ciphers":                 {nil, []string{"ECDHE-RSA-AES128-GCM-SHA256"}},
	"proxy-ssl-protocols":               {[]string{"TLSv1.2 TLSv1.3"}, []string{"TLSv1.1 TLSv1.2"}},
	"proxy-ssl-secret":                  {[]string{"ca"}, nil},
	"proxy-ssl-server-name":             {[]string{"on"}, []string{"off"}},
	"proxy-ssl-verify-depth":            {[]string{"1"}, []string{"2"}},
	"rewrite-target":                    {[]string{"/", "/$1"}, nil},
	"server-alias":                      {[]string{"a.example, *.b.example"}, nil},
	"server-snippet":                    {[]string{"location /x { return 301 /y; }", "server_tokens off;"}, []string{"add_header X-A b;", "return 404;"}},
	"service-upstream":                  {[]string{"false"}, []string{"true"}},
	"session-cookie-path":               {[]string{"/a | affinity: cookie"}, nil},
	"ssl-ciphers":                       {nil, []string{"ECDHE-RSA-AES128-GCM-SHA256"}},
	"ssl-prefer-server-ciphers":         {[]string{"false"}, []string{"true"}},
	"temporal-redirect":                 {[]string{"https://a.example"}, []string{"https://a.example${uri}"}},
	"upstream-hash-by":                  {[]string{"$request_uri", "$host$remote_addr"}, nil},
	"use-port-in-redirects":             {[]string{"false"}, []string{"true"}},
	"use-regex":                         {[]string{"true", "false"}, nil},
	"whitelist-source-range":            {[]string{"10.0.0.0/8"}, []string{"10.0.0.0/8 | allowlist-source-range: 10.0.0.0/9"}},
	"x-forwarded-prefix":                {[]string{"/a | rewrite-target: /"}, []string{"/a"}},
}

// TestDifferences: a difference is said of the values that have one, and of no others.
func TestDifferences(t *testing.T) {
	for _, k := range Keys() {
		c, listed := differenceValues[k.Name]
		if listed != (k.Verdict == Difference) {
			t.Errorf("%s: the registry says %s, and the table has it: %t", k.Name, k.Verdict, listed)
		}
		for want, values := range map[Verdict][]string{Supported: c.same, Difference: c.differ} {
			for _, value := range values {
				lines := strings.Split(k.Name+": "+value, " | ")
				var got []string
				for _, f := range read(lines...).Findings {
					if f.Key == k.Name {
						got = append(got, f.Verdict.String())
					}
				}
				if !slices.Equal(got, []string{want.String()}) {
					t.Errorf("%q: %v, want %s", lines, got, want)
				}
			}
		}
	}
}

// TestDirectives: what is said of each directive of a snippet.
func TestDirectives(t *testing.T) {
	for _, c := range []struct{ key, text, want string }{
		// The same as here, or the inside of nginx: nothing to say.
		{"configuration-snippet", "proxy_ssl_verify off;", ""},
		{"configuration-snippet", "proxy_ssl_verify on;", "unsupported"},
		{"configuration-snippet", "proxy_ssl_server_name on;", ""},
		{"configuration-snippet", "proxy_ssl_server_name off;", "unsupported"},
		{"configuration-snippet", "proxy_pass_header Authorization;", ""},
		{"configuration-snippet", "proxy_pass_header Server;", ""},
		{"configuration-snippet", "allow all;", ""},
		{"server-snippet", "allow all;", "difference"}, // others' paths
		{"configuration-snippet", "auth_basic off;", ""},
		{"configuration-snippet", `auth_basic "staff";`, "closed"},
		{"configuration-snippet", "modsecurity off;", ""},
		{"configuration-snippet", "modsecurity on;", "closed"},
		{"server-snippet", "server_tokens off;", ""},
		{"server-snippet", "server_tokens on;", "unsupported"},
		{"configuration-snippet", "proxy_buffering off; proxy_http_version 1.1;", ""},
		{"configuration-snippet", "proxy_http_version 1.0;", "unsupported"},
		{"configuration-snippet", "proxy_redirect off;", ""},
		{"configuration-snippet", `proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`, ""},
		{"configuration-snippet", `proxy_set_header Connection "";`, ""},
		{"configuration-snippet", `proxy_set_header Upgrade h2c;`, "difference"},
		{"configuration-snippet", "proxy_headers_hash_max_size 1024; tcp_nodelay on; log_not_found off;", ""},
		{"configuration-snippet", "proxy_cache off;", ""},
		{"configuration-snippet", "proxy_cache zone;", "unsupported"},
		{"configuration-snippet", "proxy_hide_header X-Powered-By;", ""},
		{"configuration-snippet", "add_header X-A b always;", ""},
		{"configuration-snippet", "proxy_set_header Host $host;", ""},
		{"configuration-snippet", "proxy_set_header X-Real-IP $remote_addr;", ""},
		// ingress-nginx writes them into each location itself.
		{"server-snippet", "client_max_body_size 10m;", "difference"},
		{"server-snippet", "proxy_read_timeout 300;", "difference"},
		{"configuration-snippet", "proxy_read_timeout 300;", "unsupported"},
		// Of no effect here.
		{"configuration-snippet", "expires 1d;", ""},
		{"configuration-snippet", "sub_filter a b;", ""},
		{"configuration-snippet", "gzip on;", "unsupported"},
		{"configuration-snippet", "access_log off;", ""},
		{"configuration-snippet", "header_filter_by_lua_block { x() }", "unsupported"},
		{"configuration-snippet", `if ($host = a) { add_header X-A b; }`, ""},
		{"configuration-snippet", `more_set_headers -s 404 "X-A: b";`, ""},
		{"configuration-snippet", "rewrite ^/a /b break;", ""},
		{"configuration-snippet", "add_header Connection close;", "unsupported"},
		{"server-snippet", "proxy_hide_header X-A;", ""},
		{"server-snippet", "location @named { deny all; }", "unsupported"},
		{"auth-snippet", "proxy_set_header X-A b;", "unsupported"}, // without auth-url
		{"auth-snippet", "proxy_ssl_verify off;", ""},
		// Cannot be read.
		{"configuration-snippet", "add_header X-A $nothing;", "invalid"},
		{"configuration-snippet", "add_header X-A;", "invalid"},
		{"configuration-snippet", "proxy_hide_header;", "invalid"},
		{"configuration-snippet", `rewrite (?!a) https://b redirect;`, "invalid"},
		{"configuration-snippet", "add_header X-A b", ""},
	} {
		got := ""
		for _, f := range read(c.key + ": " + c.text).Findings {
			if f.Verdict != Supported && !strings.Contains(f.Message, "is removed from requests") {
				got = f.Verdict.String()
			}
		}
		if got != c.want {
			t.Errorf("%s: %s: %q, want %q", c.key, c.text, got, c.want)
		}
	}
}

// TestInvalidIsUnreadable: values that are read and have no effect are not called invalid.
func TestInvalidIsUnreadable(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  []string
	}{
		{[]string{"auth-secret: file"}, []string{"auth-secret difference"}},
		{[]string{"auth-type: basic", "auth-secret: file"}, nil},
		{[]string{"canary-by-header-value: x", "canary: true"}, []string{"canary-by-header-value difference"}},
		{[]string{"canary-by-header-pattern: x", "canary: true"}, []string{"canary-by-header-pattern difference"}},
		{[]string{"custom-headers: other-namespace/fields"}, []string{"custom-headers unsupported"}},
		{[]string{"custom-headers: lines"}, []string{"custom-headers invalid"}},
		{[]string{"proxy-body-size: many"}, []string{"proxy-body-size invalid"}},
		{[]string{"enable-cors: perhaps"}, []string{"enable-cors invalid"}},
		{[]string{"no-such: 1"}, []string{"no-such unknown"}},
	} {
		if got := findings(read(c.lines...)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.lines, got, c.want)
		}
	}
}
