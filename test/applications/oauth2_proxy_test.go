//go:build linux && applications

package applications

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

const oauthHost = "oauth.test"

// oauth2Proxy signs clients in at an OpenID provider. The annotations are those of ingress-nginx's
// documentation ("External OAUTH Authentication"), and so is the second Ingress of the host,
// which leads /oauth2 to oauth2-proxy. nginx's directives are what ingress-nginx makes of them.
var oauth2Proxy = application{
	name: "oauth2-proxy", source: "github.com/oauth2-proxy/oauth2-proxy/v7 behind auth-url and auth-signin; OpenID provider github.com/oauth2-proxy/mockoidc; client curl with a cookie jar",
	programs: []string{"curl"}, built: []string{"oauth2-proxy", "oidc"},
	version: func(t *testing.T) string {
		return "oauth2-proxy " + moduleVersion(t, "oauth2-proxy", "github.com/oauth2-proxy/oauth2-proxy/v7") + ", curl " + versionOf(t, "curl", "--version")
	},
	publish: publishOAuth,
	conversations: []conversation{
		{does: "without a cookie: a redirect that names the page, for GET and POST, and nothing reaches the pod", talk: oauthRefused,
			want: "302 https://" + oauthHost + "/oauth2/start?rd=" + oauthEscaped + "\n302 https://" + oauthHost + "/oauth2/start?rd=" + oauthEscaped + "\npods saw nothing"},
		{does: "signing in by following redirects, and out again, HTTP/1.1", talk: oauthTalk("--http1.1"), want: oauthGot},
		{does: "signing in by following redirects, and out again, HTTP/2", talk: oauthTalk("--http2"), want: oauthGot},
	},
}

func TestOAuth2Proxy(t *testing.T) { run(t, &oauth2Proxy) }

// A page whose address must survive the way through the sign-in.
const (
	oauthPage    = "/private/page?first=1&second=two%20words"
	oauthEscaped = "%2Fprivate%2Fpage%3Ffirst%3D1%26second%3Dtwo%2520words"
)

// oauthClaims are what the pod must see of a client who is signed in: mockoidc's user, who has no groups.
const oauthClaims = "user 1234567890, mail jane.doe@example.com, groups none"

const oauthGot = "signed in after 4 redirects: 200 https://" + oauthHost + oauthPage + "\n" +
	"pods saw GET " + oauthPage + ", 0 bytes, " + oauthClaims + "\n" +
	"with forged claims: 200\n" +
	"pods saw GET " + oauthPage + ", 0 bytes, " + oauthClaims + "\n" +
	"upload: 200\n" +
	"pods saw POST " + oauthPage + ", 300000 bytes, " + oauthClaims + "\n" +
	"with another's cookie: 302\npods saw nothing\n" +
	"signed out: 302\npods saw nothing"

// oauthSeen is what the pod of a site was asked.
var oauthSeen sync.Map

func publishOAuth(s *site) {
	seen := make(chan string, 100)
	oauthSeen.Store(s, seen)
	pod := s.addPod("private-1")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		total, _ := io.Copy(io.Discard, r.Body) // a body that breaks off is shorter
		claim := func(name string) string {
			var values []string
			for key, all := range r.Header {
				if strings.EqualFold(strings.ReplaceAll(key, "_", "-"), name) {
					values = append(values, all...)
				}
			}
			if len(values) == 0 {
				return "none"
			}
			return strings.Join(values, "+")
		}
		seen <- fmt.Sprintf("%s %s, %d bytes, user %s, mail %s, groups %s", r.Method, r.RequestURI, total,
			claim("X-Auth-Request-User"), claim("X-Auth-Request-Email"), claim("X-Auth-Request-Groups"))
		fmt.Fprintln(w, "private")
	})}
	go server.Serve(s.listen(pod, 80))
	s.t.Cleanup(func() { server.Close() })

	const client, secret = "kerngate", "not-a-secret"
	provider := s.addPod("oidc-1")
	address := provider.IPv4.String() + ":9000"
	s.serve(provider, 9000, lab.Command{Path: builtProgram(s.t, "oidc"), Args: []string{address, client, secret}})
	signIn := s.addPod("oauth2-proxy-1")
	s.serve(signIn, 4180, lab.Command{Path: builtProgram(s.t, "oauth2-proxy"), Args: []string{
		"--http-address=0.0.0.0:4180", "--reverse-proxy=true", "--set-xauthrequest=true", "--upstream=static://202", "--email-domain=*",
		"--provider=oidc", "--oidc-issuer-url=http://" + address + "/oidc", "--client-id=" + client, "--client-secret=" + secret,
		"--cookie-secret=0123456789abcdef0123456789abcdef", "--code-challenge-method=S256", "--skip-provider-button=true",
		"--whitelist-domain=" + oauthHost,
	}})
	s.add(publication{host: oauthHost, pod: pod, port: 80,
		annotations: map[string]string{
			"auth-url":              "https://$host/oauth2/auth",
			"auth-signin":           "https://$host/oauth2/start?rd=$escaped_request_uri",
			"auth-response-headers": "X-Auth-Request-User, X-Auth-Request-Email, X-Auth-Request-Groups",
		},
		nginx: `
			auth_request /_external-auth;
			auth_request_set $auth_cookie $upstream_http_set_cookie;
			add_header Set-Cookie $auth_cookie;
			auth_request_set $user $upstream_http_x_auth_request_user;
			auth_request_set $mail $upstream_http_x_auth_request_email;
			auth_request_set $groups $upstream_http_x_auth_request_groups;
			proxy_set_header X-Auth-Request-User $user;
			proxy_set_header X-Auth-Request-Email $mail;
			proxy_set_header X-Auth-Request-Groups $groups;
			set_escape_uri $escaped_request_uri $request_uri;
			error_page 401 = @signin;`,
		nginxServer: `
		location = /_external-auth {
			internal;
			proxy_pass_request_body off;
			proxy_set_header Content-Length "";
			proxy_set_header X-Forwarded-Proto "";
			proxy_set_header X-Request-ID $request_id;
			proxy_set_header Host $host;
			proxy_set_header X-Original-URL $scheme://$http_host$request_uri;
			proxy_set_header X-Original-Method $request_method;
			proxy_set_header X-Sent-From "nginx-ingress-controller";
			proxy_set_header X-Real-IP $remote_addr;
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_set_header X-Auth-Request-Redirect $request_uri;
			proxy_buffering off;
			proxy_buffer_size 4k;
			proxy_buffers 4 4k;
			proxy_request_buffering on;
			proxy_ssl_server_name on;
			client_max_body_size 1m;
			proxy_pass https://` + s.lab.Nodes[0].IPv4.String() + `/oauth2/auth;
		}
		location @signin {
			internal;
			add_header Set-Cookie $auth_cookie;
			return 302 https://$host/oauth2/start?rd=$escaped_request_uri;
		}`,
	})
	s.add(publication{host: oauthHost, path: "/oauth2", pod: signIn, port: 4180})
}

// oauthSaw is what the pod was asked since it was asked for that last.
func oauthSaw(w *way) string {
	found, _ := oauthSeen.Load(w.site)
	seen := found.(chan string)
	var all []string
	for len(seen) > 0 {
		all = append(all, <-seen)
	}
	if len(all) == 0 {
		return "pods saw nothing\n"
	}
	return "pods saw " + strings.Join(all, ", and ") + "\n"
}

// forged are claims that a client makes of itself.
var forged = []string{"-H", "X-Auth-Request-User: admin", "-H", "X-Auth-Request-Email: admin@example.com", "-H", "X-Auth-Request-Groups: admins",
	"-H", "X_Auth_Request_User: admin", "-H", "x-auth_request-groups: admins"}

// oauthRefused asks without a cookie.
func oauthRefused(w *way) string {
	text := ""
	for _, args := range [][]string{{}, {"-d", "a=1"}} {
		args = append(append([]string{"-sS", "-o", os.DevNull, "-w", "%{http_code} %{redirect_url}"}, args...), forged...)
		o := w.run("curl", append(args, "https://"+oauthHost+oauthPage)...)
		text += strings.TrimSpace(o.stdout+o.stderr) + "\n"
	}
	return text + oauthSaw(w)
}

// oauthTalk signs in, asks, and signs out.
func oauthTalk(version string) func(*way) string {
	return func(w *way) string {
		jar := w.path("jar." + w.name)
		must(w.t, os.RemoveAll(jar))
		page := "https://" + oauthHost + oauthPage
		curl := func(format, url string, args ...string) string {
			o := w.run("curl", append(append([]string{"-sS", version, "--max-time", "60", "-o", os.DevNull, "-w", format}, args...), url)...)
			return strings.TrimSpace(o.stdout + o.stderr)
		}
		session := []string{"-b", jar, "-c", jar}
		var text strings.Builder
		fmt.Fprintf(&text, "signed in %s\n", curl("after %{num_redirects} redirects: %{http_code} %{url_effective}", page, append(session, "-L")...))
		text.WriteString(oauthSaw(w))
		fmt.Fprintf(&text, "with forged claims: %s\n", curl("%{http_code}", page, append(session, forged...)...))
		text.WriteString(oauthSaw(w))
		body := w.file("oauth.body", strings.Repeat("0123456789", 30_000))
		fmt.Fprintf(&text, "upload: %s\n", curl("%{http_code}", page, append(session, "--data-binary", "@"+body)...))
		text.WriteString(oauthSaw(w))
		fmt.Fprintf(&text, "with another's cookie: %s\n", curl("%{http_code}", page, "-H", "Cookie: _oauth2_proxy="+strings.Repeat("x", 200)))
		text.WriteString(oauthSaw(w))
		curl("", "https://"+oauthHost+"/oauth2/sign_out", session...)
		fmt.Fprintf(&text, "signed out: %s\n", curl("%{http_code}", page, session...))
		text.WriteString(oauthSaw(w))
		return text.String()
	}
}
