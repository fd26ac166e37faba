package ingressnginx

import (
	"strings"
	"testing"
)

// TestSnippetRequestHeaders: a header that a directive sets is never the client's own: it
// is set, or it is removed.
func TestSnippetRequestHeaders(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`proxy_set_header X-Scope-OrgID $remote_user;`, `request: set X-Scope-OrgID "$remote_user"`},
		{`proxy_set_header X-A $upstream_addr;`, "request: set X-A \"\"\ninvalid configuration-snippet"},
		{`proxy_set_header X-A "a\r\nX-B: b";`, "request: set X-A \"\"\ninvalid configuration-snippet"},
		{`proxy_set_header X-A;`, "request: set X-A \"\"\ninvalid configuration-snippet"},
		{`grpc_set_header X-A b;`, `request: set X-A "b"`},
		{`if ($host = a) { proxy_set_header X-A b; }`, "request: set X-A \"\"\nunsupported configuration-snippet"},
		{`more_set_input_headers "X-A: $host" "X-B: $nothing";`, "request: set X-A \"$host\"\nrequest: set X-B \"\"\ninvalid configuration-snippet"},
		{`more_set_input_headers -r "X-A: b";`, "request: replace X-A \"b\""},
		{`more_clear_input_headers X-A;`, `request: set X-A ""`},
		{`more_set_headers "Request-Id: $req_id"; proxy_set_header l5d-dst-override $service_name.$namespace.svc.cluster.local:$service_port;`,
			"request: set l5d-dst-override \"$service_name.$namespace.svc.cluster.local:$service_port\"\nresponse: set Request-Id \"$req_id\""},
		{`auth_request_set $user $upstream_http_x_auth_request_user; proxy_set_header X-User $user; add_header X-Mail "${upstream}";`,
			"request: set X-User \"${auth_answer_http_x_auth_request_user}\"\ninvalid configuration-snippet"},
		{`auth_request_set $user $upstream_addr; proxy_set_header X-User $user;`, "request: set X-User \"\"\ninvalid configuration-snippet\ninvalid configuration-snippet"},
		{`auth_request_set $s $upstream_status; auth_request_set $c $upstream_cookie_part_1; proxy_set_header X-A "$s $c";`, `request: set X-A "${auth_answer_status} ${auth_answer_cookie_part_1}"`},
	} {
		if got := read("configuration-snippet: " + c.text).dump(); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.text, got, c.want)
		}
	}
	if got := read("x-forwarded-prefix: $nothing").dump(); got != "request: set X-Forwarded-Prefix \"\"\ninvalid x-forwarded-prefix" {
		t.Error(got)
	}
}

// TestSnippetSources: allow and deny are read in order, the first that holds a source
// decides.
func TestSnippetSources(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{"configuration-snippet: deny 192.0.2.7; allow all;"}, "access: deny [192.0.2.7/32]"},
		{[]string{"configuration-snippet: allow 10.0.0.0/8; allow 192.0.2.1; deny all;"}, "access: allow [10.0.0.0/8 192.0.2.1/32]"},
		{[]string{"configuration-snippet: allow 128.0.0.0/2; deny 0.0.0.0/0;"}, "access: deny [0.0.0.0/1 192.0.0.0/2]"},
		{[]string{"configuration-snippet: deny 10.1.0.0/16; allow 10.0.0.0/8; deny 0.0.0.0/1;"}, "access: deny [0.0.0.0/5 8.0.0.0/7 10.1.0.0/16 11.0.0.0/8 12.0.0.0/6 16.0.0.0/4 32.0.0.0/3 64.0.0.0/2]"},
		{[]string{"configuration-snippet: allow all; deny all;"}, ""},
		{[]string{"configuration-snippet: deny office;"}, "access: closed, as configuration-snippet: line 1: the directive \"deny office\": \"office\" is neither an address nor a prefix such as 192.0.2.0/24\nclosed configuration-snippet"},
		{[]string{"server-snippet: deny 192.0.2.7;"}, "access: deny [192.0.2.7/32]"},
		{[]string{"server-snippet: deny 192.0.2.7;", "configuration-snippet: deny 192.0.2.8;"}, "access: deny [192.0.2.8/32]"},
		{[]string{"denylist-source-range: 192.0.2.1", "configuration-snippet: deny 192.0.2.8;"}, "access: deny [192.0.2.1/32 192.0.2.8/32]"},
		{[]string{"allowlist-source-range: 192.0.2.1", "configuration-snippet: allow all;"}, "access: allow [192.0.2.1/32]"},
		{[]string{"auth-snippet: deny all;", "auth-url: http://a.example/"}, "closed auth-snippet"},
	} {
		got := strings.ReplaceAll(read(c.lines...).dump(), "access: deny []", "")
		if got != c.want && !(strings.HasPrefix(c.want, "closed") && strings.HasSuffix(got, c.want) && strings.HasPrefix(got, "access: closed")) {
			t.Errorf("%q:\n%s\nwant\n%s", c.lines, got, c.want)
		}
	}
}

// TestSnippetLocations: a location is a route of its own; what cannot be read of it closes
// it alone.
func TestSnippetLocations(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`location ~* "^/realms/master/metrics" { return 301 /realms/master; }`, "location ~* ^/realms/master/metrics: redirect: 301 $scheme://$host/realms/master"},
		{"server_tokens off;\nlocation ~* ^/internal/ { deny all; return 403; }", "location ~* ^/internal/: redirect: 403"},
		{`location /x { deny all; }`, "location /x: access: deny [0.0.0.0/0 ::/0]"},
		{`location = /x { allow 10.0.0.0/8; deny all; }`, "location = /x: access: allow [10.0.0.0/8]"},
		{`location ^~ /x { }`, "location ^~ /x: redirect: 404"},
		{`location =/x { internal; }`, "location = /x: redirect: 404"},
		{`location ~^/u/(\d+)$ { return 302 https://u.example/$1; }`, "location ~ ^/u/(\\d+)$: redirect of ~^/u/(\\d+)$: 302 https://u.example/$1"},
		{`location ~* ^/u/(.) { return 302 /v/$1; }`, "location ~* ^/u/(.): redirect of ~(?i:^/u/(.)): 302 $scheme://$host/v/$1"},
		{`location /x { return 200 "hello"; }`, "location /x: redirect: 200 text \"hello\" of type \"text/html\""},
		{`location /x { proxy_pass http://other; }`, "location /x: access: closed, as server-snippet: line 1: the directive \"proxy_pass http://other\": it says what answers the location, and is not executed\ninvalid server-snippet"},
		{`location /x { auth_basic "x"; }`, "location /x: access: closed, as server-snippet: line 1: the directive \"auth_basic x\": it decides who gets in, and is not executed\ninvalid server-snippet"},
		{`location /x { if ($a) { return 403; } }`, "closed /x"},
		{`location /x { return 301 https://$unknown; }`, "closed /x"},
		{`location /x { location /x/y { deny all; } }`, "location /x: location /x/y: access: deny [0.0.0.0/0 ::/0]\nlocation /x: redirect: 404"},
		{`location ~ ^/(?!api) { return 403; }`, "access: closed"},
		{`location ~ ^/(?!api) { expires 1d; }`, "invalid server-snippet"},
		{`location ~ ^/(?!api) { if ($a) { deny all; } }`, "access: closed"},
		{`location x { deny all; }`, "access: closed"},
		{`location @named { deny all; }`, "unsupported server-snippet"},
		{`location ! /x { deny all; }`, "access: closed"},
	} {
		got := read("server-snippet: " + c.text).dump()
		switch c.want {
		case "closed /x":
			if !strings.HasPrefix(got, "location /x: access: closed") {
				t.Errorf("%s: %s", c.text, got)
			}
		case "access: closed":
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("%s: %s", c.text, got)
			}
		default:
			if got != c.want {
				t.Errorf("%s:\n%s\nwant\n%s", c.text, got, c.want)
			}
		}
	}
	if got := read("configuration-snippet: location ~ \\.php$ { deny all; }").dump(); got != "nested location ~ \\.php$: access: deny [0.0.0.0/0 ::/0]" {
		t.Error(got)
	}
}

// TestSnippetLines: what is said of a directive names its line.
func TestSnippetLines(t *testing.T) {
	r := read("configuration-snippet: # a comment\n\nadd_header A b;\nproxy_buffering\n  on;")
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Message, `line 4: the directive "proxy_buffering on"`) {
		t.Error(r.Findings)
	}
}

// TestSnippetLua: the Lua of oauth2-proxy's guide is of no need; other Lua closes the
// Ingress and says that Lua is not executed.
func TestSnippetLua(t *testing.T) {
	const guide = `auth_request_set $name_upstream_1 $upstream_cookie_name_1;

access_by_lua_block {
  if ngx.var.name_upstream_1 ~= "" then
    ngx.header["Set-Cookie"] = "name_1=" .. ngx.var.name_upstream_1 .. ngx.var.auth_cookie:match("(; .*)")
  end
}`
	r := read("auth-url: http://gate.example/auth", "configuration-snippet: "+guide)
	if r.Policy.Access.Closed != "" || !strings.Contains(r.Findings[len(r.Findings)-1].Message+r.Findings[0].Message, "there is no need for it") {
		t.Errorf("%q, %v", r.Policy.Access.Closed, r.Findings)
	}
	for _, text := range []string{
		`access_by_lua_block { if ngx.var.a ~= "" then ngx.exit(403) end }`,
		`access_by_lua_block { local t = {a = "}"} -- }` + "\n" + `ngx.exit(403) }`,
		strings.Replace(guide, "end\n}", "end ngx.exit(403)\n}", 1),
	} {
		r := read("configuration-snippet: " + text)
		if r.Policy == nil || r.Policy.Access == nil || !strings.Contains(r.Policy.Access.Closed, "Lua is not executed") {
			t.Errorf("%s: %v", text, r.Findings)
		}
	}
}

// TestAuthSnippet: the external auth service gets the headers that auth-snippet sets.
func TestAuthSnippet(t *testing.T) {
	r := read("auth-url: http://gate.example/verify", "auth-snippet: proxy_set_header X-Forwarded-Method $request_method; proxy_set_header X-Bad $nothing;")
	if got := r.Policy.Access.External.Headers; len(got) != 2 || got[0].String() != `set X-Forwarded-Method "$request_method"` || got[1].String() != `set X-Bad ""` {
		t.Error(got)
	}
	r = read("auth-snippet: proxy_set_header X-A b;")
	if len(r.Findings) != 1 || r.Findings[0].Verdict != Unsupported {
		t.Error(r.Findings)
	}
}

// TestSignIn: the URL of ingress-nginx's own documentation is read, and the error of
// another one says what is wrong.
func TestSignIn(t *testing.T) {
	r := read("auth-url: http://gate.example/auth", "auth-signin: https://$host/oauth2/start?rd=$escaped_request_uri")
	if e := r.Policy.Access.External; e.SignIn == "" || r.Findings[0].Verdict != Supported {
		t.Error(e, r.Findings)
	}
	for value, want := range map[string]string{"https://a.example/$nothing": "$nothing is not a value", "ftp://a": "it must be a URL"} {
		r := read("auth-url: http://gate.example/auth", "auth-signin: "+value)
		if len(r.Findings) != 2 || !strings.Contains(r.Findings[0].Message, want) {
			t.Errorf("%s: %v", value, r.Findings)
		}
	}
}

// TestAbsoluteName: a name with a dot at its end is the same name.
func TestAbsoluteName(t *testing.T) {
	for from, want := range map[string]string{
		"http://gate.shop.svc.cluster.local.:80/api": "http://gate.shop.svc.cluster.local:80/api (shop/gate:80)",
		"https://gate.example./":                     "https://gate.example/",
	} {
		r := read("auth-url: " + from)
		if r.Policy.Access.Closed != "" || r.Policy.Access.External.To.String() != want {
			t.Errorf("%s: %v", from, r.Policy.Access)
		}
	}
	if r := read("auth-url: http://a../"); r.Policy.Access.Closed == "" {
		t.Error("a.. is taken for a host")
	}
}

// TestAuthCookie: what oauth2-proxy's guide adds to responses is there by itself, once.
func TestAuthCookie(t *testing.T) {
	r := read("auth-url: http://gate.example/auth", "configuration-snippet: auth_request_set $c $upstream_http_set_cookie; add_header Set-Cookie $c always; add_header Set-Cookie $auth_cookie;")
	if len(r.Policy.ResponseHeaders) != 0 || !r.Policy.Access.External.AlwaysSetCookie {
		t.Error(r.Policy.ResponseHeaders)
	}
}
