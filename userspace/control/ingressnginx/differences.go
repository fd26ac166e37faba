package ingressnginx

import (
	"slices"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/text/template"
)

// differs reports whether what the registry names as the difference of a key concerns the
// value that it has here. Keys that are not listed differ whatever their value is.
func (r *reader) differs(key string) bool {
	_, v, set := r.text(key)
	if !set {
		return false
	}
	switch key {
	case "auth-type", "auth-secret", "auth-tls-secret", "proxy-ssl-secret", "auth-proxy-set-headers", "custom-headers",
		"configuration-snippet", "server-snippet", "auth-snippet", "server-alias", "cors-allow-origin", "proxy-redirect-to",
		"use-regex", "rewrite-target", "canary-by-header-pattern", "upstream-hash-by":
		return false // what differs cannot be read or is refused, and has a finding of its own
	case "proxy-body-size", "proxy-buffers-number", "proxy-busy-buffers-size", "limit-rps", "limit-rpm":
		return false // the default differs (kerngatectl check says so once); the value does what it says
	case "proxy-buffer-size", "session-cookie-path", "opentelemetry-trust-incoming-span", "mirror-request-body":
		return false // the difference is where nothing is said
	case "enable-global-auth", "limit-connections", "canary-weight", "custom-http-errors":
		return false // no client can tell
	case "from-to-www-redirect", "service-upstream", "enable-rewrite-log", "enable-opentelemetry", "auth-keepalive-share-vars",
		"ssl-prefer-server-ciphers", "use-port-in-redirects", "http2-push-preload", "proxy-buffering", "proxy-request-buffering":
		return isTrue(v)
	case "proxy-ssl-server-name", "preserve-trailing-slash":
		return !isTrue(v)
	case "auth-keepalive":
		return v != "0"
	case "auth-keepalive-requests", "auth-keepalive-timeout":
		_, kept, set := r.text("auth-keepalive")
		return set && kept != "0"
	case "backend-protocol":
		return strings.EqualFold(v, "AUTO_HTTP")
	case "connection-proxy-header":
		return !strings.EqualFold(v, "keep-alive")
	case "proxy-http-version":
		return v != "1.1"
	case "proxy-max-temp-file-size":
		_, buffered, _ := r.text("proxy-buffering")
		n, err := size(v)
		return isTrue(buffered) && (err != nil || n > 0)
	case "proxy-next-upstream":
		return strings.Contains(v, "non_idempotent") // of others few have a body
	case "proxy-next-upstream-tries":
		n, err := strconv.Atoi(v)
		return err != nil || n == 0 || n > 10
	case "proxy-ssl-protocols":
		return slices.ContainsFunc(strings.Fields(v), func(version string) bool { return version != "TLSv1.2" && version != "TLSv1.3" })
	case "proxy-ssl-verify-depth":
		return v != "1"
	case "limit-whitelist":
		return r.in.Annotations[Prefix+"limit-allowlist"] != ""
	case "whitelist-source-range":
		return r.in.Annotations[Prefix+"allowlist-source-range"] != ""
	case "auth-url":
		_, host, _ := strings.Cut(v, "://")
		return strings.HasPrefix(host, "$") // only the host is another's
	case "mirror-target":
		_, body, _ := r.text("mirror-request-body")
		return body != "off"
	case "permanent-redirect", "temporal-redirect":
		relative := strings.HasPrefix(v, "/") && !r.boolean("relative-redirects", false)
		return relative || namesPath(v)
	case "x-forwarded-prefix":
		_, _, rewrites := r.text("rewrite-target")
		return !rewrites
	}
	return true
}

// isTrue reports whether a value means yes as nginx or Kubernetes write it.
func isTrue(v string) bool {
	b, err := strconv.ParseBool(v)
	return b && err == nil || strings.EqualFold(v, "on")
}

// namesPath reports whether $uri stands in a template, which nginx puts there unescaped.
func namesPath(text string) bool {
	found := false
	template.Substitute(text, func(name string) (string, bool) {
		found = found || name == "uri" || name == "document_uri"
		return "", false
	})
	return found
}
