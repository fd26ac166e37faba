package ingressnginx

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/model"
)

// secrets are References for tests.
type secrets map[string]map[string][]byte

func (s secrets) Secret(name string) (map[string][]byte, error) {
	if d, ok := s[name]; ok {
		return d, nil
	}
	return nil, errors.New("Secret ns/" + name + " does not exist")
}

// ConfigMap makes texts of Secrets.
func (s secrets) ConfigMap(name string) (map[string]string, error) {
	d, ok := s[name]
	if !ok {
		return nil, errors.New("ConfigMap ns/" + name + " does not exist")
	}
	out := map[string]string{}
	for key, v := range d {
		out[key] = string(v)
	}
	return out, nil
}

// Service knows all Services but those named "missing".
func (s secrets) Service(namespace, name string, port int) (model.ServiceKey, error) {
	if name == "missing" {
		return model.ServiceKey{}, fmt.Errorf("Service %s/%s does not exist", namespace, name)
	}
	return model.ServiceKey{Namespace: namespace, Name: name, Port: strconv.Itoa(port)}, nil
}

var known = secrets{
	"file":  {"auth": []byte("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")},
	"map":   {"ann": []byte("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="), "bob": []byte("plain\nx:y")},
	"plain": {"auth": []byte("ann:secret\n")},
	"other": {"x": []byte("y")},

	// ConfigMaps
	"fields":   {"X-B": []byte("2"), "X-A": []byte("a b")},
	"dollar":   {"X-A": []byte("$host"), "X-B": []byte("c")},
	"lines":    {"X-A": []byte("a\r\nSet-Cookie: b"), "X-B": []byte("c")},
	"own":      {"Connection": []byte("close"), "Content_Length": []byte("1"), "X-B": []byte("c")},
	"nameless": {"X A": []byte("b"), "X-B": []byte("c")},
}

// read reads "key: value" lines.
func read(lines ...string) Reading {
	in := Ingress{Namespace: "ns", Name: "web", Annotations: map[string]string{}}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, ": ")
		in.Annotations[Prefix+key] = value
	}
	return Read(in, known)
}

// dump returns a reading as text: the policy, hosts and paths, and what was not honoured.
func (r Reading) dump() string {
	var b strings.Builder
	if r.Policy != nil {
		b.WriteString((&model.Route{Policy: r.Policy}).Rules())
	}
	if d := r.Elsewhere; d != nil {
		fmt.Fprintf(&b, "elsewhere redirect: %d %s with the query %t\n", d.Status, d.Target, d.Query)
	}
	if r.Regexp {
		b.WriteString("regexp\n")
	}
	if len(r.Aliases) > 0 {
		fmt.Fprintf(&b, "aliases %q\n", r.Aliases)
	}
	if r.RedirectWWW {
		b.WriteString("www\n")
	}
	if r.Canary != nil {
		fmt.Fprintf(&b, "canary %s\n", *r.Canary)
	}
	if len(r.ServerLocations)+len(r.Locations) > 0 {
		b.WriteString((&model.Route{Locations: &model.Locations{Server: r.ServerLocations, Nested: r.Locations}}).Rules())
	}
	for _, f := range r.Findings {
		if f.Verdict.Refused() {
			fmt.Fprintf(&b, "%s %s\n", f.Verdict, f.Key)
		}
	}
	return strings.TrimSpace(b.String())
}

func TestRead(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{nil, ""},
		{[]string{"rewrite-target: /$2"}, "rewrite: /$2"},
		{[]string{"rewrite-target: /a b"}, "invalid rewrite-target"},
		{[]string{"rewrite-target: https://new.example/$1"}, "elsewhere redirect: 302 https://new.example/$1 with the query true"},
		{[]string{"rewrite-target: $scheme://$host/x?"}, "elsewhere redirect: 302 $scheme://$host/x with the query false"},
		{[]string{"rewrite-target: https://$1"}, "invalid rewrite-target"},
		{[]string{"rewrite-target: https://"}, "invalid rewrite-target"},
		{[]string{"rewrite-target: https://a/$nothing"}, "invalid rewrite-target"},
		{[]string{"use-regex: true"}, "regexp"},
		{[]string{"use-regex: maybe"}, "invalid use-regex"},
		{[]string{"server-alias: A.example, *.b.example, ~^x, c_d"}, "aliases [\"a.example\" \"*.b.example\"]\ninvalid server-alias\ninvalid server-alias"},
		{[]string{"from-to-www-redirect: true"}, "www"},
		{[]string{"upstream-vhost: $host"}, "host: $host"},
		{[]string{"upstream-vhost: a\r\nb: c"}, "invalid upstream-vhost"},
		{[]string{"x-forwarded-prefix: /app"}, "request: set X-Forwarded-Prefix \"/app\""},
		{[]string{"permanent-redirect: https://new.example$request_uri", "permanent-redirect-code: 308"}, "redirect: 308 https://new.example$request_uri"},
		{[]string{"permanent-redirect: https://a", "temporal-redirect: https://b"}, "redirect: 302 https://b"},
		{[]string{"temporal-redirect: javascript:alert(1)"}, "invalid temporal-redirect"},
		{[]string{"temporal-redirect: //evil"}, "invalid temporal-redirect"},
		{[]string{"temporal-redirect: $http_x"}, "invalid temporal-redirect"},
		{[]string{"permanent-redirect: https://a", "permanent-redirect-code: 200"}, "redirect: 301 https://a\ninvalid permanent-redirect-code"},
		{[]string{"app-root: /app"}, "redirect of /: 302 $scheme://$http_host/app"},
		{[]string{"app-root: //evil"}, "invalid app-root"},
		{[]string{"proxy-cookie-domain: pod.local shop.example"}, `cookie domain: ~(?i)\.?pod\.local$ -> shop.example`},
		{[]string{"proxy-cookie-path: /one/ /two/"}, "cookie path: /one/ -> /two/"},
		{[]string{"proxy-cookie-path: ~*^/user/(.+) /u/$1"}, "cookie path: ~(?i).*?(?:^/user/(.+)).* -> /u/$1"},
		{[]string{"proxy-cookie-path: /a /b; Secure"}, "invalid proxy-cookie-path"},
		{[]string{"proxy-cookie-path: off"}, ""},
		{[]string{"proxy-redirect-from: http://pod/", "proxy-redirect-to: /"}, "location: http://pod/ -> /"},
		{[]string{"proxy-redirect-from: http://pod/"}, "invalid proxy-redirect-from"},
		{[]string{"proxy-redirect-from: off"}, ""},
		{[]string{"enable-cors: true"}, `cors: origins ["*"] methods ["GET" "PUT" "POST" "DELETE" "PATCH" "OPTIONS"] headers ["DNT" "Keep-Alive" "User-Agent" "X-Requested-With" "If-Modified-Since" "Cache-Control" "Content-Type" "Range" "Authorization"] expose [] credentials true max-age 480h0m0s`},
		{[]string{"enable-cors: true", "cors-allow-origin: https://a.example, evil, https://*.b.example:8443", "cors-allow-methods: GET", "cors-allow-headers: X-A", "cors-expose-headers: X-B", "cors-allow-credentials: false", "cors-max-age: 5"},
			"cors: origins [\"https://a.example\" \"https://*.b.example:8443\"] methods [\"GET\"] headers [\"X-A\"] expose [\"X-B\"] credentials false max-age 5s\ninvalid cors-allow-origin"},
		{[]string{"enable-cors: true", "cors-allow-origin: evil"}, "invalid cors-allow-origin\ninvalid cors-allow-origin"},
		{[]string{"cors-allow-origin: https://a.example"}, ""},
		{[]string{"custom-headers: fields"}, "response: set X-A \"a b\"\nresponse: set X-B \"2\""},
		{[]string{"custom-headers: dollar"}, "response: set X-A \"$host\"\nresponse: set X-B \"c\""},
		{[]string{"custom-headers: lines"}, "response: set X-B \"c\"\ninvalid custom-headers"},
		{[]string{"custom-headers: own"}, "response: set X-B \"c\"\nunsupported custom-headers\nunsupported custom-headers"},
		{[]string{"custom-headers: nameless"}, "response: set X-B \"c\"\ninvalid custom-headers"},
		{[]string{"custom-headers: gone"}, "invalid custom-headers"},
		{[]string{"auth-proxy-set-headers: lines"}, "access: closed, as auth-proxy-set-headers: the value of field X-A has control characters, or more than 4096 bytes\nclosed auth-proxy-set-headers"},
		{[]string{"allowlist-source-range: 10.0.0.0/8, 192.0.2.7"}, "access: allow [10.0.0.0/8 192.0.2.7/32]"},
		{[]string{"whitelist-source-range: 10.0.0.0/8"}, "access: allow [10.0.0.0/8]"},
		{[]string{"allowlist-source-range: 10.0.0.0/8", "whitelist-source-range: 0.0.0.0/0"}, "access: allow [10.0.0.0/8]"},
		{[]string{"allowlist-source-range: 10.0.0.0/8, office"}, "access: closed, as allowlist-source-range: \"office\" is neither an address nor a prefix such as 192.0.2.0/24\nclosed allowlist-source-range"},
		{[]string{"allowlist-source-range: ,"}, "access: closed, as allowlist-source-range: it names no source\nclosed allowlist-source-range"},
		{[]string{"denylist-source-range: 2001:db8::/32"}, "access: deny [2001:db8::/32]"},
		{[]string{"auth-type: basic", "auth-secret: file", "auth-realm: staff"}, "access: basic \"staff\" (credentials)"},
		{[]string{"auth-type: basic", "auth-secret: ns/file", "satisfy: any", "allowlist-source-range: 10.0.0.0/8"}, "access: allow [10.0.0.0/8] or basic \"\" (credentials)"},
		{[]string{"auth-type: basic", "auth-secret: map", "auth-secret-type: auth-map"}, "access: basic \"\" (credentials)"},
		{[]string{"auth-type: basic", "auth-secret: file", "auth-realm: a\"b"}, "access: basic \"\" (credentials)\ninvalid auth-realm"},
		{[]string{"auth-type: basic", "auth-secret: missing"}, "access: closed, as auth-secret: Secret ns/missing does not exist\nclosed auth-secret"},
		{[]string{"auth-type: basic", "auth-secret: else/file"}, "access: closed, as auth-secret: Secret else/file is of another namespace: only those of namespace ns are used\nclosed auth-secret"},
		{[]string{"auth-type: basic", "auth-secret: plain"}, "access: closed, as auth-secret: Secret plain: no line has a NAME:HASH that can be used\nclosed auth-secret"},
		{[]string{"auth-type: basic", "auth-secret: other"}, "access: closed, as auth-secret: Secret other has no key \"auth\": it must hold a file as htpasswd writes it\nclosed auth-secret"},
		{[]string{"auth-type: basic"}, "access: closed, as auth-secret: it is missing: it names the Secret with names and passwords\nclosed auth-secret"},
		{[]string{"auth-type: digest", "auth-secret: file"}, "access: closed, as auth-type: \"digest\" is not supported, only basic is\nclosed auth-type"},
		{[]string{"auth-url: https://auth.example/check?a=$host", "auth-signin: https://login.example/?rd=$request_uri", "auth-response-headers: X-User, X-Groups"}, `access: external https://auth.example/check?a=$host method "" headers [] response ["X-User" "X-Groups"] sign-in "https://login.example/?rd=$request_uri" parameter "rd" redirect "" always-set-cookie false cache "" []`},
		{[]string{"auth-url: https://$host/oauth2/auth", "auth-cache-key: $cookie_a", "auth-cache-duration: 200 202 10m, 401 1m"}, `access: external https://$host/oauth2/auth method "" headers [] response [] sign-in "" parameter "" redirect "" always-set-cookie false cache "$cookie_a" [{[200 202] 10m0s} {[401] 1m0s}]`},
		{[]string{"auth-url: http://auth.team.svc.cluster.local:8080/x"}, `access: external http://auth.team.svc.cluster.local:8080/x (team/auth:8080) method "" headers [] response [] sign-in "" parameter "" redirect "" always-set-cookie false cache "" []`},
		{[]string{"auth-url: http://missing.team.svc/"}, "access: closed, as auth-url: Service team/missing does not exist\nclosed auth-url"},
		{[]string{"auth-url: http://$http_x_host/"}, `access: closed, as auth-url: "" is no host: it can be a name or an address, with or without a port; of the values of a request $host alone can stand for it` + "\nclosed auth-url"},
		{[]string{"auth-url: http://a.example$http_x/"}, `access: external http://a.example/$http_x/ method "" headers [] response [] sign-in "" parameter "" redirect "" always-set-cookie false cache "" []`},
		{[]string{"auth-url: http://user@a.example/"}, `access: closed, as auth-url: "user@a.example" is no host: it can be a name or an address, with or without a port; of the values of a request $host alone can stand for it` + "\nclosed auth-url"},
		{[]string{"auth-url: https://auth.example", "auth-method: BREW"}, `access: closed, as auth-method: "BREW" is none of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS and external https://auth.example/ method "BREW" headers [] response [] sign-in "" parameter "" redirect "" always-set-cookie false cache "" []` + "\nclosed auth-method"},
		{[]string{"limit-rps: 10", "limit-rpm: 60", "limit-burst-multiplier: 2", "limit-connections: 3", "limit-allowlist: 10.0.0.0/8"},
			"limit ns/web: 10 requests in 1s, burst 20; else 503; exempt [10.0.0.0/8]\nlimit ns/web: 60 requests in 1m0s, burst 120; else 503; exempt [10.0.0.0/8]\nlimit ns/web: 3 requests at once; else 503; exempt [10.0.0.0/8]"},
		{[]string{"limit-rps: -1"}, "invalid limit-rps"},
		{[]string{"proxy-body-size: 8M"}, "body: at most 8388608 bytes"},
		{[]string{"proxy-body-size: 0"}, "body: at most 0 bytes"},
		{[]string{"proxy-body-size: 99999999999g"}, "invalid proxy-body-size"},
		{[]string{"proxy-connect-timeout: 5", "proxy-read-timeout: 60s", "proxy-send-timeout: 7"}, "timeouts: connect 5s send 7s read 1m0s"},
		{[]string{"proxy-read-timeout: 0"}, "invalid proxy-read-timeout"},
		{[]string{"enable-access-log: false"}, "unlogged"},
		{[]string{"canary: true", "canary-weight: 30"}, "canary none weight 30/100 ( )"},
		{[]string{"canary: true", "canary-by-header: X-A", "canary-by-header-pattern: ^b", "canary-by-cookie: c"}, "canary none header X-A value \"\" pattern \"^b\" cookie c weight 0/100 ( )"},
		{[]string{"canary: true", "canary-by-header: X-A", "canary-by-header-pattern: ("}, "canary none weight 0/100 ( )\ninvalid canary-by-header-pattern"},
		{[]string{"canary: true", "canary-weight: 300"}, "canary none weight 0/100 ( )\ninvalid canary-weight"},
		{[]string{"canary-weight: 30"}, ""},
		{[]string{"rewrite-taget: /"}, "unknown rewrite-taget"},
		{[]string{"mirror-target: https://x$request_uri", "mirror-host: y", "mirror-request-body: off"}, `mirror: https://x$request_uri host "y" body false`},
		{[]string{"mirror-target: https://$host/"}, "invalid mirror-target"},
		{[]string{"custom-http-errors: 404, 503,200", "default-backend: errors"}, "error pages: [404 503] by ns/errors:0\nfallback: ns/errors:0\ninvalid custom-http-errors"},
		{[]string{"custom-http-errors: 404", "default-backend: errors", "disable-proxy-intercept-errors: true"}, "fallback: ns/errors:0"},
	} {
		if got := read(c.lines...).dump(); got != c.want {
			t.Errorf("%q:\n%s\nwant\n%s", c.lines, got, c.want)
		}
	}
}

func TestSnippet(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`add_header X-A "a b" always; # why not
		  more_set_headers 'X-B: $host' "X-C:c";`, "response: add X-A \"a b\"\nresponse: set X-B \"$host\"\nresponse: set X-C \"c\""},
		{`proxy_set_header X-Real-IP $remote_addr; proxy_set_header Host $http_host;`, "host: $http_host\nrequest: set X-Real-IP \"$remote_addr\""},
		{`proxy_hide_header Server; more_clear_headers "X-Powered-By";`, "response: set Server \"\"\nresponse: set X-Powered-By \"\""},
		{`return 301 https://new.example$request_uri;`, "redirect: 301 https://new.example$request_uri"},
		{`return 403;`, "redirect: 403"},
		{`rewrite ^/old/(.*)$ /new/$1 permanent;`, "redirect of ~^/old/(.*)$ with its query: 301 $scheme://$host/new/$1"},
		{`rewrite ^ https://new.example$request_uri? permanent;`, "redirect of ~^: 301 https://new.example$request_uri"},
		{`rewrite "^/(\d{2})$" http://new.example/?n=$1;`, "redirect of ~^/(\\d{2})$ with its query: 302 http://new.example/?n=$1"},
		{`rewrite ^/x $scheme://a.example/ redirect;`, "redirect of ~^/x with its query: 302 $scheme://a.example/"},
		{`rewrite ^/x https://a.example/ last;`, "redirect of ~^/x with its query: 302 https://a.example/"},
		{`rewrite ^/(.*) /y/$1 break;`, "step: rewrite ~^/(.*) to \"/y/$1\", then stay"},
		{`rewrite ^/(.*) /y/$1;`, "step: rewrite ~^/(.*) to \"/y/$1\", then go on"},
		{`rewrite ^/(.*) https://$1 redirect;`, "unsupported configuration-snippet"},
		{`rewrite ^/(.*) //$1 redirect;`, "invalid configuration-snippet"},
		{`rewrite ^/(.*) javascript:$1 redirect;`, "invalid configuration-snippet"},
		{`rewrite ^/(.* /y redirect;`, "invalid configuration-snippet"},
		{`rewrite ^/(?=x) /y redirect;`, "invalid configuration-snippet"},
		{`rewrite ^/x /y/$1 redirect;`, "invalid configuration-snippet"},
		{`rewrite ^/x /y sideways;`, "invalid configuration-snippet"},
		{`rewrite ^/x;`, "invalid configuration-snippet"},
		{`return 200 "hello";`, "redirect: 200 text \"hello\" of type \"text/html\""},
		{`proxy_set_header Connection "";`, ""},
		{"add_header X-A \"a\nb\";", "invalid configuration-snippet"},
		{`add_header X-A "a\r\nX-B: b";`, "invalid configuration-snippet"},
		{`add_header X-A $upstream_addr;`, "invalid configuration-snippet"},
		{`expires max;`, "response: set Cache-Control \"max-age=315360000\" of success\nresponse: set Expires \"Thu, 31 Dec 2037 23:55:55 GMT\" of success"},
		{`expires 1d; add_header X-A b;`, "response: set Cache-Control \"max-age=86400\" of success\nresponse: set Expires \"\" of success\nresponse: add X-A \"b\" of success"},
		{`if ($host = a) { return 301 https://b; add_header X-A b; }`, "step: if \"$host\" = \"a\" 1 steps, level 1\nstep: answer: 301 https://b\nresponse: add X-A \"b\" of success at levels 1"},
		{`if ($http_user_agent ~ bot) { return 403; }`, "step: if \"$http_user_agent\" ~ \"bot\" 1 steps, level 1\nstep: answer: 403"},
		{`deny all;`, "access: deny [0.0.0.0/0 ::/0]"},
		{`auth_request /x;`, "access: closed, as configuration-snippet: line 1: the directive \"auth_request /x\": it decides who gets in, and is not executed\nclosed configuration-snippet"},
		{`add_header X-A b`, "response: add X-A \"b\" of success"}, // the last ; is often left out
		{`}`, "access: closed, as configuration-snippet: it cannot be read: line 1: this } ends no block\nclosed configuration-snippet"},
		{`add_header X-A "b;`, "access: closed, as configuration-snippet: it cannot be read: line 1: a quote is not closed\nclosed configuration-snippet"},
	} {
		if got := read("configuration-snippet: " + c.text).dump(); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.text, got, c.want)
		}
	}
	if got := read("relative-redirects: true", "configuration-snippet: rewrite ^/x(.*) /y$1 redirect; rewrite ^/z(.*) /$1 redirect;").dump(); got != "redirect of ~^/x(.*) with its query: 302 /y$1\ninvalid configuration-snippet" {
		t.Error(got)
	}
	if got := read("permanent-redirect: https://c.example", "configuration-snippet: return 302 https://b.example;",
		"server-snippet: rewrite ^/a https://a.example? redirect; add_header X-A b; proxy_set_header X-B c;").dump(); got !=
		"redirect of ~^/a: 302 https://a.example\nredirect: 301 https://c.example\nredirect: 302 https://b.example\nrequest: set X-B \"c\"\nresponse: add X-A \"b\" of success" {
		t.Error(got)
	}
}

// TestRegistry: the registry has every key of ingress-nginx, and no other but two older
// names; a key is read if and only if it has an effect.
func TestRegistry(t *testing.T) {
	list, err := os.ReadFile("testdata/keys.tsv")
	if err != nil {
		t.Fatal(err)
	}
	older := []string{"limit-whitelist", "whitelist-source-range"}
	have := map[string]string{}
	for i, k := range Keys() {
		if i > 0 && Keys()[i-1].Name >= k.Name {
			t.Errorf("%s is not in its place", k.Name)
		}
		have[k.Name] = k.Group
		if (k.Verdict == Supported) != (k.Why == "") || strings.HasSuffix(k.Why, ".") {
			t.Errorf("%s: %s, why %q", k.Name, k.Verdict, k.Why)
		}
		if k.Verdict > Unsupported {
			t.Errorf("%s: verdict %s", k.Name, k.Verdict)
		}
		if found, ok := Lookup(k.Name); !ok || found != k {
			t.Errorf("%s is not found", k.Name)
		}
	}
	n := 0
	for line := range strings.Lines(string(list)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		n++
		name, group, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if have[name] != group {
			t.Errorf("%s is of group %q, want %q", name, have[name], group)
		}
		delete(have, name)
	}
	for name := range have {
		if !slices.Contains(older, name) {
			t.Errorf("%s is no key of ingress-nginx", name)
		}
	}
	if n != 136 {
		t.Errorf("%d keys", n)
	}
	// Some keys are asked for only where others are set.
	r := &reader{in: Ingress{Annotations: map[string]string{
		Prefix + "auth-type": "basic", Prefix + "auth-url": "http://auth.example", Prefix + "auth-cache-key": "$host",
		Prefix + "custom-http-errors": "404", Prefix + "auth-tls-secret": "ca",
	}}, seen: map[string]bool{}}
	for _, read := range []func(){r.paths, r.redirects, r.headers, r.cors, r.body, r.access, r.limits, r.pod, r.snippets, r.canary, r.traffic, r.mirror, r.errorPages, r.pace, r.tracing, r.https, r.client, r.upstream} {
		read()
	}
	for _, k := range Keys() {
		switch {
		case k.Verdict == Supported && !r.seen[k.Name]:
			t.Errorf("%s is said to be supported, but nothing reads it", k.Name)
		}
	}
	for name := range r.seen {
		if _, ok := Lookup(name); !ok {
			t.Errorf("%s is read and not in the registry", name)
		}
	}
}

// TestNearest: a misspelt key is told the right one.
func TestNearest(t *testing.T) {
	r := read("ssl-redirct: true")
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Message, "is ssl-redirect meant?") {
		t.Error(r.Findings)
	}
}

// FuzzRead: whatever stands in an annotation, reading ends; nothing that is read holds a
// control character; and what keeps people out is never lost.
func FuzzRead(f *testing.F) {
	for _, k := range Keys() {
		f.Add(k.Name, "true")
	}
	f.Add("configuration-snippet", `add_header A "b\r\nc"; if (x) { deny all; }`)
	f.Add("allowlist-source-range", "10.0.0.0/8, x")
	f.Add("proxy-cookie-path", "~^/a(.*)$ /b$1")
	f.Fuzz(func(t *testing.T, key, value string) {
		r := read(key+": "+value, "auth-type: basic", "auth-secret: file", "proxy-redirect-to: /", "enable-cors: true", "canary: true")
		if r.Policy == nil || r.Policy.Access == nil || r.Policy.Access.Basic == nil && r.Policy.Access.Closed == "" && key != "auth-type" {
			t.Fatalf("%s: %q lets everybody in", key, value)
		}
		var texts []string
		for _, h := range append(slices.Clone(r.Policy.RequestHeaders), r.Policy.ResponseHeaders...) {
			texts = append(texts, h.Name, h.Value)
		}
		for _, d := range r.Policy.Redirects {
			texts = append(texts, d.Target)
		}
		for _, list := range [][]model.Replacement{r.Policy.CookieDomains, r.Policy.CookiePaths, r.Policy.Locations} {
			for _, v := range list {
				texts = append(texts, v.To)
			}
		}
		texts = append(texts, r.Policy.Host)
		if r.Policy.Rewrite != nil {
			texts = append(texts, r.Policy.Rewrite.Target)
		}
		for _, text := range texts {
			if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
				t.Fatalf("%s: %q gives %q", key, value, text)
			}
		}
		for _, finding := range r.Findings {
			if len(finding.Message) > 2000 || strings.ContainsAny(finding.Message, "\r\n") {
				t.Fatalf("message %q", finding.Message)
			}
		}
	})
}
