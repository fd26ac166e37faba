package server_test

import (
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestLocations: what a location takes never reaches the pod, and all else does.
func TestLocations(t *testing.T) {
	web := echo(t, "web")
	server := []*feedpb.Location{
		{Match: feedpb.Location_PATTERN_FOLD, Path: "^/realms/master/metrics", Policy: 1},
		{Match: feedpb.Location_PATTERN, Path: `\.php$`, Policy: 2},
		{Match: feedpb.Location_PREFIX, Path: "/internal/", Policy: 3},
		{Match: feedpb.Location_EXACT, Path: "/status", Policy: 4},
	}
	policies := []*feedpb.Policy{
		{Redirects: []*feedpb.Redirect{{Status: 301, Target: "$scheme://$host/realms/master"}}},
		{Redirects: []*feedpb.Redirect{{Status: 403}}},
		{Access: &feedpb.Access{Deny: []string{"0.0.0.0/0", "::/0"}}},
		{Access: &feedpb.Access{Closed: "not read"}},
		{Redirects: []*feedpb.Redirect{{Status: 404}}},
	}
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "d/web:80", Path: "/", Backends: []string{web}, Change: func(h *feedpb.Host, r *feedpb.Route) {
			h.Policies = append(h.Policies, policies...)
			h.Locations = []*feedpb.Locations{{Server: server}, {Server: server, Nested: []*feedpb.Location{{Match: feedpb.Location_PATTERN, Path: "secret", Policy: 5}}}}
			r.Locations = 1
		}},
		{Name: "d/app:80", Path: "/app", Backends: []string{web}, Change: func(_ *feedpb.Host, r *feedpb.Route) { r.Locations = 2 }},
	}, nil)
	for path, want := range map[string]string{
		"/realms/master/metrics": "301 ", "/REALMS/master/metrics/x": "301 ", "/x/../realms/master/metrics": "301 ", "/realms%2fmaster/metrics": "301 ",
		"/realms/master": "200 ", "/x/realms/master/metrics": "200 ", "/": "200 ",
		"/x.php": "403 ", "/x.php%0a": "400 ", "/x.php%0a%0a": "400 ", "/x.PHP": "200 ", "/x.php/y": "200 ", "/app/x.php": "403 ",
		"/internal/x": "403 ", "/internal": "200 ", "/internal/x.php": "403 ", "//internal//x": "403 ", "/%69nternal/x": "403 ",
		"/status": "503 ", "/status/": "200 ", "/app/secret": "404 ", "/secret": "200 ", "/app": "200 ",
	} {
		answer := shop(t, p, "GET "+path)
		has(t, answer, "HTTP/1.1 "+want)
		if reached := strings.Contains(answer, "forwarded-host="); reached != (want == "200 ") {
			t.Errorf("%s: reached the pod: %t", path, reached)
		}
	}
	has(t, shop(t, p, "GET /realms/master/metrics"), "location: http://shop.test/realms/master\r\n")
	has(t, shop(t, p, "POST /internal/x", "Content-Length: 2", "", "ab"), "403 ", "source_denied")
	for reason, least := range map[exchange.Reason]uint64{exchange.SourceDenied: 2, exchange.AccessClosed: 1, exchange.RuleAnswered: 5} {
		proxytest.Counted(t, p.Metrics, reason, least)
	}
}

// TestLocationsRefused: a configuration whose locations cannot be carried out is refused.
func TestLocationsRefused(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{Name: "d/web:80", Path: "/", Backends: []string{echo(t, "web")}}}, nil)
	for _, l := range []*feedpb.Location{
		{Path: "/a"}, {Path: "/a", Policy: 2}, {Path: "(?!a)", Match: feedpb.Location_PATTERN, Policy: 1}, {Path: "/a", Match: 9, Policy: 1},
	} {
		_, err := p.Config.Load().Apply(&feedpb.Config{Version: 9, Hosts: []*feedpb.Host{{
			Name: "x", Policies: []*feedpb.Policy{{}}, Locations: []*feedpb.Locations{{Server: []*feedpb.Location{l}}},
			Routes: []*feedpb.Route{{Path: "/", Service: 1, Source: "d/bad", Locations: 1}},
		}}})
		if err == nil {
			t.Errorf("%v is taken", l)
		}
	}
}

// TestChallengeInClearText: where clients must show a certificate, the answer to a
// challenge is served in clear text, and nothing else is.
func TestChallengeInClearText(t *testing.T) {
	web := echo(t, "web")
	clear := func(_ *feedpb.Host, r *feedpb.Route) { r.Exact, r.ClearText = true, true }
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "d/web:80", Host: "shop.test", Path: "/", Backends: []string{web}, Change: func(h *feedpb.Host, r *feedpb.Route) {
			h.Tls = &feedpb.TLS{Client: &feedpb.ClientAuth{Authority: "d/ca"}}
			r.RedirectHttps = true
		}},
		{Name: "d/solver:80", Host: "shop.test", Path: "/.well-known/acme-challenge/abc", Backends: []string{web}, Change: clear},
		{Name: "d/more:80", Host: "shop.test", Path: "/more", Backends: []string{web}},
	}, nil)
	has(t, shop(t, p, "GET /.well-known/acme-challenge/abc"), "200 OK", "forwarded-host=shop.test")
	has(t, shop(t, p, "GET /more"), "400 ", "client_certificate")
	for _, path := range []string{"/", "/.well-known/acme-challenge/abcd", "/.well-known/acme-challenge/abc/", "/.well-known/acme-challenge/abc/../x"} {
		has(t, shop(t, p, "GET "+path), "308 ")
	}
}
