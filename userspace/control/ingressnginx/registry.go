package ingressnginx

import (
	"iter"
	"slices"
)

// Key is an annotation of ingress-nginx 1.15, the last release, and what becomes of it.
type Key struct {
	Name    string // without Prefix
	Group   string // as ingress-nginx names it
	Verdict Verdict
	Why     string // of Difference and Unsupported: a sentence without its end
}

// Lookup returns a key.
func Lookup(name string) (Key, bool) {
	i, found := slices.BinarySearchFunc(keys, name, func(k Key, name string) int {
		switch {
		case k.Name < name:
			return -1
		case k.Name > name:
			return 1
		}
		return 0
	})
	if !found {
		return Key{Name: name}, false
	}
	return keys[i], true
}

// Keys returns all of them, sorted by name.
func Keys() []Key { return slices.Clone(keys) }

const (
	whyStreams   = "responses are streamed through buffers of fixed size, so there is nothing to set"
	whyKeepAlive = "connections to the service that is asked are kept as long as they are of use"
	whyModSec    = "there is no web application firewall"
	whyFastCGI   = "pods are spoken to in HTTP or gRPC"
	whyTracing   = "the collector, and how many requests are traced, is the agent's to say (--otlp-endpoint, --trace-ratio)"
	whySuites    = "of TLS 1.2 those count that crypto/tls has and holds secure, in its own order; those of TLS 1.3 cannot be chosen"
	whyOrder     = "the order is that of crypto/tls, which considers whether both sides have AES in hardware"
	whyPushOver  = "browsers have removed server push, and nginx 1.25 did; Link fields are passed on"
	whyNoGlobal  = "global authentication is that of the ConfigMap which the agent's --ingress-nginx-configmap names; without it there is none"
	whyLegacyOne = "an older name, read if there is no "
)

var keys = []Key{
	{Name: "affinity", Group: "SessionAffinity"},
	{Name: "affinity-canary-behavior", Group: "SessionAffinity"},
	{Name: "affinity-mode", Group: "SessionAffinity"},
	{Name: "allowlist-source-range", Group: "Allowlist"},
	{Name: "app-root", Group: "Rewrite"},
	{Name: "auth-always-set-cookie", Group: "ExternalAuth"},
	{Name: "auth-cache-duration", Group: "ExternalAuth"},
	{Name: "auth-cache-key", Group: "ExternalAuth", Verdict: Difference, Why: "answers with Set-Cookie, or that forbid it by Cache-Control, are not kept, and hosts do not share them"},
	{Name: "auth-keepalive", Group: "ExternalAuth", Verdict: Difference, Why: whyKeepAlive},
	{Name: "auth-keepalive-requests", Group: "ExternalAuth", Verdict: Difference, Why: whyKeepAlive},
	{Name: "auth-keepalive-share-vars", Group: "ExternalAuth", Verdict: Difference, Why: whyKeepAlive},
	{Name: "auth-keepalive-timeout", Group: "ExternalAuth", Verdict: Difference, Why: whyKeepAlive},
	{Name: "auth-method", Group: "ExternalAuth"},
	{Name: "auth-proxy-set-headers", Group: "ExternalAuth", Verdict: Difference, Why: "ConfigMaps of other namespaces are refused"},
	{Name: "auth-realm", Group: "BasicDigestAuth"},
	{Name: "auth-request-redirect", Group: "ExternalAuth"},
	{Name: "auth-response-headers", Group: "ExternalAuth"},
	{Name: "auth-secret", Group: "BasicDigestAuth", Verdict: Difference, Why: "Secrets of other namespaces, and DES and plain-text entries, are refused"},
	{Name: "auth-secret-type", Group: "BasicDigestAuth"},
	{Name: "auth-signin", Group: "ExternalAuth"},
	{Name: "auth-signin-redirect-param", Group: "ExternalAuth"},
	{Name: "auth-snippet", Group: "ExternalAuth", Verdict: Difference, Why: "it is never executed; proxy_set_header is read, others are reported, and those that decide who gets in close the Ingress"},
	{Name: "auth-tls-error-page", Group: "CertificateAuth"},
	{Name: "auth-tls-match-cn", Group: "CertificateAuth", Verdict: Difference, Why: "expressions are RE2's, which has no look-around; who does not match gets 400, not 403"},
	{Name: "auth-tls-pass-certificate-to-upstream", Group: "CertificateAuth"},
	{Name: "auth-tls-secret", Group: "CertificateAuth", Verdict: Difference, Why: "Secrets of other namespaces are refused"},
	{Name: "auth-tls-verify-client", Group: "CertificateAuth"},
	{Name: "auth-tls-verify-depth", Group: "CertificateAuth"},
	{Name: "auth-type", Group: "BasicDigestAuth", Verdict: Difference, Why: "digest, which browsers abandon, is not supported: every request is refused"},
	{Name: "auth-url", Group: "ExternalAuth", Verdict: Difference, Why: "of the values of a request $host alone may stand for its host, and means what this proxy routes there; an answer other than 2xx, 401 and 403, or none, refuses the request with 500"},
	{Name: "backend-protocol", Group: "BackendProtocol", Verdict: Difference, Why: "AUTO_HTTP is settled for each route, and FCGI is not supported"},
	{Name: "canary", Group: "Canary"},
	{Name: "canary-by-cookie", Group: "Canary"},
	{Name: "canary-by-header", Group: "Canary"},
	{Name: "canary-by-header-pattern", Group: "Canary", Verdict: Difference, Why: "expressions are RE2's, which has no look-around"},
	{Name: "canary-by-header-value", Group: "Canary"},
	{Name: "canary-weight", Group: "Canary", Verdict: Difference, Why: "a path may have several canaries: each decides about what those before it, the oldest first, leave"},
	{Name: "canary-weight-total", Group: "Canary"},
	{Name: "client-body-buffer-size", Group: "ClientBodyBufferSize", Verdict: Difference, Why: "the agent's --request-buffer-bytes holds for all Ingresses"},
	{Name: "configuration-snippet", Group: "ConfigurationSnippet", Verdict: Difference, Why: "it is never executed; set, if, return, rewrite, break, limit_except, add_header, expires, sub_filter, more_set_headers, more_clear_headers, more_set_input_headers, more_clear_input_headers, proxy_hide_header, proxy_set_header, auth_request_set, allow, deny, satisfy, grpc_*_timeout, limit_rate, gzip off, access_log off and locations that answer by themselves are read; others are reported with their line, a request header that cannot be set is removed, and directives that decide who gets in and cannot be read close the Ingress, or the location or condition in which they stand"},
	{Name: "connection-proxy-header", Group: "Connection", Verdict: Difference, Why: "the proxy decides by itself which connections to pods it keeps"},
	{Name: "cors-allow-credentials", Group: "CorsConfig"},
	{Name: "cors-allow-headers", Group: "CorsConfig"},
	{Name: "cors-allow-methods", Group: "CorsConfig"},
	{Name: "cors-allow-origin", Group: "CorsConfig", Verdict: Difference, Why: "an origin that cannot be read is left out, in place of allowing all; Vary: Origin is added"},
	{Name: "cors-expose-headers", Group: "CorsConfig"},
	{Name: "cors-max-age", Group: "CorsConfig"},
	{Name: "custom-headers", Group: "CustomHeaders", Verdict: Difference, Why: "ConfigMaps of other namespaces are refused; a field that cannot be set is left out, in place of answering 503; without --global-allowed-response-headers all but the proxy's own may be set"},
	{Name: "custom-http-errors", Group: "CustomHTTPErrors", Verdict: Difference, Why: "the service's page is taken up to 1 MiB; without it the error stays as it is"},
	{Name: "default-backend", Group: "DefaultBackend", Verdict: Difference, Why: "where it answers for a Service without pods it gets the request as it is, without X-Code and the headers that custom-http-errors sends"},
	{Name: "denylist-source-range", Group: "Denylist"},
	{Name: "disable-proxy-intercept-errors", Group: "DisableProxyInterceptErrors"},
	{Name: "enable-access-log", Group: "Logs"},
	{Name: "enable-cors", Group: "CorsConfig"},
	{Name: "enable-global-auth", Group: "EnableGlobalAuth", Verdict: Difference, Why: whyNoGlobal},
	{Name: "enable-modsecurity", Group: "ModSecurity", Verdict: Unsupported, Why: whyModSec},
	{Name: "enable-opentelemetry", Group: "Opentelemetry", Verdict: Difference, Why: whyTracing},
	{Name: "enable-owasp-core-rules", Group: "ModSecurity", Verdict: Unsupported, Why: whyModSec},
	{Name: "enable-rewrite-log", Group: "Logs", Verdict: Difference, Why: "there is no such log: kerngatectl explain shows where a request goes and why"},
	{Name: "fastcgi-index", Group: "FastCGI", Verdict: Unsupported, Why: whyFastCGI},
	{Name: "fastcgi-params-configmap", Group: "FastCGI", Verdict: Unsupported, Why: whyFastCGI},
	{Name: "force-ssl-redirect", Group: "Rewrite"},
	{Name: "from-to-www-redirect", Group: "Redirect"},
	{Name: "http2-push-preload", Group: "HTTP2PushPreload", Verdict: Difference, Why: whyPushOver},
	{Name: "limit-allowlist", Group: "RateLimit"},
	{Name: "limit-burst-multiplier", Group: "RateLimit"},
	{Name: "limit-connections", Group: "RateLimit", Verdict: Difference, Why: "requests at the same time are counted, as nginx does for HTTP/2, whichever protocol they come by"},
	{Name: "limit-rate", Group: "RateLimit"},
	{Name: "limit-rate-after", Group: "RateLimit"},
	{Name: "limit-rpm", Group: "RateLimit", Verdict: Difference, Why: "IPv6 clients count by /64"},
	{Name: "limit-rps", Group: "RateLimit", Verdict: Difference, Why: "IPv6 clients count by /64"},
	{Name: "limit-whitelist", Group: "RateLimit", Verdict: Difference, Why: whyLegacyOne + "limit-allowlist"},
	{Name: "load-balance", Group: "LoadBalancing"},
	{Name: "mirror-host", Group: "Mirror"},
	{Name: "mirror-request-body", Group: "Mirror", Verdict: Difference, Why: "a request with a body of more than 64 KiB is not mirrored"},
	{Name: "mirror-target", Group: "Mirror", Verdict: Difference, Why: "copies are dropped rather than waited for, and a request with a body of more than 64 KiB is not mirrored unless mirror-request-body is off"},
	{Name: "modsecurity-snippet", Group: "ModSecurity", Verdict: Unsupported, Why: whyModSec},
	{Name: "modsecurity-transaction-id", Group: "ModSecurity", Verdict: Unsupported, Why: whyModSec},
	{Name: "opentelemetry-operation-name", Group: "Opentelemetry"},
	{Name: "opentelemetry-trust-incoming-span", Group: "Opentelemetry", Verdict: Difference, Why: "by default as the agent says (--trace-trust, off)"},
	{Name: "permanent-redirect", Group: "Redirect", Verdict: Difference, Why: "a target that is a path is sent as it is written, without scheme and host; $uri is escaped; of nginx's variables those of the request can be used"},
	{Name: "permanent-redirect-code", Group: "Redirect"},
	{Name: "preserve-trailing-slash", Group: "Rewrite", Verdict: Difference, Why: "a redirect to https always preserves it"},
	{Name: "proxy-body-size", Group: "Proxy", Verdict: Difference, Why: "without it the agent's --max-body holds, not 1m; a body without Content-Length must fit into --request-buffer-bytes or --request-spool-total as well"},
	{Name: "proxy-buffer-size", Group: "Proxy", Verdict: Difference, Why: "it can only raise the agent's --max-response-head (32 KiB), up to 1 MiB; it has nothing to do with bodies, which are streamed"},
	{Name: "proxy-buffering", Group: "Proxy", Verdict: Difference, Why: whyStreams},
	{Name: "proxy-buffers-number", Group: "Proxy", Verdict: Difference, Why: whyStreams},
	{Name: "proxy-busy-buffers-size", Group: "Proxy", Verdict: Difference, Why: whyStreams},
	{Name: "proxy-connect-timeout", Group: "Proxy"},
	{Name: "proxy-cookie-domain", Group: "Proxy"},
	{Name: "proxy-cookie-path", Group: "Proxy"},
	{Name: "proxy-http-version", Group: "Proxy", Verdict: Difference, Why: "1.0 is not spoken to pods"},
	{Name: "proxy-max-temp-file-size", Group: "Proxy", Verdict: Difference, Why: "responses are never written to a file; " + whyStreams},
	{Name: "proxy-next-upstream", Group: "Proxy", Verdict: Difference, Why: "no pod is asked twice; a request whose body is no longer at hand whole is not repeated, nor one too many: a fifth of a service's requests at a time may be repeated"},
	{Name: "proxy-next-upstream-timeout", Group: "Proxy"},
	{Name: "proxy-next-upstream-tries", Group: "Proxy", Verdict: Difference, Why: "ten pods are asked at most"},
	{Name: "proxy-read-timeout", Group: "Proxy"},
	{Name: "proxy-redirect-from", Group: "Proxy"},
	{Name: "proxy-redirect-to", Group: "Proxy", Verdict: Difference, Why: "values of the request cannot be used"},
	{Name: "proxy-request-buffering", Group: "Proxy", Verdict: Difference, Why: "on reads a body before the pod is chosen: up to the agent's --request-buffer-bytes in memory, a larger one to a file where the proxy has --request-spool-dir; without the annotation only bodies that have no Content-Length; one that does not fit streams if it has a length, else --large-requests decides"},
	{Name: "proxy-send-timeout", Group: "Proxy"},
	{Name: "proxy-ssl-ciphers", Group: "ProxySSL", Verdict: Difference, Why: whySuites + "; they hold without proxy-ssl-secret, too"},
	{Name: "proxy-ssl-name", Group: "ProxySSL"},
	{Name: "proxy-ssl-protocols", Group: "ProxySSL", Verdict: Difference, Why: "versions before 1.2 are not spoken; it holds without proxy-ssl-secret, too"},
	{Name: "proxy-ssl-secret", Group: "ProxySSL", Verdict: Difference, Why: "Secrets of other namespaces are refused"},
	{Name: "proxy-ssl-server-name", Group: "ProxySSL", Verdict: Difference, Why: "the name is always sent"},
	{Name: "proxy-ssl-verify", Group: "ProxySSL"},
	{Name: "proxy-ssl-verify-depth", Group: "ProxySSL", Verdict: Difference, Why: "chains of any length up to the authority are taken"},
	{Name: "relative-redirects", Group: "Redirect"},
	{Name: "rewrite-target", Group: "Rewrite", Verdict: Difference, Why: "expressions are RE2's, which has no look-around; a result with a segment . or .. is answered with 400"},
	{Name: "satisfy", Group: "Satisfy"},
	{Name: "server-alias", Group: "Aliases", Verdict: Difference, Why: "hosts and wildcards are read, expressions are not"},
	{Name: "server-snippet", Group: "ServerSnippet", Verdict: Difference, Why: "it is never executed; it is read like configuration-snippet, and its headers, conditions, returns, rewrites, allow and deny hold for the Ingress's own paths; its locations hold beside all paths of the host, but for those of another namespace than that of the host's oldest Ingress"},
	{Name: "service-upstream", Group: "ServiceUpstream", Verdict: Difference, Why: "requests always go to pods, whose changes are in force within milliseconds: what the Service's address was used for"},
	{Name: "session-cookie-change-on-failure", Group: "SessionAffinity"},
	{Name: "session-cookie-conditional-samesite-none", Group: "SessionAffinity"},
	{Name: "session-cookie-domain", Group: "SessionAffinity"},
	{Name: "session-cookie-expires", Group: "SessionAffinity"},
	{Name: "session-cookie-max-age", Group: "SessionAffinity"},
	{Name: "session-cookie-name", Group: "SessionAffinity"},
	{Name: "session-cookie-path", Group: "SessionAffinity", Verdict: Difference, Why: "where paths are expressions and nothing is said, it is /"},
	{Name: "session-cookie-samesite", Group: "SessionAffinity"},
	{Name: "session-cookie-secure", Group: "SessionAffinity"},
	{Name: "ssl-ciphers", Group: "SSLCipher", Verdict: Difference, Why: whySuites},
	{Name: "ssl-passthrough", Group: "SSLPassthrough"},
	{Name: "ssl-prefer-server-ciphers", Group: "SSLCipher", Verdict: Difference, Why: whyOrder},
	{Name: "ssl-redirect", Group: "Rewrite"},
	{Name: "stream-snippet", Group: "StreamSnippet", Verdict: Unsupported, Why: "it is not executed"},
	{Name: "temporal-redirect", Group: "Redirect", Verdict: Difference, Why: "a target that is a path is sent as it is written, without scheme and host; $uri is escaped; of nginx's variables those of the request can be used"},
	{Name: "temporal-redirect-code", Group: "Redirect"},
	{Name: "upstream-hash-by", Group: "UpstreamHashBy", Verdict: Difference, Why: "of nginx's variables those of the request can be used"},
	{Name: "upstream-hash-by-subset", Group: "UpstreamHashBy"},
	{Name: "upstream-hash-by-subset-size", Group: "UpstreamHashBy"},
	{Name: "upstream-vhost", Group: "UpstreamVhost"},
	{Name: "use-port-in-redirects", Group: "UsePortInRedirects", Verdict: Difference, Why: "redirects name the port that the client used"},
	{Name: "use-regex", Group: "Rewrite", Verdict: Difference, Why: "expressions are RE2's, which has no look-around"},
	{Name: "whitelist-source-range", Group: "Allowlist", Verdict: Difference, Why: whyLegacyOne + "allowlist-source-range"},
	{Name: "x-forwarded-prefix", Group: "XForwardedPrefix", Verdict: Difference, Why: "the header is sent without rewrite-target, too"},
}

// nearest returns the key that is most like name, "" if none is like it.
func nearest(name string) string {
	return nearestOf(name, func(yield func(string) bool) {
		for _, k := range keys {
			if !yield(k.Name) {
				return
			}
		}
	})
}

// settingNames yields the keys of the ConfigMap.
func settingNames(yield func(string) bool) {
	for _, s := range settings {
		if !yield(s.Name) {
			return
		}
	}
}

func nearestOf(name string, all iter.Seq[string]) string {
	best, found := 4, ""
	for one := range all {
		if d := distance(name, one); d < best {
			best, found = d, one
		}
	}
	return found
}

// distance is Levenshtein's, of texts that are cut to what any key can be like.
func distance(a, b string) int {
	const most = 48
	a, b = a[:min(len(a), most)], b[:min(len(b), most)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			before, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, before+cost)
		}
	}
	return row[len(b)]
}
