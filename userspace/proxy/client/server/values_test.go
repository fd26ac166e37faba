package server_test

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// lister is a pod that lists the headers it got whose names begin with x, in lower case and
// with _ for each -, as CGI has them.
func lister(t *testing.T) string {
	return pod(t, func(w http.ResponseWriter, r *http.Request) {
		var lines []string
		for name, values := range r.Header {
			if name = strings.ToLower(strings.ReplaceAll(name, "-", "_")); strings.HasPrefix(name, "x_") {
				lines = append(lines, fmt.Sprintf("<%s=%s>", name, strings.Join(values, "|")))
			}
		}
		slices.Sort(lines)
		fmt.Fprintln(w, "reached", strings.Join(lines, " "))
	})
}

func set(pairs ...string) (rules []*feedpb.HeaderRule) {
	for i := 0; i < len(pairs); i += 2 {
		rules = append(rules, &feedpb.HeaderRule{Name: pairs[i], Value: pairs[i+1]})
	}
	return rules
}

// basicUsers knows ann and a name that holds a control character, both with password pw.
func basicUsers() *feedpb.BasicAuth {
	sum := sha1.Sum([]byte("pw"))
	hash := "{SHA}" + base64.StdEncoding.EncodeToString(sum[:])
	return &feedpb.BasicAuth{Users: []byte("ann:" + hash + "\nb\x01ob:" + hash + "\n")}
}

func login(name, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// TestRemoteUser: the pod gets the name whose password was verified, or none, and never
// what the client says of itself under the header's name, however that is spelled.
func TestRemoteUser(t *testing.T) {
	web := lister(t)
	rule := func(a *feedpb.Access) *feedpb.Policy {
		return &feedpb.Policy{Access: a, RequestHeaders: set("X-Scope-OrgID", "$remote_user", "X-Gone", "")}
	}
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "d/all:80", Path: "/all", Backends: []string{web}, Policy: rule(&feedpb.Access{Basic: basicUsers()})},
		{Name: "d/any:80", Path: "/any", Backends: []string{web}, Policy: rule(&feedpb.Access{Basic: basicUsers(), Any: true, Allow: []string{"127.0.0.0/8"}})},
		{Name: "d/far:80", Path: "/far", Backends: []string{web}, Policy: rule(&feedpb.Access{Basic: basicUsers(), Any: true, Allow: []string{"192.0.2.0/24"}})},
		{Name: "d/none:80", Path: "/none", Backends: []string{web}, Policy: rule(nil)},
	}, nil)
	claims := []string{"X-Scope-OrgID: two", "x_scope_orgid: two", "X-Scope_OrgID: two", "X-Gone: a", "X_Gone: a"}
	for range 2 { // the second time the password is known
		for _, c := range []struct{ path, user, want string }{
			{"/all", "ann", "<x_scope_orgid=ann>"}, {"/far", "ann", "<x_scope_orgid=ann>"}, {"/all", "b\x01ob", ""},
			{"/any", "ann", ""}, {"/none", "ann", ""}, // nobody has verified the password
		} {
			answer := shop(t, p, "GET "+c.path, append(claims, login(c.user, "pw"))...)
			has(t, answer, "200 OK", "reached", c.want)
			if strings.Contains(answer, "two") || strings.Contains(answer, "x_gone") || c.want == "" && strings.Contains(answer, "orgid") {
				t.Errorf("%s: %s", c.path, answer)
			}
		}
	}
	has(t, shop(t, p, "GET /all", append(claims, login("ann", "no"))...), "401 ")
}

// TestValues: what the values of templates stand for.
func TestValues(t *testing.T) {
	web := lister(t)
	p := proxytest.Start(t, []proxytest.Service{{Name: "d/web:80", Path: "/", Backends: []string{web}, Policy: &feedpb.Policy{
		RequestHeaders: set("X-Escaped", "$escaped_request_uri", "X-Req", "$req_id", "X-Own", "$request_id",
			"X-For", "$proxy_add_x_forwarded_for", "X-Type", "$content_type", "X-Uri", "$document_uri", "X-Cert", "$ssl_client_escaped_cert"),
	}}}, nil)
	answer := shop(t, p, "GET /a%20b/?c=d&e", "X-Request-ID: mine", "X-Forwarded-For: 192.0.2.1", "Content-Type: a/b", "X-Cert: forged", "X_Own: forged")
	has(t, answer, "<x_escaped=%2Fa%2520b%2F%3Fc%3Dd%26e>", "<x_req=mine>", "<x_for=127.0.0.1>", "<x_type=a/b>", "<x_uri=/a%20b/>", "<x_request_id=mine>")
	if strings.Contains(answer, "forged") || !regexp.MustCompile("<x_own=[0-9a-f]{32}>").MatchString(answer) {
		t.Error(answer)
	}
	id := regexp.MustCompile("<x_(own|req|request_id)=([0-9a-f]{32})>").FindAllStringSubmatch(shop(t, p, "GET /"), -1)
	if len(id) != 3 || id[0][2] != id[1][2] || id[1][2] != id[2][2] {
		t.Errorf("ids %q", id)
	}
}

// TestAnswerValues: the pod and the client get values of the external auth service's
// answer, whether it was asked or its answer was kept, and the service gets the headers
// that rules set.
func TestAnswerValues(t *testing.T) {
	service := pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if got := fmt.Sprint(r.Header["X-Forwarded-Method"], r.Header["X_forwarded_method"], r.Header["X-Tenant"], r.Header["X_tenant"]); got != "[PUT] [] [] []" {
			t.Errorf("the service gets %s", got)
		}
		w.Header().Set("X-Auth-Request-User", "ann")
		w.Header()["X-Auth-Groups"] = []string{"a", "b"}
		if r.Header.Get("X-Cookie") != "" {
			w.Header().Add("Set-Cookie", "part_0=x; Path=/")
			w.Header().Add("Set-Cookie", "part_1=y; Path=/")
		}
		w.WriteHeader(http.StatusAccepted)
	})
	web := lister(t)
	policy := asks(func(a *feedpb.Access) {
		a.External.Headers = set("X-Forwarded-Method", "$request_method", "X-Tenant", "")
		a.External.SignIn = "https://$host/oauth2/start?rd=$escaped_request_uri"
		a.External.CacheKey, a.External.CacheFor = "$http_authorization", []*feedpb.CacheTime{{ForSeconds: 60}}
	})
	policy.RequestHeaders = set("X-Who", "${auth_answer_http_x_auth_request_user}", "X-Groups", "$auth_answer_http_x_auth_groups", "X-Part", "$auth_answer_cookie_part_1", "X-Status", "$auth_answer_status")
	policy.ResponseHeaders = []*feedpb.HeaderRule{{Op: feedpb.HeaderRule_ADD, Name: "X-Seen", Value: "$auth_answer_http_x_auth_request_user"}}
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/gate:80", Path: "/gate", Backends: []string{service}},
		{Name: "default/web:80", Path: "/", Backends: []string{web}, Policy: policy},
	}, nil)
	claims := []string{"X-Who: root", "X_Who: root", "X-Part: z", "x_groups: wheel", "X_Forwarded_Method: GET", "X-Tenant: 1", "X_Tenant: 1"}
	has(t, shop(t, p, "GET /page?a=1", claims...), "302 ", "location: https://shop.test/oauth2/start?rd=%2Fpage%3Fa%3D1\r\n")
	for range 2 {
		answer := shop(t, p, "PUT /", append(claims, "Authorization: Bearer x")...)
		has(t, answer, "200 OK", "<x_who=ann>", "<x_groups=a, b>", "<x_status=202>", "X-Seen: ann\r\n")
		if strings.Contains(answer, "root") || strings.Contains(answer, "wheel") || strings.Contains(answer, "x_part") {
			t.Error(answer)
		}
	}
	has(t, shop(t, p, "PUT /", append(claims, "Authorization: Bearer y", "X-Cookie: 1")...), "<x_part=y>", "Set-Cookie: part_0=x", "Set-Cookie: part_1=y")
}
