package ingressnginx

import (
	"strconv"
	"strings"
)

// differs reports whether what the registry names as the difference of a key concerns the
// value that it has here. Keys that are not listed differ whatever their value is.
func (r *reader) differs(key string) bool {
	_, v, set := r.text(key)
	if !set {
		return false
	}
	switch key {
	case "auth-type", "auth-secret", "auth-tls-secret", "proxy-ssl-secret", "auth-proxy-set-headers", "custom-headers":
		return false // the values that differ are refused, and have a finding of their own
	case "use-regex", "from-to-www-redirect", "service-upstream", "enable-rewrite-log", "mirror-request-body",
		"ssl-prefer-server-ciphers", "use-port-in-redirects", "http2-push-preload", "proxy-buffering":
		return isTrue(v)
	case "enable-global-auth", "proxy-ssl-server-name", "preserve-trailing-slash":
		return !isTrue(v)
	case "backend-protocol":
		return strings.EqualFold(v, "AUTO_HTTP")
	case "proxy-http-version":
		return v != "1.1"
	case "rewrite-target":
		return strings.Contains(v, "$") // without groups there is nothing that an expression could do
	case "limit-whitelist":
		return r.in.Annotations[Prefix+"limit-allowlist"] != ""
	case "whitelist-source-range":
		return r.in.Annotations[Prefix+"allowlist-source-range"] != ""
	case "canary-weight":
		return v != "0"
	case "proxy-body-size", "proxy-buffers-number", "proxy-busy-buffers-size":
		return false // the default differs (kerngatectl check says so once); the value does what it says
	case "proxy-ssl-verify-depth":
		return v != "1"
	case "permanent-redirect", "temporal-redirect", "upstream-hash-by", "auth-url", "mirror-target":
		return strings.Contains(v, "$")
	}
	return true
}

// isTrue reports whether a value means yes as nginx or Kubernetes write it.
func isTrue(v string) bool {
	b, err := strconv.ParseBool(v)
	return b && err == nil || strings.EqualFold(v, "on")
}
