package differential

import (
	"fmt"
	"slices"
	"strings"
)

// snippets are configuration- and server-snippets that nginx itself runs as they stand. The
// same text is in the annotation and in nginx's block.
func snippets() []comparison {
	return slices.Concat(conditions(), variables(), rewrites(), ownLocations(), texts(), snippetHeaders(), substitutions())
}

// inPath is a comparison of a configuration-snippet on the path / of the service web, beside
// which /other/ is another service's.
func inPath(name, text string, requests ...string) comparison {
	return comparison{
		name:      name,
		ingresses: []string{snippetIngress(name, "configuration-snippet", text, "/ web"), ingressOf(name+"-other", name+".test", "\n\nP /other other")},
		server:    "default_type text/html;\nlocation / {\n" + text + "\n@web }\nlocation /other/ { @other }\nlocation = /other { @other }",
		requests:  ask(requests...),
	}
}

// inServer is the same of a server-snippet.
func inServer(name, text string, requests ...string) comparison {
	return comparison{
		name:      name,
		ingresses: []string{snippetIngress(name, "server-snippet", text, "/ web", "/other other")},
		server:    "default_type text/html;\n" + text + "\nlocation / {\n@web }\nlocation /other/ { @other }\nlocation = /other { @other }",
		requests:  ask(requests...),
	}
}

// snippetIngress is an Ingress with a snippet, which has lines, and paths: PATH SERVICE.
func snippetIngress(name, key, text string, paths ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: %s\n  namespace: default\n  annotations:\n    nginx.ingress.kubernetes.io/%s: %q\n", name, key, text)
	fmt.Fprintf(&b, "spec:\n  ingressClassName: kerngate\n  rules:\n  - host: %q\n    http:\n      paths:\n", name+".test")
	for _, one := range paths {
		path, service, _ := strings.Cut(one, " ")
		fmt.Fprintf(&b, "      - {path: %q, pathType: Prefix, backend: {service: {name: %s, port: {number: 80}}}}\n", path, service)
	}
	return b.String()
}

func conditions() []comparison {
	return []comparison{
		inPath("if-set", `if ($arg_x) { return 403; }`, "GET /", "GET /?x=1", "GET /?x=0", "GET /?x=", "GET /?y=1", "GET /other/?x=1"),
		inPath("if-equal", `if ($request_method = POST) { return 405; }
if ($http_x_a != "") { return 409; }
if ($arg_q = "a b") { return 402; }`, "GET /", "POST /\n\nx", "GET /\nX-A: 1", "GET /\nX-A:", "GET /?q=a", "HEAD /"),
		inPath("if-match", `if ($http_user_agent ~* (bot|crawler)) { return 403; }
if ($http_user_agent ~ Curl) { return 406; }
if ($http_user_agent !~ "^[A-Za-z/0-9. ]*$") { return 400; }
if ($http_x_b !~* "^(a|b|)$") { return 418; }`,
			"GET /", "GET /\nUser-Agent: Googlebot", "GET /\nUser-Agent: CRAWLER", "GET /\nUser-Agent: curl/8", "GET /\nUser-Agent: Curl/8", "GET /\nUser-Agent: a;b",
			"GET /\nX-B: A", "GET /\nX-B: c"),
		inPath("if-host", `if ($host ~ ^(if)-(.*)\.test$) { return 302 https://$2.example$request_uri; }`, "GET /a?b=c", "GET /", "GET /x\nHost: IF-HOST.test"),
		inPath("if-redirect", `if ($http_x_forwarded_proto = "http") { return 301 https://$host$request_uri; }
if ($uri ~ ^/old/(.*)) { return 301 /new/$1; }
if ($request_uri ~* "^/up/([a-z]+)\?(.*)$") { return 307 https://up.example/$1?$2; }`,
			"GET /a\nX-Forwarded-Proto: http", "GET /old/x", "GET /old/", "GET /old", "GET /UP/x?y=z", "GET /up/x", "GET /old/x?q=1"),
		inPath("if-flags", `set $deny 0;
if ($http_x_token != "secret") { set $deny 1; }
if ($request_uri ~ ^/open) { set $deny 0; }
if ($deny = 1) { return 401; }`, "GET /", "GET /\nX-Token: secret", "GET /open/x", "GET /a?b\nX-Token: other", "GET /other/"),
		inPath("if-cookie", `if ($cookie_session = "") { return 302 https://login.example/?back=$request_uri; }`, "GET /a", "GET /a\nCookie: session=1", "GET /a\nCookie: a=b; session=x; c=d"),
		inPath("if-headers", `add_header X-Base base;
if ($arg_x = 1) { add_header X-One one; }
if ($arg_y = 1) { set $n 1; }
if ($arg_z = 1) { add_header X-Three three always; add_header X-Four four; }`,
			"GET /", "GET /?x=1", "GET /?y=1", "GET /?x=1&y=1", "GET /?z=1", "GET /?x=1&z=1", "GET /\nDo: status=404", "GET /?z=1\nDo: status=404"),
		inPath("if-options", `if ($request_method = OPTIONS) {
	add_header X-Allow-Origin "$http_origin" always;
	add_header X-Allow-Methods "GET, POST";
	return 204;
}
add_header X-Allow-Origin "$http_origin";`, "OPTIONS /\nOrigin: https://a.example", "GET /\nOrigin: https://b.example", "OPTIONS /", "GET /"),
		inServer("server-if", `set $mobile 0;
if ($http_user_agent ~* "(android|iphone)") { set $mobile 1; }
if ($mobile) { return 302 https://m.example$request_uri; }
if ($request_method !~ ^(GET|HEAD|POST)$) { return 444; }`, "GET /a", "GET /a\nUser-Agent: Android 4", "GET /other/\nUser-Agent: iPhone", "POST /\n\nx"),
		inPath("if-chain", `set $block "";
if ($request_method = POST) { set $block "P"; }
if ($http_x_api) { set $block "${block}A"; }
if ($block = "PA") { return 409; }`, "GET /", "POST /\n\nx", "GET /\nX-Api: 1", "POST /\nX-Api: 1\n\nx", "POST /other/\nX-Api: 1\n\nx"),
		inServer("server-cookie", `if ($cookie_pass != "open") { return 503; }`, "GET /", "GET /\nCookie: pass=open", "GET /other/", "GET /other/\nCookie: a=b; pass=open"),
		inPath("limit-except", `if ($request_method ~ ^(PUT|DELETE)$) { return 403; }`, "GET /", "PUT /", "DELETE /", "PATCH /", "HEAD /"),
	}
}

func variables() []comparison {
	return []comparison{
		inPath("set", `set $a "x-$http_x_a";
set $b "$a-$arg_b";
set $c $b;
proxy_set_header X-Set "$c";
proxy_set_header X-Both "${a}${b}";
add_header X-Out "$b";`, "GET /", "GET /?b=1", "GET /?b=1\nX-A: q", "GET /?b=%0d%0aX", "HEAD /?b=2"),
		inPath("set-late", `proxy_set_header X-Late $late; set $late "l-$request_method";`, "GET /", "POST /\n\nx"),
		inPath("set-groups", `if ($uri ~ ^/u/([^/]+)/(.*)$) { set $user $1; set $rest $2; }
proxy_set_header X-User $user;
proxy_set_header X-Rest $rest;
add_header X-User "$user";`, "GET /u/ann/x/y", "GET /u/ann/", "GET /u/", "GET /", "GET /u/a%20b/c"),
		inPath("set-args", `set $args "$args&added=1";`, "GET /?a=b", "GET /a/b?c"),
		inPath("set-case", `set $Foo bar; proxy_set_header X-Foo $foo; proxy_set_header X-Foo2 "$FOO";`, "GET /"),
	}
}

func rewrites() []comparison {
	return []comparison{
		inPath("rw-break", `rewrite ^/api/(.*)$ /v1/$1 break;
rewrite ^/q/(.*)$ /s?name=$1 break;
rewrite ^/alone/(.*)$ /t?a=b? break;
rewrite ^/none /u? break;`,
			"GET /api/x", "GET /api/x/y?z=1", "GET /api/", "GET /apix", "GET /q/abc", "GET /q/abc?d=e", "GET /q/a%26b", "GET /alone/x?y=z", "GET /none?y=z", "GET /api/a%20b", "GET /api/%C3%A4", "POST /api/x\n\nbody"),
		inPath("rw-last", `rewrite ^/to/(.*)$ /other/$1 last;
rewrite ^/loop /loop2 last;
rewrite ^/deep/(.*) /to/$1 last;`,
			"GET /to/x", "GET /to/x?y=z", "GET /to/", "GET /x", "GET /deep/a/b"),
		inPath("rw-two", `rewrite ^/([a-z]+)/([0-9]+)$ /item/$2?kind=$1 break;`, "GET /shoe/42", "GET /shoe/42?x=1", "GET /shoe/x", "GET /SHOE/42", "POST /shoe/42\n\nbody"),
		inPath("rw-flow", `rewrite ^/a/(.*)$ /b/$1;
rewrite ^/b/(.*)$ /c/$1 break;
rewrite ^/c/(.*)$ /d/$1 break;`, "GET /a/x", "GET /b/x", "GET /c/x", "GET /d/x"),
		inPath("rw-on", `rewrite ^/on/(.*)$ /other/$1;`, "GET /on/x", "GET /on/", "GET /off"),
		inPath("rw-cycle", `rewrite ^(.*)$ $1x last;`, "GET /"),
		inPath("rw-if", `if ($arg_v = 2) { rewrite ^/api/(.*)$ /v2/$1 break; }
if ($http_x_v) { rewrite ^ /v-$http_x_v$uri break; }`, "GET /api/x?v=2", "GET /api/x", "GET /api/x\nX-V: 7", "GET /api/x?v=2\nX-V: 7"),
		inPath("rw-redirect", `rewrite ^/r/(.*)$ /s/$1 redirect;
rewrite ^/p/(.*)$ /s/$1 permanent;
rewrite ^/abs/(.*)$ https://new.example/$1;
rewrite ^/abq/(.*)$ https://new.example/$1? permanent;`, "GET /r/x", "GET /r/x?y=z", "GET /p/x", "GET /abs/x?y=z", "GET /abq/x?y=z", "GET /r/"),
		inPath("rw-stop", `if ($arg_stop) { break; }
rewrite ^/x/(.*)$ /y/$1 break;`, "GET /x/a", "GET /x/a?stop=1"),
		inPath("rw-static", `rewrite ^/$ /index.html break; rewrite (?i)\.PHP$ /php break; rewrite ^/(\d+)$ /n/$1 break;`, "GET /", "GET /a.php", "GET /a.PHP", "GET /42", "GET /42a"),
		inServer("rw-server", `rewrite ^/to/(.*)$ /other/$1 last;
rewrite ^/go/(.*)$ /other/$1;
rewrite ^/stay/(.*)$ /other/$1 break;
rewrite ^/away/(.*)$ https://away.example/$1 permanent;`, "GET /to/x", "GET /go/x?y", "GET /stay/x", "GET /away/x", "GET /"),
	}
}

func ownLocations() []comparison {
	return []comparison{
		inServer("loc-deny", `location = /metrics { deny all; }
location ^~ /private/ { deny all; return 403; }
location ~* \.(bak|sql)$ { return 404; }
location /admin { return 403; }`,
			"GET /metrics", "GET /metrics/x", "GET /private/", "GET /private/a.bak", "GET /a.BAK", "GET /dump.sql?x", "GET /admin", "GET /administrator", "GET /", "GET /other/a.sql", "GET /METRICS"),
		inServer("loc-nested", `location /n { 
	return 404;
}
location /m/ {
	location /m/open { return 200 "open"; }
	location ~ \.js$ { return 410; }
	location = /m/one { return 302 /other; }
	return 403;
}
location /k/ {
	location /k/a/ { location /k/a/b { return 201 "b"; } return 202 "a"; }
}`, "GET /n", "GET /m/x", "GET /m/open/y", "GET /m/x.js", "GET /m/one", "GET /m/open.js", "GET /k/a/b", "GET /k/a/c", "GET /k/x"),
		inServer("loc-if", `location /c/ {
	if ($arg_a = 1) { return 302 https://a.example$request_uri; }
	if ($request_method = POST) { return 405; }
	return 403;
}
location /s/ { set $to "https://s.example"; return 307 $to/$arg_x; }`, "GET /c/?a=1", "POST /c/\n\nx", "GET /c/", "GET /s/?x=y"),
		inServer("loc-rewrite", `location /app { rewrite ^/app/(.*)$ /other/$1 last; return 404; }
location = /home { rewrite ^ /other/home; }
location /h/ { rewrite ^/h/(.*)$ /$1 permanent; }`, "GET /app/x", "GET /app", "GET /home", "GET /home?a=b", "GET /h/x"),
		inServer("loc-text", `location = /robots.txt { add_header X-A b; return 200 "User-agent: *\nDisallow: /\n"; }
location = /health { default_type text/plain; return 200 'ok'; }
location = /json { default_type application/json; return 200 '{"host":"$host","method":"$request_method"}'; }
location = /gone { return 410 "gone"; }
location = /empty { return 204; }`, "GET /robots.txt", "HEAD /robots.txt", "GET /health", "GET /json", "POST /json\n\nx", "GET /gone", "GET /empty"),
		inPath("loc-inner", `location ~ ^/docs/(.*)$ { return 301 https://docs.example/$1; }
location = /secret { deny all; }`, "GET /docs/a/b", "GET /docs", "GET /secret", "GET /secrets", "GET /"),
		inServer("loc-allow", `location /int/ { allow 192.0.2.0/24; deny all; }
location /loc/ { deny 192.0.2.1; deny all; }
location = /x { satisfy any; deny all; }`, "GET /int/", "GET /loc/x", "GET /x"),
	}
}

func texts() []comparison {
	return []comparison{
		inPath("text", `if ($arg_t) { return 200 "t=$arg_t m=$request_method u=$uri"; }
if ($arg_m) { return 503 "down for maintenance"; }`, "GET /a/b?t=1", "POST /?t=2\n\nx", "GET /?m=1", "HEAD /?t=1", "GET /"),
	}
}

func snippetHeaders() []comparison {
	return []comparison{
		inPath("hd-success", `add_header X-Some some; add_header X-Always always always;`, "GET /", "GET /\nDo: status=404", "GET /\nDo: status=500", "GET /\nDo: status=201", "GET /\nDo: status=304", "GET /\nDo: status=302"),
		inPath("hd-hide", `proxy_hide_header X-Powered-By; proxy_set_header X-Gone ""; proxy_set_header X-Here "$http_user_agent";`, "GET /\nX-Gone: 1", "GET /\nUser-Agent: a b c", "GET /\nX-Here: client"),
		inPath("hd-return", `add_header X-A a; add_header X-B b always; if ($arg_r) { return 403; } if ($arg_s) { return 302 /x; }`, "GET /", "GET /?r=1", "GET /?s=1"),
		inPath("hd-expires", `expires epoch;`, "GET /"),
		inPath("hd-expires-max", `expires max;`, "GET /"),
	}
}
func substitutions() []comparison {
	html := `Do: header=Content-Type%3a+text/html&header=Etag%3a+"a"&header=Last-Modified%3a+Mon,+01+Jan+2024+00:00:00+GMT`
	return []comparison{
		inPath("sub-once", `sub_filter "was" 'is';
sub_filter asked "ASKED($host)";`, "GET /was/was\n"+html, "GET /asked/WAS\n"+html, "GET /\n"+html, "HEAD /\n"+html, "GET /plain"),
		inPath("sub-all", `sub_filter WEB site; sub_filter a "<a href='$scheme://$host'>"; sub_filter aske E; sub_filter_once off; sub_filter_types text/plain;`,
			"GET /web/a/aske/Web", "GET /aaa\n"+html, "GET /\nDo: header=Content-Type%3a+application/json", "GET /x\nDo: status=404", "GET /x\nDo: header=Content-Type%3a+text/plain&status=204"),
		inPath("sub-head", `sub_filter </head> '<script src="/x.js"></script></head>'; sub_filter_once on; sub_filter_types *; sub_filter_last_modified on; proxy_set_header Accept-Encoding "";`,
			"GET /</head></HEAD>\nAccept-Encoding: gzip", "GET /%3C/head%3E%3C/HEAD%3E\n"+html, "GET /%3C/hea"),
	}
}
