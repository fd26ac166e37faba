package ingressnginx

import (
	"slices"
	"strings"
)

// Setting is a key of the ConfigMap of ingress-nginx's controller, and what becomes of it.
type Setting struct {
	Name string
	By   SettingBy
	// Equal is what does the same here: an annotation without Prefix, or flags of the agent.
	Equal string
	Why   string // a sentence without its end: how it differs, or why it is not supported
	// Same are values, in lower case, that ask for nothing but what is so anyway.
	Same []string
}

// SettingBy says how a setting is had.
type SettingBy uint8

const (
	// Honoured settings are read from the ConfigMap that --ingress-nginx-configmap names.
	Honoured SettingBy = iota
	// ByAnnotation: read as well, as the value of the annotation Equal for Ingresses without it.
	ByAnnotation
	// ByFlag settings concern the process, and are flags of the agent.
	ByFlag
	// Needless settings are about the inside of nginx: there is nothing to set.
	Needless
	// NotSupported settings have no equal.
	NotSupported
)

// String returns what docs/configmap.md has.
func (b SettingBy) String() string {
	return [...]string{"honoured", "honoured, as an annotation", "a flag", "nothing to set", "not supported"}[b]
}

// LookupSetting returns a key of the ConfigMap.
func LookupSetting(name string) (Setting, bool) {
	i, found := slices.BinarySearchFunc(settings, name, func(s Setting, name string) int { return strings.Compare(s.Name, name) })
	if found {
		return settings[i], true
	}
	for _, prefix := range tracers {
		if strings.HasPrefix(name, prefix) {
			return Setting{Name: name, By: NotSupported, Why: whyTracers}, true
		}
	}
	return Setting{Name: name}, false
}

// Settings returns all of them, sorted by name.
func Settings() []Setting { return slices.Clone(settings) }

// Asks reports whether a value asks for anything but what is so anyway.
func (s Setting) Asks(value string) bool {
	value = strings.ToLower(strings.TrimSpace(value))
	return value != "" && s.By != Needless && !slices.Contains(s.Same, value)
}

// tracers begin the keys of tracing systems that ingress-nginx had before OpenTelemetry.
var tracers = []string{"datadog-", "jaeger-", "zipkin-", "opentracing-", "global-rate-limit-"}

const (
	whyTracers  = "ingress-nginx 1.10 and later do not have it either; traces go to an OpenTelemetry collector by the agent's --otlp-endpoint"
	whyInside   = "it is about the inside of nginx"
	whyTooOld   = "nothing older than TLS 1.2 is spoken"
	whyNoStream = "TCP and UDP services are forwarded by the kernel"
	whyLogPlace = "the access log goes to standard output"
)

var settings = []Setting{
	{Name: "access-log-params", By: Needless, Why: whyLogPlace},
	{Name: "access-log-path", By: Needless, Why: whyLogPlace},
	{Name: "add-headers", By: Honoured, Why: "the ConfigMap that it names is watched; a header of an annotation or a snippet takes precedence"},
	{Name: "allow-backend-server-header", By: Needless, Why: "the pod's Server is passed on; hide-headers can remove it"},
	{Name: "allow-cross-namespace-resources", By: NotSupported, Why: "an Ingress uses Secrets and ConfigMaps of its own namespace alone", Same: []string{"false"}},
	{Name: "allow-snippet-annotations", By: Honoured, Why: "without the key snippets are read: nothing of them is executed here", Same: []string{"true"}},
	{Name: "annotation-value-word-blocklist", By: Needless, Why: "no annotation is pasted into a configuration"},
	{Name: "annotations-risk-level", By: Needless, Why: "no annotation is pasted into a configuration"},
	{Name: "app-root", By: ByAnnotation, Equal: "app-root"},
	{Name: "bind-address", By: ByFlag, Equal: "--ingress-ip"},
	{Name: "block-cidrs", By: Honoured, Why: "the agent's --defence-configmap drops their packets in the kernel, which costs less"},
	{Name: "block-referers", By: Honoured},
	{Name: "block-user-agents", By: Honoured},
	{Name: "brotli-level", By: Needless, Why: "the level is fixed"},
	{Name: "brotli-min-length", By: ByFlag, Equal: "--compression-min-bytes"},
	{Name: "brotli-types", By: ByFlag, Equal: "--compression-types"},
	{Name: "client-body-buffer-size", By: ByFlag, Equal: "--request-buffer-bytes"},
	{Name: "client-body-timeout", By: ByFlag, Equal: "--body-timeout", Same: []string{"60"}},
	{Name: "client-header-buffer-size", By: Needless, Why: "heads grow as needed, up to --max-head"},
	{Name: "client-header-timeout", By: ByFlag, Equal: "--head-timeout", Same: []string{"15"}},
	{Name: "compute-full-forwarded-for", By: Needless, Why: "pods get the client and all trusted proxies in X-Forwarded-For"},
	{Name: "custom-http-errors", By: ByAnnotation, Equal: "custom-http-errors", Why: "the pages are those of the Ingress's default-backend, or of the agent's --default-backend"},
	{Name: "debug-connections", By: NotSupported, Why: "kerngatectl watch shows what becomes of single connections"},
	{Name: "default-type", By: Needless, Why: "pods say the type of their responses"},
	{Name: "denylist-source-range", By: ByAnnotation, Equal: "denylist-source-range"},
	{Name: "disable-access-log", By: ByFlag, Equal: "--access-log", Same: []string{"true"}},
	{Name: "disable-http-access-log", By: ByFlag, Equal: "--access-log", Same: []string{"true"}},
	{Name: "disable-ipv6", By: ByFlag, Equal: "--ingress-ip", Why: "only addresses that are named are served", Same: []string{"false"}},
	{Name: "disable-ipv6-dns", By: NotSupported, Why: "whichever address of a name answers is used", Same: []string{"false"}},
	{Name: "disable-proxy-intercept-errors", By: ByAnnotation, Equal: "disable-proxy-intercept-errors"},
	{Name: "disable-stream-access-log", By: Needless, Why: whyNoStream},
	{Name: "enable-access-log-for-default-backend", By: Needless, Why: "its requests are logged like all others"},
	{Name: "enable-aio-write", By: Needless, Why: whyInside},
	{Name: "enable-brotli", By: ByFlag, Equal: "--compression br", Same: []string{"false"}},
	{Name: "enable-modsecurity", By: NotSupported, Why: whyModSec, Same: []string{"false"}},
	{Name: "enable-multi-accept", By: Needless, Why: whyInside},
	{Name: "enable-ocsp", By: ByFlag, Equal: "--ocsp", Same: []string{"false"}},
	{Name: "enable-opentelemetry", By: ByFlag, Equal: "--otlp-endpoint", Same: []string{"false"}},
	{Name: "enable-opentracing", By: NotSupported, Why: whyTracers, Same: []string{"false"}},
	{Name: "enable-owasp-modsecurity-crs", By: NotSupported, Why: whyModSec, Same: []string{"false"}},
	{Name: "enable-real-ip", By: ByFlag, Equal: "--trusted-proxy", Same: []string{"false"}},
	{Name: "enable-syslog", By: NotSupported, Why: whyLogPlace, Same: []string{"false"}},
	{Name: "enable-underscores-in-headers", By: Needless, Why: "such headers are passed on, unless they can be taken for one that the proxy sets"},
	{Name: "error-log-level", By: ByFlag, Equal: "--log-level", Same: []string{"notice"}},
	{Name: "error-log-path", By: Needless, Why: "messages go to standard error"},
	{Name: "force-ssl-redirect", By: ByAnnotation, Equal: "force-ssl-redirect", Same: []string{"false"}},
	{Name: "forwarded-for-header", By: Honoured, Why: "of the agent's --trusted-proxy alone; from all others pods do not get it. X-Forwarded-For, the default, also has Forwarded and X-Real-IP read", Same: []string{"x-forwarded-for"}},
	{Name: "generate-request-id", By: Needless, Why: "X-Request-ID is always there", Same: []string{"true"}},
	{Name: "geoip2-autoreload-in-minutes", By: NotSupported, Why: "there are no maps of countries", Same: []string{"0"}},
	{Name: "global-allowed-response-headers", By: Honoured, Why: "the agent's --global-allowed-response-headers takes precedence"},
	{Name: "global-auth-always-set-cookie", By: Honoured, Why: "as auth-always-set-cookie, for Ingresses without auth-url"},
	{Name: "global-auth-cache-duration", By: Honoured, Why: "as auth-cache-duration"},
	{Name: "global-auth-cache-key", By: Honoured, Why: "as auth-cache-key"},
	{Name: "global-auth-method", By: Honoured, Why: "as auth-method"},
	{Name: "global-auth-request-redirect", By: Honoured, Why: "as auth-request-redirect"},
	{Name: "global-auth-response-headers", By: Honoured, Why: "as auth-response-headers"},
	{Name: "global-auth-signin", By: Honoured, Why: "as auth-signin"},
	{Name: "global-auth-signin-redirect-param", By: Honoured, Why: "as auth-signin-redirect-param"},
	{Name: "global-auth-snippet", By: Honoured, Why: "as auth-snippet"},
	{Name: "global-auth-url", By: Honoured, Why: "for Ingresses without auth-url, unless enable-global-auth is false; what cannot be read of it refuses every request of theirs"},
	{Name: "grpc-buffer-size-kb", By: Needless, Why: whyStreams},
	{Name: "gzip-disable", By: Needless, Why: "clients say what they take in Accept-Encoding"},
	{Name: "gzip-level", By: Needless, Why: "the level is fixed"},
	{Name: "gzip-min-length", By: ByFlag, Equal: "--compression-min-bytes"},
	{Name: "gzip-types", By: ByFlag, Equal: "--compression-types"},
	{Name: "hide-headers", By: Honoured},
	{Name: "hsts", By: Honoured, Why: "true unless it says otherwise, as in ingress-nginx; the agent's --hsts takes precedence; sent over TLS for every host"},
	{Name: "hsts-include-subdomains", By: Honoured, Why: "true unless it says otherwise"},
	{Name: "hsts-max-age", By: Honoured, Why: "31536000 unless it says otherwise"},
	{Name: "hsts-preload", By: Honoured},
	{Name: "http-access-log-path", By: Needless, Why: whyLogPlace},
	{Name: "http-redirect-code", By: NotSupported, Why: "redirects to https have status 308", Same: []string{"308"}},
	{Name: "http-snippet", By: NotSupported, Why: "it is not executed; server-snippet and location-snippet are read"},
	{Name: "http2-max-concurrent-streams", By: ByFlag, Equal: "--max-streams", Same: []string{"128"}},
	{Name: "http2-max-field-size", By: Needless, Why: "--max-head bounds heads of all protocols"},
	{Name: "http2-max-header-size", By: ByFlag, Equal: "--max-head"},
	{Name: "http2-max-requests", By: Needless, Why: "connections have no number of requests after which they end"},
	{Name: "ignore-invalid-headers", By: NotSupported, Why: "requests with invalid headers are refused", Same: []string{"true"}},
	{Name: "keep-alive", By: ByFlag, Equal: "--idle-timeout", Same: []string{"75"}},
	{Name: "keep-alive-requests", By: Needless, Why: "connections have no number of requests after which they end"},
	{Name: "large-client-header-buffers", By: ByFlag, Equal: "--max-head", Same: []string{"4 8k"}},
	{Name: "limit-conn-status-code", By: Honoured, Why: "limit-req-status-code takes precedence, as both limits refuse with one status", Same: []string{"503"}},
	{Name: "limit-conn-zone-variable", By: NotSupported, Why: "connections are counted by client address, of IPv6 by /64", Same: []string{"$binary_remote_addr"}},
	{Name: "limit-rate", By: ByAnnotation, Equal: "limit-rate"},
	{Name: "limit-rate-after", By: ByAnnotation, Equal: "limit-rate-after"},
	{Name: "limit-req-status-code", By: Honoured, Same: []string{"503"}},
	{Name: "load-balance", By: ByAnnotation, Equal: "load-balance"},
	{Name: "location-snippet", By: Honoured, Why: "read like configuration-snippet, before it"},
	{Name: "log-format-escape-json", By: ByFlag, Equal: "--access-log-format json"},
	{Name: "log-format-escape-none", By: ByFlag, Equal: "--access-log-format", Same: []string{"false"}},
	{Name: "log-format-stream", By: Needless, Why: whyNoStream},
	{Name: "log-format-upstream", By: ByFlag, Equal: "--access-log-format"},
	{Name: "lua-shared-dicts", By: Needless, Why: whyInside},
	{Name: "main-snippet", By: NotSupported, Why: "it is not executed"},
	{Name: "map-hash-bucket-size", By: Needless, Why: whyInside},
	{Name: "max-worker-connections", By: ByFlag, Equal: "--max-connections"},
	{Name: "max-worker-open-files", By: Needless, Why: whyInside},
	{Name: "modsecurity-snippet", By: NotSupported, Why: whyModSec},
	{Name: "nginx-status-ipv4-whitelist", By: Needless, Why: "there is no such page; metrics are served on --metrics-address"},
	{Name: "nginx-status-ipv6-whitelist", By: Needless, Why: "there is no such page; metrics are served on --metrics-address"},
	{Name: "no-auth-locations", By: Honoured, Why: "paths that begin with one of them; those of a regular expression only if they are literal", Same: []string{"/.well-known/acme-challenge"}},
	{Name: "no-tls-redirect-locations", By: Honoured, Why: "in addition to those of ACME", Same: []string{"/.well-known/acme-challenge"}},
	{Name: "opentelemetry-config", By: Needless, Why: "traces go to the agent's --otlp-endpoint"},
	{Name: "opentelemetry-operation-name", By: ByAnnotation, Equal: "opentelemetry-operation-name"},
	{Name: "opentelemetry-trust-incoming-span", By: ByFlag, Equal: "--trace-trust", Same: []string{"false"}},
	{Name: "otel-max-export-batch-size", By: Needless, Why: "batches are bounded by themselves"},
	{Name: "otel-max-queuesize", By: Needless, Why: "the queue is bounded by itself"},
	{Name: "otel-sampler", By: ByFlag, Equal: "--trace-ratio, --trace-trust"},
	{Name: "otel-sampler-parent-based", By: ByFlag, Equal: "--trace-trust"},
	{Name: "otel-sampler-ratio", By: ByFlag, Equal: "--trace-ratio"},
	{Name: "otel-schedule-delay-millis", By: Needless, Why: "batches are bounded by themselves"},
	{Name: "otel-service-name", By: NotSupported, Why: "the service is called kerngate"},
	{Name: "otlp-collector-host", By: ByFlag, Equal: "--otlp-endpoint"},
	{Name: "otlp-collector-port", By: ByFlag, Equal: "--otlp-endpoint"},
	{Name: "plugins", By: NotSupported, Why: "Lua is not executed"},
	{Name: "preserve-trailing-slash", By: ByAnnotation, Equal: "preserve-trailing-slash", Same: []string{"false"}},
	{Name: "proxy-add-original-uri-header", By: NotSupported, Why: "pods do not get X-Original-Uri: proxy-set-headers can set it to $request_uri", Same: []string{"false"}},
	{Name: "proxy-body-size", By: ByAnnotation, Equal: "proxy-body-size", Why: "without the key the agent's --max-body holds, not 1m", Same: []string{"0"}},
	{Name: "proxy-buffer-size", By: ByAnnotation, Equal: "proxy-buffer-size", Same: []string{"4k", "8k", "16k", "32k"}},
	{Name: "proxy-buffering", By: Needless, Why: whyStreams},
	{Name: "proxy-buffers-number", By: Needless, Why: whyStreams},
	{Name: "proxy-busy-buffers-size", By: Needless, Why: whyStreams},
	{Name: "proxy-connect-timeout", By: ByAnnotation, Equal: "proxy-connect-timeout", Same: []string{"5"}},
	{Name: "proxy-cookie-domain", By: ByAnnotation, Equal: "proxy-cookie-domain", Same: []string{"off"}},
	{Name: "proxy-cookie-path", By: ByAnnotation, Equal: "proxy-cookie-path", Same: []string{"off"}},
	{Name: "proxy-headers-hash-bucket-size", By: Needless, Why: whyInside},
	{Name: "proxy-headers-hash-max-size", By: Needless, Why: whyInside},
	{Name: "proxy-http-version", By: ByAnnotation, Equal: "proxy-http-version", Same: []string{"1.1"}},
	{Name: "proxy-max-temp-file-size", By: Needless, Why: "responses are never written to a file"},
	{Name: "proxy-next-upstream", By: ByAnnotation, Equal: "proxy-next-upstream"},
	{Name: "proxy-next-upstream-timeout", By: ByAnnotation, Equal: "proxy-next-upstream-timeout"},
	{Name: "proxy-next-upstream-tries", By: ByAnnotation, Equal: "proxy-next-upstream-tries"},
	{Name: "proxy-protocol-header-timeout", By: ByFlag, Equal: "--head-timeout", Why: "it bounds the PROXY header, too", Same: []string{"5s"}},
	{Name: "proxy-read-timeout", By: ByAnnotation, Equal: "proxy-read-timeout", Same: []string{"60"}},
	{Name: "proxy-real-ip-cidr", By: ByFlag, Equal: "--trusted-proxy", Why: "or --proxy-protocol-from, where use-proxy-protocol is true"},
	{Name: "proxy-redirect-from", By: ByAnnotation, Equal: "proxy-redirect-from", Same: []string{"off"}},
	{Name: "proxy-redirect-to", By: ByAnnotation, Equal: "proxy-redirect-to", Same: []string{"off"}},
	{Name: "proxy-request-buffering", By: ByAnnotation, Equal: "proxy-request-buffering"},
	{Name: "proxy-send-timeout", By: ByAnnotation, Equal: "proxy-send-timeout", Same: []string{"60"}},
	{Name: "proxy-set-headers", By: Honoured, Why: "the ConfigMap that it names is watched; values of the request may stand in it"},
	{Name: "proxy-ssl-location-only", By: Needless, Why: "proxy-ssl-* hold for the Ingress's own pods", Same: []string{"false"}},
	{Name: "proxy-stream-next-upstream", By: Needless, Why: whyNoStream},
	{Name: "proxy-stream-next-upstream-timeout", By: Needless, Why: whyNoStream},
	{Name: "proxy-stream-next-upstream-tries", By: Needless, Why: whyNoStream},
	{Name: "proxy-stream-responses", By: Needless, Why: whyNoStream},
	{Name: "proxy-stream-timeout", By: Needless, Why: whyNoStream},
	{Name: "relative-redirects", By: ByAnnotation, Equal: "relative-redirects", Same: []string{"false"}},
	{Name: "retry-non-idempotent", By: Honoured, Same: []string{"false"}},
	{Name: "reuse-port", By: Needless, Why: "every worker has a socket of its own"},
	{Name: "server-name-hash-bucket-size", By: Needless, Why: whyInside},
	{Name: "server-name-hash-max-size", By: Needless, Why: whyInside},
	{Name: "server-snippet", By: Honoured, Why: "read like the annotation server-snippet, before it; its locations hold for Ingresses of their own host"},
	{Name: "server-tokens", By: Needless, Why: "the proxy does not name itself in responses of pods"},
	{Name: "service-upstream", By: ByAnnotation, Equal: "service-upstream", Same: []string{"false"}},
	{Name: "skip-access-log-urls", By: NotSupported, Why: "enable-access-log leaves out the requests of an Ingress"},
	{Name: "ssl-buffer-size", By: Needless, Why: whyInside},
	{Name: "ssl-ciphers", By: ByFlag, Equal: "--tls-suite", Why: whySuites},
	{Name: "ssl-dh-param", By: NotSupported, Why: "key exchange by finite fields is not offered"},
	{Name: "ssl-early-data", By: NotSupported, Why: "data before the handshake has ended could be repeated by others", Same: []string{"false"}},
	{Name: "ssl-ecdh-curve", By: NotSupported, Why: "the curves are those that crypto/tls prefers", Same: []string{"auto"}},
	{Name: "ssl-protocols", By: ByFlag, Equal: "--tls-min-version", Why: whyTooOld, Same: []string{"tlsv1.2 tlsv1.3"}},
	{Name: "ssl-redirect", By: ByAnnotation, Equal: "ssl-redirect", Same: []string{"true"}},
	{Name: "ssl-reject-handshake", By: NotSupported, Why: "unknown names get the default certificate", Same: []string{"false"}},
	{Name: "ssl-session-cache", By: Needless, Why: "sessions are resumed by tickets, whose keys nodes share"},
	{Name: "ssl-session-cache-size", By: Needless, Why: "sessions are resumed by tickets, whose keys nodes share"},
	{Name: "ssl-session-ticket-key", By: Needless, Why: "the agents share the keys, and change them"},
	{Name: "ssl-session-tickets", By: Needless, Why: "sessions are resumed by tickets, whose keys nodes share"},
	{Name: "ssl-session-timeout", By: Needless, Why: "tickets are good as long as their keys"},
	{Name: "stream-access-log-path", By: Needless, Why: whyNoStream},
	{Name: "stream-snippet", By: NotSupported, Why: "it is not executed"},
	{Name: "strict-validate-path-type", By: Needless, Why: "no path is pasted into a configuration"},
	{Name: "syslog-host", By: NotSupported, Why: whyLogPlace},
	{Name: "syslog-port", By: NotSupported, Why: whyLogPlace},
	{Name: "upstream-hash-by", By: ByAnnotation, Equal: "upstream-hash-by"},
	{Name: "upstream-hash-by-subset", By: ByAnnotation, Equal: "upstream-hash-by-subset"},
	{Name: "upstream-hash-by-subset-size", By: ByAnnotation, Equal: "upstream-hash-by-subset-size"},
	{Name: "upstream-keepalive-connections", By: Needless, Why: "connections to pods are kept as long as they are of use"},
	{Name: "upstream-keepalive-requests", By: Needless, Why: "connections to pods are kept as long as they are of use"},
	{Name: "upstream-keepalive-time", By: Needless, Why: "connections to pods are kept as long as they are of use"},
	{Name: "upstream-keepalive-timeout", By: Needless, Why: "connections to pods are kept as long as they are of use"},
	{Name: "use-forwarded-headers", By: ByFlag, Equal: "--trusted-proxy", Why: "it takes the addresses of the proxies in front", Same: []string{"false"}},
	{Name: "use-geoip", By: NotSupported, Why: "there are no maps of countries", Same: []string{"false"}},
	{Name: "use-geoip2", By: NotSupported, Why: "there are no maps of countries", Same: []string{"false"}},
	{Name: "use-gzip", By: ByFlag, Equal: "--compression gzip", Same: []string{"false"}},
	{Name: "use-http2", By: ByFlag, Equal: "--disable-http2", Same: []string{"true"}},
	{Name: "use-port-in-redirects", By: ByAnnotation, Equal: "use-port-in-redirects", Same: []string{"false"}},
	{Name: "use-proxy-protocol", By: ByFlag, Equal: "--proxy-protocol-from", Why: "it takes the addresses of the proxies in front", Same: []string{"false"}},
	{Name: "variables-hash-bucket-size", By: Needless, Why: whyInside},
	{Name: "variables-hash-max-size", By: Needless, Why: whyInside},
	{Name: "whitelist-source-range", By: ByAnnotation, Equal: "whitelist-source-range"},
	{Name: "worker-cpu-affinity", By: Needless, Why: whyInside},
	{Name: "worker-processes", By: ByFlag, Equal: "--proxy-workers"},
	{Name: "worker-serial-reloads", By: Needless, Why: "nothing is reloaded"},
	{Name: "worker-shutdown-timeout", By: ByFlag, Equal: "--drain-timeout", Same: []string{"240s"}},
}
