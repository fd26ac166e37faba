package policies

import (
	"strings"
	"testing"
)

// gatewayRoute is a manifest of an HTTPRoute with one rule.
func gatewayRoute(name, rule string) string {
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: " + name + ", namespace: default}\n" +
		"spec:\n  parentRefs: [{name: gw}]\n  rules:\n  - " + strings.ReplaceAll(rule, "\n", "\n    ") + "\n"
}

const (
	gatewayClass = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: kerngate}\nspec: {controllerName: kerngate.dev/gateway-controller}\n"
	gatewayPlain = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw, namespace: default}\n" +
		"spec: {gatewayClassName: kerngate, listeners: [{name: http, port: 80, protocol: HTTP}]}\n"
)

// TestGatewayFilters: what the filters of HTTPRoutes come to at a pod and at a client.
func TestGatewayFilters(t *testing.T) {
	rewrite := func(path, to string) string {
		return gatewayRoute("rewrite-"+strings.Trim(path, "/")+"-to-"+strings.Trim(to, "/")+"x", "matches: [{path: {value: "+path+"}}]\n"+
			"filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: \""+to+"\"}}}]\nbackendRefs: [{name: app, port: 80}]")
	}
	s := serve(t, service("app"), service("other"), gatewayClass, gatewayPlain,
		rewrite("/foo", "/xyz"), rewrite("/bar/", "/xyz/"), rewrite("/strip", "/"), rewrite("/empty", ""),
		gatewayRoute("full", "matches: [{path: {value: /full}}]\nfilters: [{type: URLRewrite, urlRewrite: {hostname: pod.example.com, path: {type: ReplaceFullPath, replaceFullPath: /new}}}]\nbackendRefs: [{name: app, port: 80}]"),
		gatewayRoute("host", "matches: [{path: {value: /host}}]\nfilters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: set.example.com}]}}]\nbackendRefs: [{name: app, port: 80}]"),
		gatewayRoute("response", "matches: [{path: {value: /response}}]\nfilters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-A, value: one}], remove: [Set-Cookie, Location]}}]\nbackendRefs: [{name: app, port: 80}]"),
		gatewayRoute("redirect", "matches: [{path: {value: /old}}]\nfilters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: new.example.com, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]"),
		gatewayRoute("same", "matches: [{path: {value: /same}}]\nfilters: [{type: RequestRedirect, requestRedirect: {port: 8080}}]"),
		gatewayRoute("none", "matches: [{path: {value: /none}}]\nbackendRefs: [{name: none, port: 80}]"),
		gatewayRoute("refused", "matches: [{path: {value: /refused}}]\nfilters: [{type: CORS, cors: {allowOrigins: [\"*\"]}}]\nbackendRefs: [{name: app, port: 80}]"),
		gatewayRoute("own", "matches: [{path: {value: /own}}]\nbackendRefs: [{name: app, port: 80, weight: 0}, {name: other, port: 80, filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-A, value: other}]}}]}]"),
		gatewayRoute("post", "matches: [{path: {value: /foo}, method: POST}]\nbackendRefs: [{name: other, port: 80}]"),
	)
	for _, c := range []struct{ target, part string }{
		{"/foo/bar?q=1", "GET /xyz/bar?q=1 "}, {"/foo", "GET /xyz "}, {"/foo/", "GET /xyz/ "}, {"/foo/a%20b", "GET /xyz/a%20b "}, {"/foobar", "404"},
		{"/bar/bar", "GET /xyz/bar "}, {"/bar", "GET /xyz "}, {"/bar/", "GET /xyz/ "},
		{"/strip/bar", "GET /bar "}, {"/strip", "GET / "}, {"/strip/", "GET / "}, {"/empty/bar", "GET /bar "}, {"/empty", "GET / "},
		{"/full/x?q", "GET /new?q host=pod.example.com"}, {"/host", "host=set.example.com"}, {"/response", "200 Pod=app X-A=one |"},
		{"/old/x?q=1", "301 Location=https://new.example.com/new/x?q=1 "}, {"/old", "301 Location=https://new.example.com/new "},
		{"/same/x?q=1", "302 Location=http://a.example.com:8080/same/x?q=1 "},
		{"/none", "500"}, {"/refused", "500"}, {"/own", "Pod=other"}, {"/own", "X-A=other"}, {"POST /foo", "Pod=other"},
	} {
		s.want("a.example.com:1234", c.target, c.part)
	}
}

// TestGatewayWeights: each backend gets its share, and one that cannot be had answers its own with
// 500.
func TestGatewayWeights(t *testing.T) {
	s := serve(t, service("app"), service("other"), gatewayClass, gatewayPlain,
		gatewayRoute("weights", "backendRefs: [{name: app, port: 80, weight: 2}, {name: none, port: 80, weight: 1}, {name: other, port: 80, weight: 1}]"))
	got := map[string]int{}
	for range 400 {
		answer := s.get("a.example.com", "/")
		for _, part := range []string{"Pod=app", "500", "Pod=other"} {
			if strings.Contains(answer, part) {
				got[part]++
				break
			}
		}
	}
	// Six standard deviations of 400 requests are 60 and 52.
	if got["Pod=app"] < 140 || got["Pod=app"] > 260 || got["500"] < 48 || got["500"] > 152 || got["Pod=other"] < 48 || got["Pod=other"] > 152 {
		t.Errorf("of 400 requests: %v, want 200, 100 and 100", got)
	}
}
