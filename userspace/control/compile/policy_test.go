package compile

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// full is a policy in which everything is set.
func full() *model.Policy {
	one := netip.MustParsePrefix("10.0.0.0/8")
	replace := []model.Replacement{{From: "a", To: "b", Pattern: true}}
	redirect := model.Redirect{Path: "/", Status: 302, Target: "/app", Pattern: "^/(.)", Query: true, Body: "b", Type: "text/plain"}
	header := model.HeaderRule{Op: model.AddHeader, Name: "A", Value: "b", Success: true, Status: []int{404}, Types: []string{"text/html"}, Levels: 2}
	steps := []model.Step{{Op: model.StepAnswer, Name: "n", Value: "v", Test: model.TestMatch, To: "t", Pattern: "p", Then: model.ThenStay, Skip: 1, Level: 1, Answer: redirect}}
	return &model.Policy{
		ServerSteps: steps, Steps: steps,
		Substitutions:   &model.Substitutions{Replace: []model.Substitution{{From: "a", To: "b"}}, Once: true, Types: []string{"text/css"}, KeepModified: true},
		Redirects:       []model.Redirect{redirect},
		CORS:            &model.CORS{Origins: []string{"*"}, Methods: []string{"GET"}, Headers: []string{"X-A"}, Expose: []string{"X-B"}, Credentials: true, MaxAge: time.Minute},
		Limits:          &model.Limits{Rates: []model.Rate{{Requests: 10, Period: time.Second, Burst: 50}}, Connections: 3, Exempt: []netip.Prefix{one}, Status: 503, Scope: "ns/i"},
		Access:          &model.Access{Allow: []netip.Prefix{one}, Deny: []netip.Prefix{one}, Basic: &model.BasicAuth{Realm: "r", Users: model.Credentials("u:h")}, Any: true, Closed: "x", External: external()},
		MaxBody:         new(uint64(1)),
		MaxResponseHead: 1,
		Rewrite:         &model.Rewrite{Target: "/$1"},
		Host:            "h",
		RequestHeaders:  []model.HeaderRule{header},
		ResponseHeaders: []model.HeaderRule{header},
		CookieDomains:   replace, CookiePaths: replace, Locations: replace,
		Timeouts: model.Timeouts{Connect: time.Second, Send: 2 * time.Second, Read: 3 * time.Second},
		Unlogged: true,

		Balance: &model.Balance{
			Algorithm: model.EWMA, HashBy: "$request_uri", Subset: 3,
			Affinity: &model.Affinity{Cookie: "c", Persistent: true, ChangeOnFailure: true, Canary: true, Path: "/", Domain: "d", MaxAge: time.Hour, Expires: time.Hour, SameSite: "Lax", ConditionalSameSite: true, Secure: new(true)},
		},
		Retry:       &model.Retry{On: model.RetryError | model.Retry429, NonIdempotent: true, Tries: 3, Within: time.Second},
		Mirrors:     []model.Mirror{{To: model.Destination{Service: key("m"), TLS: true, Authority: "m.ns.svc", Path: "/"}, Host: "h", Body: true}},
		ErrorPages:  &model.ErrorPages{Status: []int{404}, Service: key("e")},
		Fallback:    key("f"),
		Buffering:   model.BufferOff,
		Compression: &model.Compression{Encodings: []string{"br"}, Types: []string{"text/html"}, MinBytes: 100},
		Pace:        &model.Pace{BytesPerSecond: 1000, After: 10},
		Trace:       &model.Trace{Enabled: new(true), Operation: "o", Trust: new(false)},
		Origins:     model.Origins{model.RuleTrace: {"x"}},
	}
}

// TestPolicyMessage: nothing of a policy is lost on its way to proxies.
func TestPolicyMessage(t *testing.T) {
	p := full()
	for i, v := 0, reflect.ValueOf(*p); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("the test does not set %s", v.Type().Field(i).Name)
		}
	}
	lost(t, PolicyMessage(p, ingress("i"), func(model.ServiceKey) uint32 { return 7 }).ProtoReflect())
}

// lost reports fields of a message, and of those in it, that are not set.
func lost(t *testing.T, m protoreflect.Message) {
	t.Helper()
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		// Numbers of replacements and of the first operation are 0.
		if !m.Has(f) && f.Kind() != protoreflect.EnumKind && f.FullName() != "kerngate.feed.v1.Redirect.path" {
			t.Errorf("%s is lost", f.FullName())
		}
		switch {
		case f.IsList() && f.Kind() == protoreflect.MessageKind && m.Get(f).List().Len() > 0:
			lost(t, m.Get(f).List().Get(0).Message())
		case !f.IsList() && f.Kind() == protoreflect.MessageKind && m.Has(f):
			lost(t, m.Get(f).Message())
		}
	}
}

// external is external authentication in which everything is set.
func external() *model.ExternalAuth {
	return &model.ExternalAuth{
		To: model.Destination{Service: key("auth"), TLS: true, Authority: "auth.ns.svc", Path: "/"}, Method: "GET",
		Headers:  []model.HeaderRule{{Op: model.AddHeader, Name: "A", Value: "b", Success: true, Status: []int{404}, Types: []string{"text/html"}, Levels: 2}},
		Response: []string{"X-User"}, SignIn: "https://x", SignInParameter: "rd", Redirect: "/", AlwaysSetCookie: true,
		CacheKey: "$cookie_a", CacheFor: []model.CacheTime{{Status: []int{200}, For: time.Minute}},
	}
}

// TestRules: routes share policies, a canary without its service keeps its place, and every
// change of a rule is a change of the host.
func TestRules(t *testing.T) {
	host := func(p *model.Policy, canaries ...model.Split) *feedpb.Host {
		a, b := prefix("/a", "a", "i1"), prefix("/b", "a", "i1")
		a.Policy, b.Policy, a.Splits, b.Match = p, p, canaries, model.Regexp
		m := model.Model{Hosts: []model.Host{{Name: "x", Routes: []model.Route{a, b}}}}
		return Route(&m, ids("a"), Common{Settings: &feedpb.Settings{}}, nil, nil, nil).Snapshot(1).Hosts[0]
	}
	first := host(full(), model.Split{Service: key("none"), Source: ingress("c"), Weight: 1, Total: 2})
	if len(first.Policies) != 1 || first.Routes[0].Policy != 1 || first.Routes[1].Policy != 1 || !first.Routes[1].Regexp {
		t.Errorf("%v", first)
	}
	if c := first.Routes[0].Splits; len(c) != 1 || c[0].Service != 0 || c[0].Source != "ns/c" {
		t.Errorf("%v", c)
	}
	if !equalHosts(first, proto.CloneOf(first)) {
		t.Error("a host is not equal to its copy")
	}
	other := full()
	other.Access.Basic.Users = model.Credentials("u:other")
	for name, h := range map[string]*feedpb.Host{
		"another password": host(other, model.Split{Service: key("none"), Source: ingress("c"), Weight: 1, Total: 2}),
		"another weight":   host(full(), model.Split{Service: key("none"), Source: ingress("c"), Weight: 2, Total: 2}),
		"no canary":        host(full()),
		"no policy":        host(nil),
	} {
		if equalHosts(first, h) {
			t.Errorf("%s: no change is seen", name)
		}
	}
}
