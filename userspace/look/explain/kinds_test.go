package explain

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

var update = flag.Bool("update", false, "rewrite testdata")

// kind is a kind of rule, and requests to a route that has it.
type kind struct {
	name     string
	rules    status.Rules
	upstream string
	requests []request
}

type request struct {
	url  string
	from string
	with Request
}

func get(urls ...string) (out []request) {
	for _, u := range urls {
		out = append(out, request{url: u})
	}
	return out
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

const by = "nginx.ingress.kubernetes.io/"

func ofPolicy(p model.Policy) status.Rules { return status.Rules{Policy: &p} }

var kinds = []kind{
	{name: "permanent-redirect", rules: ofPolicy(model.Policy{Redirects: []model.Redirect{{Status: 301, Target: "https://new.example$request_uri", By: by + "permanent-redirect"}}}), requests: get("http://host.example.com/info/a?b=c")},
	{name: "temporal-redirect to a path", rules: ofPolicy(model.Policy{Redirects: []model.Redirect{{Status: 302, Target: "/elsewhere", By: by + "temporal-redirect"}}}), requests: get("http://host.example.com/info/a")},
	{name: "app-root", rules: ofPolicy(model.Policy{Redirects: []model.Redirect{{Path: "/info/", Status: 302, Target: "$scheme://$http_host/app", By: by + "app-root"}}}), requests: get("http://host.example.com/info/", "http://host.example.com/info/b")},
	{name: "rewrite of a snippet", rules: ofPolicy(model.Policy{Redirects: []model.Redirect{{Pattern: "^/info/(.*)$", Status: 301, Target: "$scheme://$host/new/$1", Query: true, By: by + "configuration-snippet"}}}), requests: get("http://host.example.com/info/x?y")},
	{name: "return", rules: ofPolicy(model.Policy{Redirects: []model.Redirect{{Status: 418, By: by + "configuration-snippet"}}}), requests: get("http://host.example.com/info/x")},
	{name: "cors", rules: ofPolicy(model.Policy{CORS: &model.CORS{Origins: []string{"https://a.example"}, Methods: []string{"GET"}}, Origins: model.Origins{model.RuleCORS: {by + "enable-cors"}}}), requests: []request{
		{url: "http://host.example.com/info/x", with: Request{Method: "OPTIONS", Fields: []string{"Origin: https://a.example"}}}, {url: "http://host.example.com/info/x"}}},
	{name: "limits", rules: ofPolicy(model.Policy{Limits: &model.Limits{Rates: []model.Rate{{Requests: 5, Period: time.Minute, Burst: 25}}, Connections: 3, Status: 503, Scope: "x", Exempt: prefixes("10.0.0.0/8")},
		Origins: model.Origins{model.RuleRate: {by + "limit-rpm"}, model.RuleConnections: {by + "limit-connections"}}}), requests: []request{{url: "http://host.example.com/info/x"}, {url: "http://host.example.com/info/x", from: "10.1.1.1"}}},
	{name: "allow and deny", rules: ofPolicy(model.Policy{Access: &model.Access{Allow: prefixes("10.0.0.0/8", "2001:db8::/32"), Deny: prefixes("10.9.9.9/32")}, Origins: model.Origins{model.RuleAllow: {by + "allowlist-source-range"}, model.RuleDeny: {by + "denylist-source-range"}}}), requests: []request{
		{url: "http://host.example.com/info/x"}, {url: "http://host.example.com/info/x", from: "10.0.0.1"}, {url: "http://host.example.com/info/x", from: "10.9.9.9"}, {url: "http://host.example.com/info/x", from: "2001:db8::1"}, {url: "http://host.example.com/info/x", from: "192.0.2.7"}}},
	{name: "deny all", rules: ofPolicy(model.Policy{Access: &model.Access{Deny: prefixes("0.0.0.0/0", "::/0")}}), requests: get("http://host.example.com/info/x")},
	{name: "basic", rules: ofPolicy(model.Policy{Access: &model.Access{Basic: &model.BasicAuth{Realm: "staff"}}, Origins: model.Origins{model.RuleBasic: {by + "auth-type", by + "auth-secret"}}}), requests: []request{
		{url: "http://host.example.com/info/x"}, {url: "http://host.example.com/info/x", with: Request{Fields: []string{"Authorization: Basic YW5uOnNlY3JldA=="}}}}},
	{name: "satisfy any", rules: ofPolicy(model.Policy{Access: &model.Access{Allow: prefixes("10.0.0.0/8"), Basic: &model.BasicAuth{Realm: "staff"}, Any: true}}), requests: []request{
		{url: "http://host.example.com/info/x"}, {url: "http://host.example.com/info/x", from: "10.1.1.1"}}},
	{name: "auth-url", rules: ofPolicy(model.Policy{Access: &model.Access{External: &model.ExternalAuth{To: model.Destination{Authority: "auth.example", TLS: true, Path: "/verify"}, SignIn: "https://$host/start"}}, Origins: model.Origins{model.RuleExternal: {by + "auth-url"}}}), requests: []request{
		{url: "http://host.example.com/info/x?y=z"}, {url: "http://host.example.com/info/x", with: Request{AuthStatus: 202}}, {url: "http://host.example.com/info/x", with: Request{AuthStatus: 401}}, {url: "http://host.example.com/info/x", with: Request{AuthStatus: 403}}, {url: "http://host.example.com/info/x", with: Request{AuthStatus: 302}}}},
	{name: "closed", rules: ofPolicy(model.Policy{Access: &model.Access{Closed: `auth-type: "digest" is not supported`}, Origins: model.Origins{model.RuleClosed: {by + "auth-type"}}}), requests: get("http://host.example.com/info/x")},
	{name: "body", rules: status.Rules{MaxBody: 1 << 20, Policy: &model.Policy{MaxBody: new(uint64(8 << 20)), Buffering: model.BufferOff, Origins: model.Origins{model.RuleMaxBody: {by + "proxy-body-size"}}}}, requests: []request{
		{url: "http://host.example.com/info/x"}, {url: "http://host.example.com/info/x", with: Request{Method: "PUT", Body: 9 << 20}}, {url: "http://host.example.com/info/x", with: Request{Method: "PUT", Body: 8 << 20}}}},
	{name: "the agent's body limit", rules: status.Rules{MaxBody: 1 << 20}, requests: []request{{url: "http://host.example.com/info/x", with: Request{Body: 2 << 20}}}},
	{name: "no body limit", rules: status.Rules{MaxBody: 1 << 20, Policy: &model.Policy{MaxBody: new(uint64(0))}}, requests: get("http://host.example.com/info/x")},
	{name: "rewrite and host", rules: ofPolicy(model.Policy{Rewrite: &model.Rewrite{Target: "/new?x=1"}, Host: "inner.example", Origins: model.Origins{model.RuleRewrite: {by + "rewrite-target"}, model.RuleHost: {by + "upstream-vhost"}}}), requests: get("http://host.example.com/info/x?y=z")},
	{name: "headers", rules: ofPolicy(model.Policy{RequestHeaders: []model.HeaderRule{{Name: "X-A", Value: "$host", By: by + "configuration-snippet"}, {Name: "X-B"}}, ResponseHeaders: []model.HeaderRule{{Op: model.AddHeader, Name: "X-C", Value: "d", By: by + "custom-headers"}}}), requests: get("http://host.example.com/info/x")},
	{name: "canaries", rules: status.Rules{Splits: []model.Split{
		{Service: model.ServiceKey{Namespace: "shop", Name: "heavy", Port: "80"}, Source: model.ObjectRef{Kind: "Ingress", Namespace: "shop", Name: "beta"}, Header: "X-Canary", Cookie: "beta", Weight: 10, Total: 100},
		{Service: model.ServiceKey{Namespace: "shop", Name: "empty", Port: "80"}, Source: model.ObjectRef{Kind: "Ingress", Namespace: "shop", Name: "gamma"}, Weight: 1, Total: 2}}}, requests: []request{
		{url: "http://host.example.com/info/x"}, {url: "http://host.example.com/info/x", with: Request{Fields: []string{"X-Canary: always"}}}, {url: "http://host.example.com/info/x", with: Request{Fields: []string{"Cookie: beta=never"}}}}},
	{name: "mirror", rules: ofPolicy(model.Policy{Mirrors: []model.Mirror{{To: model.Destination{Authority: "copy.example", Path: "/x"}, Body: true}}, Origins: model.Origins{model.RuleMirror: {by + "mirror-target"}}}), requests: get("http://host.example.com/info/x")},
	{name: "error pages and fallback", rules: ofPolicy(model.Policy{ErrorPages: &model.ErrorPages{Status: []int{403, 404, 503}, Service: model.ServiceKey{Namespace: "shop", Name: "heavy", Port: "80"}}, Access: &model.Access{Deny: prefixes("10.0.0.0/8")}, Fallback: model.ServiceKey{Namespace: "shop", Name: "heavy", Port: "80"}}), requests: []request{
		{url: "http://host.example.com/info/x", from: "10.1.1.1"}, {url: "http://host.example.com/info/v2/x", from: "192.0.2.7"}}},
	{name: "locations", rules: status.Rules{Locations: &model.Locations{
		Server: []model.Location{{Match: model.LocationPatternFold, Path: "^/info/metrics", Policy: &model.Policy{Redirects: []model.Redirect{{Status: 301, Target: "/login", By: by + "server-snippet"}}}}},
		Nested: []model.Location{{Path: "/info/in", Policy: &model.Policy{Access: &model.Access{Allow: prefixes("10.0.0.0/8")}}}}}}, requests: []request{
		{url: "http://host.example.com/info/METRICS/x"}, {url: "http://host.example.com/info/in/x", from: "10.1.1.1"}, {url: "http://host.example.com/info/in/x", from: "192.0.2.7"}, {url: "http://host.example.com/info/x"}}},
	{name: "gRPC", upstream: "grpc", rules: ofPolicy(model.Policy{Access: &model.Access{Deny: prefixes("0.0.0.0/0", "::/0")}}), requests: get("http://host.example.com/info/x")},
	{name: "all else", rules: ofPolicy(model.Policy{
		CookieDomains: []model.Replacement{{From: "a", To: "b"}}, CookiePaths: []model.Replacement{{From: "/a", To: "/b", Pattern: true}}, Locations: []model.Replacement{{From: "http://x/", To: "/"}},
		Timeouts: model.Timeouts{Connect: 5 * time.Second, Read: time.Minute}, MaxResponseHead: 128 << 10, Unlogged: true, Buffering: model.BufferOn,
		Balance: &model.Balance{Algorithm: model.EWMA, HashBy: "$request_uri", Subset: 3, Affinity: &model.Affinity{Cookie: "route"}},
		Retry:   &model.Retry{On: model.RetryError | model.Retry502, Tries: 3, Within: time.Second}, Compression: &model.Compression{Encodings: []string{"br", "gzip"}}, Pace: &model.Pace{BytesPerSecond: 1 << 20, After: 10 << 20},
		Trace: &model.Trace{Enabled: new(true), Operation: "op", Trust: new(false)},
	}), requests: get("http://host.example.com/info/x")},
}

// TestKinds compares what is said of each kind of rule with testdata/kinds: the rules as
// sentences, and for each request the steps that have to do with them, and the answer.
func TestKinds(t *testing.T) {
	var b strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&b, "== %s\n", k.name)
		for i, r := range k.requests {
			in := node()
			in.Rules, in.Target, in.Target.Request = &k.rules, target(t, r.url), r.with
			for j := range in.Routes.Hosts[2].Routes {
				in.Routes.Hosts[2].Routes[j].Upstream = k.upstream
			}
			if r.from != "" {
				in.Target.From = netip.MustParseAddr(r.from)
			}
			if err := in.Target.Check(); err != nil {
				t.Fatal(err)
			}
			x := Explain(in)
			if i == 0 {
				for _, rule := range x.Rules {
					fmt.Fprintf(&b, ". %s %s %q\n", rule.Kind, rule.Text, rule.By)
				}
			}
			fmt.Fprintf(&b, "%s from %s %v\n", r.url, orAnywhere(r.from), r.with)
			for _, s := range x.Steps {
				switch s.Name {
				case "listener", "worker", "host", "path", "rules", "service", "filter":
					continue
				}
				fmt.Fprintf(&b, "\t%s %s: %s\n", s.Result, s.Name, s.Summary)
				for _, c := range s.Considered {
					fmt.Fprintf(&b, "\t\t%t %s: %s\n", c.Chosen, c.Rule, c.Why)
				}
			}
			fmt.Fprintf(&b, "\t=> %s: %s\n", x.Answer.Reason, x.Answer.Summary)
			for _, o := range x.Answer.Otherwise {
				fmt.Fprintf(&b, "\t   if %s: %s (%s)\n", o.When, o.Summary, o.Reason)
			}
			if x.Answer.Next != "" {
				fmt.Fprintf(&b, "\t   %s\n", x.Answer.Next)
			}
		}
	}
	const file = "testdata/kinds"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != b.String() {
		t.Errorf("%s differs (%v; -update rewrites it); got:\n%s", file, err, b.String())
	}
}

func orAnywhere(from string) string {
	if from == "" {
		return "anywhere"
	}
	return from
}
