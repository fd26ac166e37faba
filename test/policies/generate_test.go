package policies

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// Keys that choose what stands in the ConfigMap "chosen".
const (
	chosenName  = "test/chosen-name"
	chosenValue = "test/chosen-value"
)

// serviceKeys are annotations of Services.
var serviceKeys = []string{
	"kerngate.dev/health-check", "kerngate.dev/health-check-host", "kerngate.dev/health-check-port", "kerngate.dev/health-check-interval",
	"kerngate.dev/health-check-timeout", "kerngate.dev/health-check-unhealthy", "kerngate.dev/health-check-healthy", "kerngate.dev/max-connections",
	"kerngate.dev/max-pending", "kerngate.dev/outlier-detection", "kerngate.dev/slow-start", "kerngate.dev/load-balancing", "kerngate.dev/prefer-local",
}

// keys are all annotations that are generated.
var keys = func() []string {
	list := []string{"kerngate.dev/compression", "kerngate.dev/proxy-protocol", chosenName, chosenValue}
	for _, k := range ingressnginx.Keys() {
		list = append(list, ingressnginx.Prefix+k.Name)
	}
	return append(list, serviceKeys...)
}()

// beside is what a key needs to have an effect.
var beside = map[string][]string{
	"affinity-canary-behavior": {"affinity", "cookie"}, "affinity-mode": {"affinity", "cookie"}, "auth-always-set-cookie": {"auth-url", "http://a.example/"},
	"auth-cache-duration": {"auth-cache-key", "$host", "auth-url", "http://a.example/"}, "auth-cache-key": {"auth-url", "http://a.example/"},
	"auth-method": {"auth-url", "http://a.example/"}, "auth-proxy-set-headers": {"auth-url", "http://a.example/"},
	"auth-realm": {"auth-type", "basic", "auth-secret", "trust"}, "auth-secret": {"auth-type", "basic"}, "auth-secret-type": {"auth-type", "basic", "auth-secret", "trust"},
	"auth-request-redirect": {"auth-url", "http://a.example/"}, "auth-response-headers": {"auth-url", "http://a.example/"},
	"auth-signin": {"auth-url", "http://a.example/"}, "auth-signin-redirect-param": {"auth-url", "http://a.example/", "auth-signin", "/in"}, "auth-snippet": {"auth-url", "http://a.example/"},
	"auth-tls-error-page": {"auth-tls-secret", "trust"}, "auth-tls-match-cn": {"auth-tls-secret", "trust"}, "auth-tls-pass-certificate-to-upstream": {"auth-tls-secret", "trust"},
	"auth-tls-verify-client": {"auth-tls-secret", "trust"}, "auth-tls-verify-depth": {"auth-tls-secret", "trust"}, "auth-type": {"auth-secret", "trust"},
	"canary-by-cookie": {"canary", "true"}, "canary-by-header": {"canary", "true"}, "canary-by-header-pattern": {"canary", "true", "canary-by-header", "X-A"},
	"canary-by-header-value": {"canary", "true", "canary-by-header", "X-A"}, "canary-weight": {"canary", "true"}, "canary-weight-total": {"canary", "true", "canary-weight", "5"},
	"cors-allow-credentials": {"enable-cors", "true"}, "cors-allow-headers": {"enable-cors", "true"}, "cors-allow-methods": {"enable-cors", "true"},
	"cors-allow-origin": {"enable-cors", "true"}, "cors-expose-headers": {"enable-cors", "true"}, "cors-max-age": {"enable-cors", "true"},
	"custom-http-errors": {"default-backend", "helper"}, "limit-allowlist": {"limit-rps", "5"}, "limit-whitelist": {"limit-rps", "5"}, "limit-burst-multiplier": {"limit-rps", "5"},
	"limit-rate-after": {"limit-rate", "5"}, "mirror-host": {"mirror-target", "http://a.example/"}, "mirror-request-body": {"mirror-target", "http://a.example/"},
	"opentelemetry-operation-name": {"enable-opentelemetry", "true"}, "opentelemetry-trust-incoming-span": {"enable-opentelemetry", "true"},
	"permanent-redirect-code": {"permanent-redirect", "https://a.example"}, "temporal-redirect-code": {"temporal-redirect", "https://a.example"},
	"proxy-redirect-from": {"proxy-redirect-to", "/"}, "proxy-redirect-to": {"proxy-redirect-from", "http://pod.local/"},
	"proxy-ssl-verify": {"proxy-ssl-secret", "trust", "backend-protocol", "HTTPS"}, "proxy-ssl-ciphers": {"backend-protocol", "HTTPS"}, "proxy-ssl-name": {"backend-protocol", "HTTPS"},
	"proxy-ssl-protocols": {"backend-protocol", "HTTPS"}, "proxy-ssl-secret": {"backend-protocol", "HTTPS"},
	"session-cookie-change-on-failure": {"affinity", "cookie"}, "session-cookie-conditional-samesite-none": {"affinity", "cookie"}, "session-cookie-domain": {"affinity", "cookie"},
	"session-cookie-expires": {"affinity", "cookie"}, "session-cookie-max-age": {"affinity", "cookie"}, "session-cookie-name": {"affinity", "cookie"},
	"session-cookie-path": {"affinity", "cookie"}, "session-cookie-samesite": {"affinity", "cookie"}, "session-cookie-secure": {"affinity", "cookie"},
	"upstream-hash-by-subset": {"upstream-hash-by", "$host"}, "upstream-hash-by-subset-size": {"upstream-hash-by", "$host", "upstream-hash-by-subset", "true"},
}

// add adds an annotation, and those that it needs, unless they are there.
func (m *manifest) add(key, value string) {
	m.annotations[key] = value
	needed := beside[strings.TrimPrefix(key, ingressnginx.Prefix)]
	switch key {
	case chosenName, chosenValue:
		needed = []string{"custom-headers", "chosen", "auth-proxy-set-headers", "chosen", "auth-url", "http://a.example/"}
	}
	for i := 0; i < len(needed); i += 2 {
		if other := ingressnginx.Prefix + needed[i]; m.annotations[other] == "" {
			m.annotations[other] = needed[i+1]
		}
	}
}

// good are values that mean something, of keys to which the words and texts below mean
// nothing.
var good = map[string][]string{
	"affinity": {"cookie"}, "affinity-canary-behavior": {"sticky", "legacy"}, "affinity-mode": {"balanced", "persistent"},
	"auth-cache-duration": {"200 202 10m, 401 30s", "5m"}, "auth-method": {"POST", "get"}, "auth-proxy-set-headers": {"fields", "default/chosen", "chosen"},
	"custom-headers": {"fields", "default/chosen", "chosen"}, "auth-realm": {"Staff only"}, "auth-response-headers": {"X-User, X-Groups", "Authorization"},
	"auth-secret": {"trust", "default/trust"}, "auth-secret-type": {"auth-file", "auth-map"}, "auth-tls-secret": {"trust", "default/trust"},
	"auth-signin-redirect-param": {"next"}, "auth-tls-match-cn": {"CN=shop-[0-9]+"}, "auth-tls-verify-client": {"on", "off", "optional", "optional_no_ca"}, "auth-type": {"basic", "digest"},
	"backend-protocol": {"HTTP", "HTTPS", "GRPC", "GRPCS", "AUTO_HTTP", "FCGI"}, "canary-by-cookie": {"canary"}, "canary-by-header": {"X-Canary"}, "canary-by-header-pattern": {"^beta[0-9]$"},
	"cors-allow-headers": {"X-One, X-Two", "*"}, "cors-allow-methods": {"GET, POST"}, "cors-allow-origin": {"https://a.example.com, https://*.b.example.com:8443", "*"}, "cors-expose-headers": {"X-One"},
	"custom-http-errors": {"404,503", "400,599,404"}, "default-backend": {"helper", "web"}, "load-balance": {"ewma", "round_robin", "ip_hash"},
	"proxy-cookie-domain": {"pod.local shop.example.com", "~^(a|b)$ x.example"}, "proxy-cookie-path": {"~*^/user/(.+) /u/$1", "/a /b", "off"},
	"proxy-next-upstream": {"error timeout http_502 non_idempotent", "off"}, "proxy-redirect-from": {"http://pod.local/", "~^http://(.*)$", "default"}, "proxy-redirect-to": {"/", "/$1"},
	"proxy-ssl-ciphers": {"HIGH:!aNULL:!SHA:!CHACHA20", "DEFAULT", "ECDHE-RSA-AES128-SHA"}, "ssl-ciphers": {"ECDHE-ECDSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:!aNULL", "ALL"},
	"proxy-ssl-name": {"pod.example.com"}, "proxy-ssl-protocols": {"TLSv1.2 TLSv1.3", "TLSv1.3", "TLSv1.2", "SSLv3"}, "proxy-ssl-secret": {"trust"},
	"rewrite-target": {"/$2", "/", "/x?y=$1", "/x?", "https://a.example/$1", "$scheme://$host/x?"}, "satisfy": {"any", "all"}, "server-alias": {"store.example.com, ~^x", "*.example.com"}, "session-cookie-domain": {"example.com"},
	"session-cookie-name": {"route"}, "session-cookie-samesite": {"Lax", "strict", "None"}, "proxy-body-size": {"8m", "0"}, "proxy-buffer-size": {"128k"}, "proxy-http-version": {"1.1", "1.0"},
	"allowlist-source-range": {"10.0.0.0/8, 2001:db8::/32"}, "denylist-source-range": {"198.51.100.0/24"}, "whitelist-source-range": {"192.0.2.7"}, "limit-allowlist": {"10.0.0.0/8"}, "limit-whitelist": {"10.0.0.0/8"},
	"kerngate.dev/compression": {"off", "br, gzip", "zstd"}, "kerngate.dev/proxy-protocol": {"v1", "v2", "none"}, "kerngate.dev/health-check": {"http:/ready", "tcp", "grpc", "grpc:a.B"},
	"kerngate.dev/health-check-host": {"a.example"}, "kerngate.dev/outlier-detection": {"off", "consecutive=10,ejection=30s,most-percent=30,server-errors"},
	chosenName: {"X-B", "Content_Length"}, chosenValue: {"a\tb", "$host", "a"},
}

// words are short texts that some key knows, or nearly knows.
var words = []string{
	"true", "false", "on", "off", "TRUE", "t", "yes", "1", "0", "cookie", "basic", "any", "all", "default", "none", "Strict", "strict", "stric", "one", "non", "tlax", "lax", "lax none", "s t", "NONE", "Lax ",
	"*", "*.", "*.*", "*.a", "a.*", "a,b", "a,,b", ",", "a b", "a;b", "a=b", "a:b", "A", "a.", ".a", "-a", "a-", "a_b", "__Host-a", "x*", "off;", "GET", "TLSv1.3", "v3", "trust", "helper", "web", "chosen", "default/", "/trust", "other/trust", "missing",
	"Host", "host", "Connection", "te", "TE", "Content-Length", "content_length", "Transfer_Encoding", "Expect", "Upgrade", "HTTP2-Settings", "Keep_Alive", "X-A", "X_A", "Set-Cookie", "Cookie", "Authorization", "X-A, Host", "Trailer, X-B", "Location",
}

// numbers stand at limits, and beyond them.
var numbers = []string{
	"-1", "+1", "01", "1e3", "0x10", "1_000", "1.5", "2", "9", "10", "11", "63", "64", "99", "100", "101", "199", "200", "255", "256", "299", "300", "301", "302", "303", "304", "305", "306", "307", "308", "309", "310", "399", "400", "401", "499", "500", "599", "600", "999", "1000", "1001",
	"65535", "65536", "86400", "86401", "604800", "604801", "604801s", "1048576", "1048577", "16777216", "16777217", "1073741824", "1073741825", "2147483647", "2147483648", "4294967295", "4294967296", "315360000", "315360001",
	"9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "99999999999999999999999999", "-9223372036854775808",
	"1k", "1K", "1m", "1g", "8G", "1t", "k", "8589934591g", "8589934592g", "1025k", "1ms", "30s", "5m", "2h", "1d", "30d", "31d", "s", "10s5", "1h30m", "1 2", "300 301", "404 5m",
}

// expressions are RE2's and PCRE's, whole and broken.
var expressions = []string{
	`(?=x)`, `(?!x)`, `(?<!a)b`, `(a)\1`, `a++`, `a*+`, `\Qabc`, `^\Qa`, `\Qa\E`, `\E`, `(?P<n>x)`, `(?<n>x)`, `(?'n'x)`, `(?i)x`, `(?x) a # c`, `(?#c)`, `(?s:.)`, `(?U)a+`, `(?i`, `(?`, `[[:alpha:]]+`, `\p{Greek}`, `\pN`, `\x{10FFFF}`, `\x{110000}`, `\xff`, `\C`, `\K`, `\R`, `\h`, `\z`, `\Z`, `\G`,
	`(`, `)`, `a)(b`, `(|`, `[`, `[a`, `[^]`, `[z-a]`, `{`, `}`, `a{`, `a{1000}`, `a{1001}`, `(a{100}){10}`, `(a{100}){11}`, `((a{10}){10}){10}`, `a{,5}`, `a{2}{3}`, `a**`, `*`, `+`, `?`, `^`, `$`, `|`, `x*`, `(a|b|)*`, `((a*)*)*`, `\`, `a\`, `\1`, `\d+(\.\d+)?`, `(.*)`, `^/(.*)$`, `.`, `é+`, `(?i)ſ`, `[^\x00-\x{10FFFF}]`,
	strings.Repeat("()", 9), strings.Repeat("()", 10), strings.Repeat("(", 500) + strings.Repeat(")", 500), strings.Repeat("(a", 300) + strings.Repeat(")?", 300), strings.Repeat(`a{1000}`, 2), strings.Repeat(`a{1000}`, 140), strings.Repeat(`\pL{1000}`, 100), strings.Repeat(`(x{30}){33}`, 90),
	"~", "~*", "~^", "~*^/a", "~*(", "~^~", "= /x", "^~ /x",
}

// templates name values of the request, known and unknown.
var templates = []string{
	"$", "$$", "${", "${}", "${host", "${host}", "$host}", "$nope", "$0", "$1", "$2", "$9", "$10", "${1}", "/$1", "/$1$2", "$http_", "$http_x", "$http_x-y", "${http_x-y}", "$http_é", "$cookie_a", "$arg_a", "$arg_", "$auth_cookie", "$auth_answer_http_x", "$upstream_http_x", "$service_name", "$service_port", "$namespace", "$ingress_name", "$server_name", "$remote_user", "$request_id", "$escaped_request_uri", "$content_type", "$HOST", "$uri$is_args$args",
	"$scheme://$host$request_uri", "$scheme://$http_host/x", "https://$service_name.example/$namespace", strings.Repeat("$host", 32), strings.Repeat("$host", 33), strings.Repeat("a$host", 16), "/" + strings.Repeat("$host", 31), strings.Repeat("$service_name", 32), strings.Repeat("$service_name$ingress_name", 16), "/" + strings.Repeat("$service_name/", 15),
}

// addresses are of hosts, networks and URLs.
var addresses = []string{
	"10.0.0.1/8", "10.0.0.0/8", "1.2.3.4", "1.2.3.4/32", "1.2.3.4/33", "1.2.3.4/", "/8", "1.2.3.4/08", "1.2.3", "01.2.3.4", "1.2.3.4/-1", "1.2.3.4 ", "0.0.0.0/0", "::/0", "::1", "::1/64", "2001:db8::/129", "[::1]", "::ffff:1.2.3.4", "::ffff:0:0/96", "::ffff:1.2.3.0/120", "::ffff:0:0/95", "fe80::1%eth0", "fe80::%eth0/64", "10.0.0.0/8,10.0.0.0/8", "10.0.0.0/8;11.0.0.0/8", "localhost",
	"http://", "https://", "http:///", "http://a", "http://a:", "http://a:0", "http://a:80", "http://a:65536", "http://a:x/", "http://[::1]", "http://[::1]:80", "http://[::1]:x", "http://[::1", "http://[::1]x/", "http://::1/", "http://[1.2.3.4]/", "http://[]", "http://a/?x", "http://a?x", "http://a#f", "http://user@a/", "http://a b/", "http://a\\b/", "http://\"a\"/", "http://<a>/", "http://$host", "http://${host}/x", "http://$host:80/", "http://$host.a/", "http://$host$request_uri", "http://a$request_uri", "http://a$uri", "http://a$arg_x",
	"https://web.default.svc", "http://web.default.svc:81/", "http://helper.default.svc.cluster.local:8080/x", "http://helper.default.svc.:80/", "http://a./", "http://A.B/", "http://é.example/", "http://xn--a.example/", "http://*.a/", "http://1.2.3.4:80/x", "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "HTTP://a/", "ftp://a/", "//evil", "///x", "/x", "/", "/x y", "/é", "/%zz", "/%0d%0a", "/x?y#z", "x", "javascript:alert(1)", "mailto:a", "?x", "#x", "https://a.example/%", "https://%zz/", "http://a.example/" + strings.Repeat("x", 5000), "http://" + strings.Repeat("a", 64) + ".example/", "http://" + strings.Repeat("a.", 130) + "a/",
}

// texts are those that no key means to get.
var texts = []string{
	"", " ", "\t", "\n", "\x00", "a\x00b", "\x01", "\x1f", "\x7f", "\u0085", "a\r\nX-Evil: 1", "a\rb", "a\nb", "a\tb", " a ", "a\t", "\ta", "\u00a0a\u00a0", "\u2028", "\ufeff", "é", "日本", "😀", "\ufffd", "a\u0301", "\"", "'", "a\"b", "\"abc", "'abc", "abc\"", "\\", "a\\", "\\\"", "a'b'c", "%", "%00", "%0a", "<x>", "{", "}", "{{ .x }}", "${VAR}", ";", "#", "`", "|", "^", "~", "@", "&", "=", "null", "[]", "- a",
}

var sizes = []int{63, 64, 65, 252, 253, 254, 255, 256, 257, 511, 990, 999, 1000, 1001, 1010, 1019, 1020, 1023, 1024, 1025, 2040, 2047, 2048, 2049, 4070, 4095, 4096, 4097, 8192, 8193, 65536, 65537}

var paths = []string{
	"/", "/shop", "/shop/", "/a.b", "/a b", "/é", "/%2f", "/%C3%A9", "", "x", "/app(/|$)(.*)", "/(.*)", "/a+", "/[", "/(", "/a)(b", "/(?=x)", `/\Qa`, "/a//b", "/a/../b", "/a;b", "/a,b", "/a?b", "/\x00", "/.well-known/acme-challenge", "/.well-known/acme-challenge/x",
	"/" + strings.Repeat("a", 1020), "/" + strings.Repeat("a", 1024), "/" + strings.Repeat(".", 600), "/" + strings.Repeat("a", 5000), "/" + strings.Repeat("a{1000}", 100), "/" + strings.Repeat("()", 10), "/" + strings.Repeat("()", 9), "/x|/y", "/$1", "/" + strings.Repeat("a", 9000),
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// anything returns a text of any kind.
func anything(r *rand.Rand) string {
	switch r.IntN(9) {
	case 0:
		return pick(r, words)
	case 1:
		return pick(r, numbers)
	case 2:
		return pick(r, expressions)
	case 3:
		return pick(r, templates)
	case 4:
		return pick(r, addresses)
	case 5:
		return pick(r, texts)
	case 6:
		return strings.Repeat(pick(r, []string{"a", "/", "1", ".", "a,", "é", "$", "\\.", "a ", "()", "a.b", "*"}), pick(r, sizes))
	case 7:
		return "/" + strings.Repeat(pick(r, []string{"a", ".", "é", "$1"}), pick(r, sizes))
	}
	return pick(r, paths)
}

// value returns a value for a key: mostly one that nearly means something.
func value(r *rand.Rand, key string) string {
	name := strings.TrimPrefix(key, ingressnginx.Prefix)
	if strings.HasSuffix(name, "-snippet") && r.IntN(8) > 0 {
		return snippet(r, 0)
	}
	v := anything(r)
	if list := good[name]; list != nil && r.IntN(2) == 0 {
		v = pick(r, list)
	}
	for r.IntN(3) == 0 {
		v = mutate(r, v)
	}
	if len(v) > 1<<17 {
		v = v[:1<<17]
	}
	return strings.ToValidUTF8(v, "")
}

// mutate changes a text a little.
func mutate(r *rand.Rand, v string) string {
	at := r.IntN(len(v) + 1)
	switch r.IntN(8) {
	case 0:
		return v[:at] + pick(r, texts) + v[at:]
	case 1:
		return v[:at]
	case 2:
		return v[at:]
	case 3:
		return v + pick(r, []string{" ", ",", ", ", ";", "\n", ""}) + anything(r)
	case 4:
		return anything(r) + pick(r, []string{" ", ",", ", ", ";", "\n", ""}) + v
	case 5:
		return strings.ToUpper(v)
	case 6: // as long as some bound
		if n := pick(r, sizes); v != "" {
			return strings.Repeat(v, n/len(v)+1)[:n]
		}
	}
	return v[:at] + v[min(at+1, len(v)):]
}

var directives = []string{
	"add_header", "more_set_headers", "more_clear_headers", "more_set_input_headers", "more_clear_input_headers", "proxy_hide_header", "proxy_set_header", "grpc_set_header", "auth_request_set", "return", "rewrite", "allow", "deny", "satisfy", "internal", "set", "proxy_pass", "access_log", "expires", "error_page", "access_by_lua_block", "valid_referers", "gzip",
}

// snippet returns directives of nginx.
func snippet(r *rand.Rand, depth int) string {
	var b strings.Builder
	for range 1 + r.IntN(4) {
		if depth < 2 && r.IntN(4) == 0 {
			head := pick(r, []string{"location ", "location = ", "location ^~ ", "location ~ ", "location ~* ", "if ", "limit_except "})
			b.WriteString(head + quoted(r, argument(r, "location")) + " {\n" + snippet(r, depth+1) + "}\n")
			continue
		}
		name := pick(r, directives)
		b.WriteString(name)
		for range 1 + r.IntN(3) {
			b.WriteString(" " + quoted(r, argument(r, name)))
		}
		b.WriteString(";\n")
	}
	if v := b.String(); r.IntN(20) > 0 {
		return v
	}
	return strings.ToValidUTF8(mutate(r, b.String()), "")
}

// argument returns one that a directive may have.
func argument(r *rand.Rand, directive string) string {
	pools := map[string][][]string{
		"return": {numbers, addresses, templates}, "rewrite": {expressions, addresses, templates, {"redirect", "permanent", "last", "break"}, paths}, "allow": {addresses, {"all", "unix:"}}, "deny": {addresses, {"all", "unix:"}}, "satisfy": {words},
		"location": {paths, expressions, addresses},
	}
	lists := pools[directive]
	if lists == nil {
		lists = [][]string{words, templates, {"X-A", "X-A: $host", "$x", "always"}}
	}
	v := anything(r)
	if r.IntN(4) > 0 {
		v = pick(r, pick(r, lists))
	}
	for r.IntN(5) == 0 {
		v = mutate(r, v)
	}
	return v
}

// quoted writes a word as nginx reads it, or nearly.
func quoted(r *rand.Rand, v string) string {
	switch r.IntN(10) {
	case 0:
		return v
	case 1:
		return "'" + v + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
}

// generate returns a manifest with some annotations.
func generate(r *rand.Rand) manifest {
	m := manifest{annotations: map[string]string{}, path: pick(r, paths[:3]), form: 1}
	if r.IntN(3) == 0 {
		m.path = pick(r, paths)
	}
	if r.IntN(2) == 0 {
		m.form = r.Uint32N(1 << formBits)
	}
	for range 1 + r.IntN(4) {
		key := pick(r, keys)
		m.add(key, value(r, key))
	}
	return m
}

// TestEveryKeyIsGenerated: a key that is added later is tried as well, with what it needs.
func TestEveryKeyIsGenerated(t *testing.T) {
	seen := map[string]int{}
	for n := range uint64(3000) {
		for key := range generate(rand.New(rand.NewPCG(1, n))).annotations {
			seen[key]++
		}
	}
	for _, k := range ingressnginx.Keys() {
		if seen[ingressnginx.Prefix+k.Name] < 10 {
			t.Errorf("%s stands in %d manifests", k.Name, seen[ingressnginx.Prefix+k.Name])
		}
	}
	for name := range beside {
		if _, known := ingressnginx.Lookup(name); !known {
			t.Errorf("%s is no key", name)
		}
	}
	for name := range good {
		if !slices.Contains(keys, ingressnginx.Prefix+name) && !slices.Contains(keys, name) {
			t.Errorf("%s is no key", name)
		}
	}
}
