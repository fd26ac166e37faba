package differential

import (
	"regexp"
	"slices"
	"strings"
)

// cases are all comparisons. nginx's blocks follow rootfs/etc/nginx/template/nginx.tmpl of
// ingress-nginx 1.15, with what its controller fills in; where its Lua decides, nginx's own
// means say the same.
func cases() []comparison {
	return slices.Concat(routing(), paths(), rewriting(), redirecting(), fields(), cors(), bodies(), access(), limits(), canaries(), external(), mirrors(), pages(), snippets())
}

func routing() []comparison {
	return []comparison{{
		name: "prefix",
		ingresses: []string{ingress("prefix", `

P /foo web
P /foo/bar other
E /foo/exact other
P / web`)},
		server: `
location /foo/ { @web }
location = /foo { @web }
location /foo/bar/ { @other }
location = /foo/bar { @other }
location = /foo/exact { @other }
location / { @web }`,
		requests: ask(
			"GET /foo", "GET /foo/", "GET /foo/x?y=z", "GET /foobar", "GET /foo/bar", "GET /foo/bar/baz", "GET /foo/barbaz",
			"GET /foo/exact", "GET /foo/exact/", "GET /FOO/bar", "GET /", "GET /?", "GET /?a=b&c=%20d", "POST /foo\n\nbody", "HEAD /foo/bar",
			"PUT /foo\nContent-Type: text/plain\n\nxyz", "DELETE /foo", "PATCH /foo\n\n{}", "OPTIONS /foo", "PROPFIND /foo",
			"GET /foo\nHost: PREFIX.TEST", "GET /foo\nHost: prefix.test:8080",
			"POST /foo\nTransfer-Encoding: chunked\n\n3\r\nabc\r\n0\r\n\r\n",
		),
	}, {
		name: "exact",
		ingresses: []string{ingress("exact", `

E /a web
E /b/ other`)},
		server: `
location = /a { @web }
location = /b/ { @other }
location / { return 404; }`,
		requests: ask("GET /a", "GET /a/", "GET /A", "GET /a?x", "GET /b/", "GET /b/c", "GET /"),
	}, {
		name: "slash",
		ingresses: []string{ingress("slash", `
proxy-body-size: 1m

P /app/ web
E /one/ other`)},
		server: `
location /app/ { @web }
location /one/x { return 404; }
location = /one/ { @other }
location / { return 404; }`,
		requests: ask("GET /app", "GET /app?a=b", "GET /app/", "GET /app/x", "GET /apps", "GET /one/", "GET /one"),
	}, {
		name: "wild",
		ingresses: []string{ingressOf("wild", "*.wild.test", `

P / web`), ingressOf("wild-own", "own.wild.test", `

P / other`)},
		server: `server_name ~^(?<subdomain>[\w-]+)\.wild\.test$;
location / { @web }
}
server {
listen ADDRESS;
server_name own.wild.test;
location / { @other }`,
		requests: ask("GET /\nHost: a.wild.test", "GET /\nHost: own.wild.test", "GET /\nHost: a.b.wild.test", "GET /\nHost: wild.test", "GET /x\nHost: A.wild.TEST"),
	}}
}

func paths() []comparison {
	return []comparison{{
		name: "normal",
		ingresses: []string{ingress("normal", `

P /a web
P /b/c other`)},
		server: `
location /a/ { @web }
location = /a { @web }
location /b/c/ { @other }
location = /b/c { @other }
location / { return 404; }`,
		requests: slices.Concat(differing("a fragment is no part of a request (RFC 9112 section 3.2)", "GET /a/x#y"), ask(
			"GET /b//c", "GET /%61", "GET /b%2fc",
			"GET /a/x%20y", "GET /a/%C3%A9", "GET /a/;x=y", "GET /a?../b/c", "GET /a/%25", "GET /..", "GET /a/../../b", "GET /a%00", "GET /a/%zz",
		), differing("pods get the path that rules were matched with", "GET /a/../b/c", "GET /b/./c", "GET //a", "GET /a/%2e%2e/b/c"),
			differing("a path that can be read in two ways is refused", "GET /a/..%2fb/c", "GET /a/b//../c", `GET /a\b`, "GET /a%0a")),
	}, {
		name: "regex",
		ingresses: []string{ingress("regex", `
use-regex: true

I /v[0-9]+/users web
I /v1/users/special other
I /static/(css|js) other
I / web`)},
		server: `
location ~* "^/v1/users/special" { @other }
location ~* "^/static/(css|js)" { @other }
location ~* "^/v[0-9]+/users" { @web }
location ~* "^/" { @web }`,
		requests: ask(
			"GET /v1/users", "GET /v22/users/7", "GET /v1/users/special", "GET /V1/USERS/SPECIAL", "GET /static/css/x.css", "GET /static/jsx", "GET /static/img", "GET /vx/users", "GET /",
		),
	}, {
		name: "regexhost",
		ingresses: []string{ingress("regexhost", `
use-regex: true

I /api/v[12] web`), ingressOf("regexhost-2", "regexhost.test", `

E /exact other
P /pre other`)},
		server: `
location ~* "^/api/v[12]" { @web }
location ~* "^/exact" { @other }
location ~* "^/pre" { @other }
location / { return 404; }`,
		requests: ask("GET /exact", "GET /exact/and/more", "GET /EXACTLY", "GET /pre", "GET /prefix", "GET /api/v1x", "GET /api/v3"),
	}}
}

func rewriting() []comparison {
	return []comparison{{
		name: "rewrite",
		ingresses: []string{ingress("rewrite", `
rewrite-target: /$2

I /something(/|$)(.*) web`)},
		server: `
location ~* "^/something(/|$)(.*)" {
	rewrite "(?i)/something(/|$)(.*)" /$2 break;
	@web
}
location / { return 404; }`,
		requests: slices.Concat(
			ask("GET /something", "GET /something/", "GET /something/new", "GET /something/new?a=b", "GET /SOMETHING/x", "GET /somethingelse", "POST /something/x\n\nbody", "GET /something/a/b/c/", "GET /x"),
		),
	}, {
		name: "rewriteone",
		ingresses: []string{ingress("rewriteone", `
rewrite-target: /

I /old web`)},
		server: `
location ~* "^/old" {
	rewrite "(?i)/old" / break;
	@web
}
location / { return 404; }`,
		requests: ask("GET /old", "GET /old/x/y?z", "GET /older", "GET /new"),
	}, {
		name: "rewritemany",
		ingresses: []string{ingress("rewritemany", `
rewrite-target: /$1/v2/$3

I /(shop|blog)/(v1)/(.*) other`)},
		server: `
location ~* "^/(shop|blog)/(v1)/(.*)" {
	rewrite "(?i)/(shop|blog)/(v1)/(.*)" /$1/v2/$3 break;
	@other
}
location / { return 404; }`,
		requests: ask("GET /shop/v1/cart", "GET /blog/v1/", "GET /shop/v2/cart", "GET /shop/v1/a/b?q=1&r=2", "GET /Shop/V1/x"),
	}, {
		name: "rewritequery",
		ingresses: []string{ingress("rewritequery", `
rewrite-target: /index?page=$1

I /page/(.*) web`)},
		server: `
location ~* "^/page/(.*)" {
	rewrite "(?i)/page/(.*)" /index?page=$1 break;
	@web
}
location / { return 404; }`,
		requests: ask("GET /page/7", "GET /page/7?x=y", "GET /page/"),
	}, {
		name: "vhost",
		ingresses: []string{ingress("vhost", `
upstream-vhost: inner.local
x-forwarded-prefix: /outer

P / web`)},
		server:   `location / { proxy_set_header X-Forwarded-Prefix "/outer"; set $pod_host inner.local; @web }`,
		requests: ask("GET /", "GET /x?y\nX-Forwarded-Prefix: /forged", "POST /\n\nbody"),
	}, {
		name: "prefixed",
		ingresses: []string{ingress("prefixed", `
x-forwarded-prefix: /outer

P / web`)},
		server:   `location / { proxy_set_header X-Forwarded-Prefix "/outer"; @web }`,
		requests: ask("GET /", "GET /x\nX-Forwarded-Prefix: /forged"),
	}}
}

func redirecting() []comparison {
	return []comparison{{
		name: "permanent",
		ingresses: []string{ingress("permanent", `
permanent-redirect: https://new.example/path

P / web`)},
		server:   `location / { return 301 https://new.example/path; }`,
		requests: ask("GET /", "GET /x?y", "POST /x\n\nbody", "HEAD /"),
	}, {
		name: "permanentcode",
		ingresses: []string{ingress("permanentcode", `
permanent-redirect: https://new.example$request_uri
permanent-redirect-code: 308

P / web`)},
		server:   `location / { return 308 https://new.example$request_uri; }`,
		requests: slices.Concat(ask("GET /", "GET /x?y=z", "POST /a/b\n\nbody", "GET /%20x?q=%3D"), differing("a path begins with one slash", "GET //x")),
	}, {
		name: "temporal",
		ingresses: []string{ingress("temporal", `
temporal-redirect: https://other.example

P /old web`)},
		server: `
location /old/ { return 302 https://other.example; }
location = /old { return 302 https://other.example; }
location / { return 404; }`,
		requests: ask("GET /old", "GET /old/x", "GET /older"),
	}, {
		name: "temporalcode",
		ingresses: []string{ingress("temporalcode", `
temporal-redirect: http://other.example/$arg_to
temporal-redirect-code: 307

P / web`)},
		server:   `location / { return 307 http://other.example/$arg_to; }`,
		requests: slices.Concat(ask("GET /?to=there", "GET /"), differing("names of query parameters are told apart by case", "GET /?TO=x")),
	}, {
		name: "approot",
		ingresses: []string{ingress("approot", `
app-root: /app1

P / web`)},
		server: `
if ($uri = /) { return 302 $scheme://$http_host/app1; }
location / { @web }`,
		requests: ask("GET /", "GET /?a=b", "GET /x", "POST /\n\nbody", "GET /app1"),
	}, {
		name: "fromto",
		ingresses: []string{ingress("fromto", `
from-to-www-redirect: true

P / web`)},
		server: `server_name fromto.test;
location / { @web }
}
server {
listen ADDRESS;
server_name www.fromto.test;
location / { return 308 $scheme://fromto.test$request_uri; }`,
		requests: ask("GET /x", "GET /x?y\nHost: www.fromto.test", "POST /\nHost: www.fromto.test\n\nbody"),
	}, {
		name: "alias",
		ingresses: []string{ingress("alias", `
server-alias: one.alias.test, two.alias.test

P /a web`)},
		server: `server_name alias.test one.alias.test two.alias.test;
location /a/ { @web }
location = /a { @web }
location / { return 404; }`,
		requests: ask("GET /a", "GET /a\nHost: one.alias.test", "GET /a/b\nHost: two.alias.test", "GET /b\nHost: two.alias.test", "GET /a\nHost: three.alias.test"),
	}, {
		name: "proxyredirect",
		ingresses: []string{ingress("proxyredirect", `
proxy-redirect-from: http://pod.local/
proxy-redirect-to: https://public.example/in/

P / web`)},
		server: `location / { proxy_redirect http://pod.local/ https://public.example/in/; @web }`,
		requests: ask("GET /\nDo: status=302&header=Location: http://pod.local/next", "GET /\nDo: status=301&header=Location: http://other.local/next",
			"GET /\nDo: status=303&header=Location: /relative", "GET /\nDo: header=Refresh: 5; url=http://pod.local/x", "GET /\nDo: status=201&header=Location: http://pod.local/new"),
	}}
}

func fields() []comparison {
	return []comparison{{
		name: "through",
		ingresses: []string{ingress("through", `

P / web`)},
		server: `location / { @web }`,
		requests: slices.Concat(ask(
			"GET /\nX-A: 1\nX-A: 2", "GET /\nCookie: a=b; c=d", "GET /\nAccept: text/html\nAccept-Encoding: gzip, br", "GET /\nRange: bytes=0-3",
			"GET /\nAuthorization: Bearer abc", "GET /\nX-Real-IP: 192.0.2.1", "GET /\nX-Forwarded-For: 192.0.2.1", "GET /\nX-Forwarded-Proto: https\nX-Forwarded-Host: evil.test\nX-Forwarded-Port: 1",
			"GET /\nUser-Agent: x y z\nReferer: http://a/b", "GET /\nIf-None-Match: \"x\"", "POST /\nContent-Type: application/x-www-form-urlencoded\n\na=b",
			"GET /\nDo: status=302&header=Location: http://pod.local/next", "GET /\nDo: status=500", "GET /\nDo: status=404&header=X-B: c", "GET /\nDo: status=204",
			"GET /\nDo: status=304&header=Etag: \"x\"", "GET /\nDo: header=Set-Cookie: a=b; Path=/&header=Set-Cookie: c=d; HttpOnly", "GET /\nDo: header=Vary: Accept&header=Cache-Control: no-store",
			"GET /\nDo: status=401&header=Www-Authenticate: Basic realm=\"x\"", "GET /\nDo: status=418", "HEAD /\nDo: status=500", "GET /\nTe: trailers", "GET /\nKeep-Alive: timeout=5", "GET /\nProxy: http://evil.test",
		), differing("pods cannot have the proxy ask for something else", "GET /\nDo: header=X-Accel-Redirect: /secret"),
			differing("a client that speaks h2c to a pod would go past every rule", "GET /\nUpgrade: h2c")),
	}, {
		name: "schemes",
		ingresses: []string{ingress("schemes", `

P / web`)},
		server:   `location / { proxy_set_header X-Forwarded-Scheme $scheme; proxy_set_header X-Scheme $scheme; @web }`,
		requests: ask("GET /\nX-Scheme: https", "GET /\nX-Forwarded-Scheme: https", "GET /\nX-Scheme: a\nX-Scheme: b\nX-Forwarded-Scheme: c\nX-Forwarded-Proto: https", "GET /\nX_Scheme: https\nX-Scheme: https"),
	}, {
		name: "customheaders",
		ingresses: []string{ingress("customheaders", `
custom-headers: default/page-fields

P / web`), configMap("page-fields", "X-Team: shop garden", "Content-Security-Policy: \"default-src 'self'; img-src *\"", "X-Powered-By: ''")},
		server:   `location / { proxy_hide_header X-Team; proxy_hide_header X-Powered-By; add_header X-Team "shop garden" always; add_header Content-Security-Policy "default-src 'self'; img-src *" always; @web }`,
		requests: ask("GET /", "HEAD /", "GET /\nDo: header=X-Team: pod&header=X-Powered-By: pod", "GET /\nDo: status=404", "GET /\nDo: status=204", "GET /\nX-Team: client", "POST /\nDo: status=500\n\nbody"),
	}, {
		name: "cookiedomain",
		ingresses: []string{ingress("cookiedomain", `
proxy-cookie-domain: pod.local public.example
proxy-cookie-path: /in /out

P / web`)},
		server: `location / { proxy_cookie_domain pod.local public.example; proxy_cookie_path /in /out; @web }`,
		requests: ask(
			"GET /\nDo: header=Set-Cookie: a=b; Domain=pod.local; Path=/in/x", "GET /\nDo: header=Set-Cookie: a=b; Domain=.pod.local; Path=/in", "GET /\nDo: header=Set-Cookie: a=b; domain=POD.local; path=/other",
			"GET /\nDo: header=Set-Cookie: a=b; Domain=sub.pod.local", "GET /\nDo: header=Set-Cookie: a=b; Secure; HttpOnly", "GET /\nDo: header=Set-Cookie: a=b; Path=/in&header=Set-Cookie: c=d; Domain=pod.local",
		),
	}, {
		name: "snippet",
		ingresses: []string{ingress("snippet", `
configuration-snippet: more_set_headers "X-One: 1"; proxy_set_header X-Two "two $host"; proxy_hide_header X-Hidden; add_header X-Three three always;

P / web`)},
		server:   `location / { add_header X-One 1 always; add_header X-Three three always; proxy_set_header X-Two "two $host"; proxy_hide_header X-Hidden; @web }`,
		requests: ask("GET /", "GET /\nX-Two: client", "GET /\nDo: header=X-Hidden: secret", "GET /\nDo: status=500", "GET /\nDo: status=404&header=X-Hidden: a"),
	}, {
		name: "snippetrewrite",
		ingresses: []string{ingress("snippetrewrite", `
configuration-snippet: rewrite ^/old/(.*)$ /new/$1 permanent; rewrite ^/away(/.*)?$ https://away.example$1? redirect; rewrite "^/n([0-9]{2})$" http://n.example/?n=$1; return 302 https://rest.example$request_uri;

P /old web
P /away web
P / other`)},
		server: `location / { rewrite ^/old/(.*)$ /new/$1 permanent; rewrite ^/away(/.*)?$ https://away.example$1? redirect; rewrite "^/n([0-9]{2})$" http://n.example/?n=$1; return 302 https://rest.example$request_uri; }`,
		requests: slices.Concat(ask("GET /old/a/b", "GET /old/a?b=c", "GET /old/", "GET /old", "GET /away", "GET /away/x?y", "GET /n12", "GET /n12?a=b", "GET /n123", "HEAD /old/x", "POST /old/x\n\nbody", "GET /OLD/x", "GET /x?y=z"),
			differing("what a group has matched is escaped as a path is; nginx leaves some of it as it came", "GET /old/a%3fb")),
	}, {
		name: "serversnippet",
		ingresses: []string{ingress("serversnippet", `
server-snippet: rewrite ^/gone/ /here redirect; add_header X-Server "a b" always;

P / web`)},
		server:   `rewrite ^/gone/ /here redirect; add_header X-Server "a b" always; location / { @web }`,
		requests: ask("GET /", "GET /gone", "GET /\nDo: status=404", "GET /gone/x?y=z"),
	}}
}

// nginx's block is what the template makes of CORS: see its macro CORS_CONFIG.
const corsBlock = `
location / {
	set $cors 'true';
	set $origin $http_origin;
	ORIGIN
	if ($request_method = 'OPTIONS') { set $cors ${cors}options; }
	if ($cors = "true") {
		add_header 'Access-Control-Allow-Origin' $allow always;
		CREDENTIALS
		add_header 'Access-Control-Allow-Methods' 'GET, PUT, POST, DELETE, PATCH, OPTIONS' always;
		add_header 'Access-Control-Allow-Headers' 'DNT,Keep-Alive' always;
		add_header 'Access-Control-Max-Age' '600' always;
	}
	if ($cors = "trueoptions") {
		add_header 'Access-Control-Allow-Origin' $allow always;
		CREDENTIALS
		add_header 'Access-Control-Allow-Methods' 'GET, PUT, POST, DELETE, PATCH, OPTIONS' always;
		add_header 'Access-Control-Allow-Headers' 'DNT,Keep-Alive' always;
		add_header 'Access-Control-Max-Age' '600' always;
		add_header 'Content-Type' 'text/plain charset=UTF-8';
		add_header 'Content-Length' 0;
		return 204;
	}
	@web
}`

func cors() []comparison {
	block := func(origin, credentials string) string {
		return strings.NewReplacer("ORIGIN", origin, "CREDENTIALS", credentials).Replace(corsBlock)
	}
	const withCredentials = "add_header 'Access-Control-Allow-Credentials' 'true' always;"
	asked := []string{
		"GET /\nOrigin: https://a.example", "GET /\nOrigin: https://evil.example", "GET /",
		"OPTIONS /\nOrigin: https://a.example\nAccess-Control-Request-Method: PUT", "OPTIONS /x?y\nOrigin: https://a.example\nAccess-Control-Request-Method: POST\nAccess-Control-Request-Headers: X-A",
		"POST /\nOrigin: https://a.example\n\nbody", "GET /\nOrigin: https://a.example\nDo: status=404",
	}
	return []comparison{{
		name: "corsany",
		ingresses: []string{ingress("corsany", `
enable-cors: true
cors-allow-headers: DNT,Keep-Alive
cors-allow-credentials: false
cors-max-age: 600

P / web`)},
		server:   block("set $allow '*';", ""),
		requests: ask(asked...),
	}, {
		name: "corsorigin",
		ingresses: []string{ingress("corsorigin", `
enable-cors: true
cors-allow-origin: https://a.example
cors-allow-headers: DNT,Keep-Alive
cors-max-age: 600

P / web`)},
		server:   strings.ReplaceAll(block("set $allow ''; if ($http_origin = 'https://a.example') { set $allow $http_origin; }", withCredentials), "set $cors 'true';", "set $cors ''; if ($http_origin = 'https://a.example') { set $cors 'true'; }"),
		requests: ask(asked...),
	}}
}

func bodies() []comparison {
	return []comparison{{
		name: "bodysize",
		ingresses: []string{ingress("bodysize", `
proxy-body-size: 8

P / web`)},
		server:   `location / { client_max_body_size 8; @web }`,
		requests: ask("POST /\n\n12345678", "POST /\n\n123456789", "GET /", "POST /\nTransfer-Encoding: chunked\n\n9\r\n123456789\r\n0\r\n\r\n", "PUT /\n\n1234567890123456789"),
	}, {
		name: "bodyfree",
		ingresses: []string{ingress("bodyfree", `
proxy-body-size: 0

P / web`)},
		server:   `location / { client_max_body_size 0; @web }`,
		requests: append(ask("POST /\n\n"+long), differing("the pod is asked whether it wants the body, as nothing is gathered", "POST /\nExpect: 100-continue\n\nx")...),
	}}
}

// long is a body of 100 bytes.
const long = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

func access() []comparison {
	return []comparison{{
		name: "allowed",
		ingresses: []string{ingress("allowed", `
allowlist-source-range: 127.0.0.0/8,192.0.2.0/24

P / web`)},
		server:   `location / { allow 127.0.0.0/8; allow 192.0.2.0/24; deny all; @web }`,
		requests: ask("GET /", "GET /\nX-Forwarded-For: 198.51.100.1"),
	}, {
		name: "outside",
		ingresses: []string{ingress("outside", `
whitelist-source-range: 192.0.2.0/24

P / web`)},
		server:   `location / { allow 192.0.2.0/24; deny all; @web }`,
		requests: ask("GET /", "POST /x\n\nbody", "GET /\nX-Forwarded-For: 192.0.2.1", "GET /\nX-Real-IP: 192.0.2.1"),
	}, {
		name: "denied",
		ingresses: []string{ingress("denied", `
denylist-source-range: 127.0.0.1

P / web`)},
		server:   `location / { deny 127.0.0.1; @web }`,
		requests: ask("GET /", "HEAD /"),
	}, {
		name: "basic",
		ingresses: []string{ingress("basic", `
auth-type: basic
auth-secret: staff
auth-realm: staff only

P / web`)},
		server: `location / { auth_basic "staff only"; auth_basic_user_file DIR/staff; proxy_set_header Authorization ""; @web }`,
		requests: ask(
			"GET /", "GET /\nAuthorization: Basic YW5uOnNlY3JldA==", "GET /\nAuthorization: basic YW5uOnNlY3JldA==", "GET /\nAuthorization: Basic YW5uOndyb25n",
			"GET /\nAuthorization: Basic !!!", "GET /\nAuthorization: Bearer YW5uOnNlY3JldA==", "GET /\nAuthorization: Basic Ym9iOnNlY3JldA==", "HEAD /", "GET /\nAuthorization: Basic YW5u",
		),
	}, {
		name: "satisfyany",
		ingresses: []string{ingress("satisfyany", `
auth-type: basic
auth-secret: staff
auth-realm: r
satisfy: any
allowlist-source-range: 192.0.2.0/24

P / web`)},
		server:   `location / { satisfy any; allow 192.0.2.0/24; deny all; auth_basic "r"; auth_basic_user_file DIR/staff; proxy_set_header Authorization ""; @web }`,
		requests: ask("GET /", "GET /\nAuthorization: Basic YW5uOnNlY3JldA=="),
	}, {
		name: "satisfyeither",
		ingresses: []string{ingress("satisfyeither", `
auth-type: basic
auth-secret: staff
auth-realm: r
satisfy: any
allowlist-source-range: 127.0.0.1

P / web`)},
		server:   `location / { satisfy any; allow 127.0.0.1; deny all; auth_basic "r"; auth_basic_user_file DIR/staff; @web }`,
		requests: ask("GET /"),
	}, {
		name: "satisfyall",
		ingresses: []string{ingress("satisfyall", `
auth-type: basic
auth-secret: staff
auth-realm: r
satisfy: all
allowlist-source-range: 127.0.0.1

P / web`)},
		server:   `location / { satisfy all; allow 127.0.0.1; deny all; auth_basic "r"; auth_basic_user_file DIR/staff; proxy_set_header Authorization ""; @web }`,
		requests: ask("GET /", "GET /\nAuthorization: Basic YW5uOnNlY3JldA=="),
	}}
}

func limits() []comparison {
	return []comparison{{
		name: "rpm",
		ingresses: []string{ingress("rpm", `
limit-rpm: 1
limit-burst-multiplier: 3

P / web`)},
		server: `location / { limit_req zone=rpm burst=3 nodelay; @web }
HTTP
limit_req_zone $binary_remote_addr zone=rpm:1m rate=1r/m;
`,
		requests: ask("GET /1", "GET /2", "GET /3", "GET /4", "GET /5", "GET /6"),
	}, {
		name: "rpmexempt",
		ingresses: []string{ingress("rpmexempt", `
limit-rpm: 1
limit-burst-multiplier: 1
limit-allowlist: 127.0.0.0/8

P / web`)},
		server: `location / { limit_req zone=rpmexempt burst=1 nodelay; @web }
HTTP
geo $exempt { default $binary_remote_addr; 127.0.0.0/8 ''; }
map $remote_addr $exempt_key { default ''; }
limit_req_zone $exempt_key zone=rpmexempt:1m rate=1r/m;
`,
		requests: ask("GET /1", "GET /2", "GET /3", "GET /4"),
	}}
}

func canaries() []comparison {
	canary := func(name, annotations string) []string {
		return []string{ingress(name, "\n\nP / web"), ingressOf(name+"-canary", name+".test", "canary: true\n"+annotations+"\n\nP / other")}
	}
	// pick is nginx's way of saying what the Lua of ingress-nginx does: $NAME_pod names the service.
	pick := func(name, on, rules string) string {
		return "location / { set $pod $" + name + "_pod; proxy_pass http://$pod; " + strings.Replace(nginxProxy, "proxy_pass http://SERVICE;", "", 1) +
			"}\nHTTP\nmap " + on + " $" + name + "_pod { default web; " + rules + " }\n"
	}
	return []comparison{{
		name:      "canaryheader",
		ingresses: canary("canaryheader", "canary-by-header: X-Canary"),
		server:    pick("canaryheader", "$http_x_canary", "always other;"),
		requests:  ask("GET /", "GET /\nX-Canary: always", "GET /\nX-Canary: never", "GET /\nX-Canary: maybe"),
	}, {
		name:      "canaryvalue",
		ingresses: canary("canaryvalue", "canary-by-header: X-Canary\ncanary-by-header-value: blue"),
		server:    pick("canaryvalue", "$http_x_canary", "blue other;"),
		requests:  ask("GET /", "GET /\nX-Canary: blue", "GET /\nX-Canary: always", "GET /\nX-Canary: red"),
	}, {
		name:      "canarypattern",
		ingresses: canary("canarypattern", "canary-by-header: X-Region\ncanary-by-header-pattern: ^(eu|us)-[0-9]$"),
		server:    pick("canarypattern", "$http_x_region", "~^(eu|us)-[0-9]$ other;"),
		requests:  ask("GET /", "GET /\nX-Region: eu-1", "GET /\nX-Region: eu-10", "GET /\nX-Region: us-2", "GET /\nX-Region: ap-1"),
	}, {
		name:      "canarycookie",
		ingresses: canary("canarycookie", "canary-by-cookie: beta"),
		server:    pick("canarycookie", "$cookie_beta", "always other;"),
		requests:  ask("GET /", "GET /\nCookie: beta=always", "GET /\nCookie: a=b; beta=always; c=d", "GET /\nCookie: beta=never", "GET /\nCookie: xbeta=always"),
	}, {
		name:      "canaryboth",
		ingresses: canary("canaryboth", "canary-by-header: X-Canary\ncanary-by-cookie: beta"),
		server:    pick("canaryboth", "$http_x_canary:$cookie_beta", "~^always: other; :always other;"),
		requests:  ask("GET /", "GET /\nX-Canary: always\nCookie: beta=never", "GET /\nX-Canary: never\nCookie: beta=always", "GET /\nCookie: beta=always"),
	}, {
		name:      "canaryfull",
		ingresses: canary("canaryfull", "canary-weight: 100"),
		server:    pick("canaryfull", "$host", "canaryfull.test other;"),
		requests:  ask("GET /", "GET /x", "POST /\n\nbody"),
	}, {
		name:      "canarynone",
		ingresses: canary("canarynone", "canary-weight: 0"),
		server:    pick("canarynone", "$host", ""),
		requests:  ask("GET /", "GET /x"),
	}}
}

// asked is nginx's end of what the template makes of auth-url, with a location for it.
func asked(name, location, extra string) string {
	return "location = /_external-auth-" + name + ` {
	internal;
	proxy_pass_request_body off;
	proxy_set_header Content-Length "";
	proxy_set_header X-Forwarded-Proto "";
	proxy_set_header Host auth.default.svc;
	proxy_set_header X-Original-URL $scheme://$http_host$request_uri;
	proxy_set_header X-Original-Method $request_method;
	proxy_set_header X-Sent-From "kerngate";
	proxy_set_header X-Real-IP $remote_addr;
	proxy_set_header X-Forwarded-For $remote_addr;
	proxy_set_header X-Auth-Request-Redirect $request_uri;
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	` + location + `
}
location @signin-` + name + ` { internal; add_header Set-Cookie $auth_cookie; return 302 SIGNIN$scheme://$http_host$request_uri; }
location / {
	auth_request /_external-auth-` + name + `;
	auth_request_set $auth_cookie $upstream_http_set_cookie;
	add_header Set-Cookie $auth_cookie;
	` + extra + `
	@web
}`
}

func external() []comparison {
	const plain = "proxy_pass http://auth/check;"
	return []comparison{{
		name: "authurl",
		ingresses: []string{ingress("authurl", `
auth-url: http://auth.default.svc/check
auth-response-headers: X-User, X-Missing

P / web`)},
		server: asked("authurl", plain, "auth_request_set $x1 $upstream_http_x_user; proxy_set_header X-User $x1; auth_request_set $x2 $upstream_http_x_missing; proxy_set_header X-Missing $x2;"),
		requests: slices.Concat(ask(
			"GET /a?b=c", "GET /\nDo-auth: status=401", "GET /\nDo-auth: status=403", "GET /\nDo-auth: status=500", "GET /\nDo-auth: status=302&header=Location: http://evil.test/", "GET /\nDo-auth: status=404",
			"GET /\nDo-auth: status=204", "GET /\nX-User: forged\nX-Missing: forged", "GET /\nX-User: forged\nDo-auth: header=X-User: ann", "GET /\nDo-auth: status=401&header=Www-Authenticate: Bearer realm=\"x\"",
			"GET /\nDo-auth: header=Set-Cookie: s=1", "GET /\nDo: status=404\nDo-auth: header=Set-Cookie: s=1",
			"GET /\nDo-auth: status=401&header=Set-Cookie: s=1", "GET /\nDo-auth: status=403&header=Set-Cookie: s=1", "GET /\nCookie: a=b\nAuthorization: Bearer t", "HEAD /", "HEAD /\nDo-auth: status=401",
			"POST /\n\nbody", "POST /\nDo-auth: status=403\n\nbody", "PUT /x%20y?q=%2F\n\n1", "GET /\nRange: bytes=0-1",
		)),
	}, {
		name: "authmethod",
		ingresses: []string{ingress("authmethod", `
auth-url: http://auth.default.svc/
auth-method: POST
auth-signin: https://login.example/start

P / web`)},
		server:   strings.ReplaceAll(asked("authmethod", "proxy_method POST; proxy_set_header X-Original-URI $request_uri; proxy_set_header X-Scheme $scheme; proxy_pass http://auth/;", "error_page 401 = @signin-authmethod;"), "SIGNIN", "https://login.example/start?rd="),
		requests: slices.Concat(ask("GET /", "GET /\nDo-auth: status=403", "GET /a%20b?c=d\nX-Original-URI: /x"), differing("nginx here does not escape the URL, as ingress-nginx's set_escape_uri does", "GET /x?y=z\nDo-auth: status=401")),
	}, {
		name: "authheaders",
		ingresses: []string{ingress("authheaders", `
auth-url: http://auth.default.svc/check
auth-proxy-set-headers: question-fields

P / web`), configMap("question-fields", "X-Asked-By: kerngate", "X-Method: $request_method of $http_host", "Cookie: ''")},
		server:   asked("authheaders", `proxy_set_header X-Asked-By 'kerngate'; proxy_set_header X-Method '$request_method of $http_host'; proxy_set_header Cookie ''; `+plain, ""),
		requests: ask("GET /", "POST /\nX-Asked-By: client\nCookie: a=b\n\nbody", "GET /x?y\nX-Method: z"),
	}, {
		name: "authcookie",
		ingresses: []string{ingress("authcookie", `
auth-url: http://auth.default.svc/check
auth-always-set-cookie: true

P / web`)},
		server: strings.ReplaceAll(asked("authcookie", plain, ""), "add_header Set-Cookie $auth_cookie;\n", "add_header Set-Cookie $auth_cookie always;\n"),
		requests: ask("GET /", "GET /\nDo-auth: header=Set-Cookie: s=1", "GET /\nDo: status=404\nDo-auth: header=Set-Cookie: s=1",
			"GET /\nDo-auth: status=401&header=Set-Cookie: s=1", "GET /\nDo-auth: status=403&header=Set-Cookie: s=1", "GET /\nDo-auth: status=403"),
	}, {
		name: "authbroken",
		ingresses: []string{ingress("authbroken", `
auth-url: http://broken.default.svc/

P / web`)},
		server:   asked("authbroken", "proxy_pass http://broken/;", ""),
		requests: ask("GET /", "POST /\n\nbody", "HEAD /x"),
	}, {
		name: "authany",
		ingresses: []string{ingress("authany", `
auth-url: http://auth.default.svc/check
satisfy: any
allowlist-source-range: 192.0.2.0/24

P / web`)},
		server:   asked("authany", plain, "satisfy any; allow 192.0.2.0/24; deny all;"),
		requests: ask("GET /", "GET /\nDo-auth: status=401", "GET /\nDo-auth: status=403"),
	}, {
		name: "authall",
		ingresses: []string{ingress("authall", `
auth-url: http://auth.default.svc/check
denylist-source-range: 127.0.0.1

P / web`)},
		server:   asked("authall", plain, "deny 127.0.0.1;"),
		requests: ask("GET /", "GET /\nDo-auth: status=401"),
	}}
}

func mirrors() []comparison {
	mirror := func(name, body string) string {
		return "location = /_mirror-" + name + " { internal; proxy_set_header Host mirror.example; proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Port $server_port; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Connection ''; proxy_http_version 1.1; proxy_pass http://other$request_uri; }\nlocation / { mirror /_mirror-" + name + "; mirror_request_body " + body + "; @web }"
	}
	return []comparison{{
		name: "mirror", copies: 2,
		ingresses: []string{ingress("mirror", `
mirror-target: http://other.default.svc$request_uri
mirror-host: mirror.example

P / web`)},
		server:   mirror("mirror", "on"),
		requests: ask("GET /", "GET /x?y=z\nCookie: a=b", "POST /\nContent-Type: text/plain\n\nbody", "DELETE /x", "GET /\nDo-other: status=500", "PUT /a%20b\n\n"+long),
	}}
}

func pages() []comparison {
	page := func(codes, extra string) string {
		out := "proxy_intercept_errors on;\n"
		for _, code := range strings.Fields(codes) {
			out += "error_page " + code + " = @custom_" + code + ";\nlocation @custom_" + code + " { internal; proxy_intercept_errors off; proxy_pass_request_body off; proxy_method GET; proxy_set_header Content-Length ''; proxy_set_header X-Code " + code + "; proxy_set_header X-Format $http_accept; proxy_set_header X-Original-URI $request_uri; proxy_set_header X-Namespace default; proxy_set_header X-Ingress-Name NAME; proxy_set_header X-Service-Name web; proxy_set_header X-Service-Port 80; proxy_set_header Authorization ''; proxy_set_header Host $host; proxy_http_version 1.1; proxy_set_header Connection ''; rewrite (.*) / break; proxy_pass http://errors; }\n"
		}
		return out + extra
	}
	return []comparison{{
		name: "errorpages",
		ingresses: []string{ingress("errorpages", `
custom-http-errors: 404,503
default-backend: errors

P / web`)},
		server:   strings.ReplaceAll(page("404 503", "location / { @web }"), "NAME", "errorpages"),
		requests: ask("GET /", "GET /x?y\nDo: status=404", "GET /\nDo: status=503\nAccept: application/json", "GET /\nDo: status=500", "POST /x\nDo: status=404\n\nbody"),
	}, {
		name: "errorsown",
		ingresses: []string{ingress("errorsown", `
custom-http-errors: 502,403
default-backend: errors

P / broken`), ingressOf("errorsdenied", "errorsdenied.test", `
custom-http-errors: 403
default-backend: errors
denylist-source-range: 127.0.0.1

P / web`)},
		server:   strings.ReplaceAll(strings.ReplaceAll(page("502 403", "location / { @broken }"), "NAME", "errorsown"), "X-Service-Name web", "X-Service-Name broken"),
		requests: ask("GET /", "POST /a?b\n\nbody"),
	}, {
		name: "errorsbasic",
		ingresses: []string{ingress("errorsbasic", `
custom-http-errors: 401
default-backend: errors
auth-type: basic
auth-secret: staff
auth-realm: staff only

P / web`)},
		server: strings.ReplaceAll(page("401", `location / { auth_basic "staff only"; auth_basic_user_file DIR/staff; proxy_set_header Authorization ""; @web }`), "NAME", "errorsbasic"),
		requests: ask("GET /", "GET /x?y\nDo-errors: status=401", "GET /\nAuthorization: Basic YW5uOndyb25n\nDo-errors: status=401&header=Www-Authenticate: Bearer",
			"POST /\nDo-errors: status=401\n\nbody", "GET /\nAuthorization: Basic YW5uOnNlY3JldA==",
			"GET /\nAuthorization: Basic YW5uOnNlY3JldA==\nDo: status=401&header=Www-Authenticate: Bearer realm=\"pod\""),
	}, {
		name: "errorsasked",
		ingresses: []string{ingress("errorsasked", `
custom-http-errors: 401,403
default-backend: errors
auth-url: http://auth.default.svc/check

P / web`)},
		// The errors of the location alone: the answer to the question must not be a page.
		server: strings.ReplaceAll(asked("errorsasked", "proxy_pass http://auth/check;", "proxy_intercept_errors on; error_page 401 = @custom_401; error_page 403 = @custom_403;")+
			regexp.MustCompile(`(?m)^(error_page|proxy_intercept).*$`).ReplaceAllString(page("401 403", ""), ""), "NAME", "errorsasked"),
		requests: ask("GET /", "GET /\nDo-auth: status=401&header=Www-Authenticate: Bearer realm=\"x\"\nDo-errors: status=401", "GET /\nDo-auth: status=403\nDo-errors: status=403",
			"GET /\nDo-auth: status=401"),
	}}
}
