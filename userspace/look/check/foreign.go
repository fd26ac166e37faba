package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// product is another ingress controller, whose annotations Kerngate does not read.
type product struct {
	prefix string // of its keys
	name   string
	level  Level
	// equals are its keys, without the prefix, and the annotations of ingress-nginx that do
	// the same here; a value in braces is the one to set.
	equals map[string]string
}

// f5 is taken for ingress-nginx by many, so that its rules are missed: an error.
var f5 = map[string]string{
	"rewrites": "rewrite-target", "ssl-services": "backend-protocol {HTTPS}", "grpc-services": "backend-protocol {GRPC}",
	"client-max-body-size": "proxy-body-size", "proxy-connect-timeout": "proxy-connect-timeout", "proxy-read-timeout": "proxy-read-timeout",
	"proxy-send-timeout": "proxy-send-timeout", "proxy-buffering": "proxy-buffering", "proxy-buffer-size": "proxy-buffer-size",
	"proxy-max-temp-file-size": "proxy-max-temp-file-size", "redirect-to-https": "force-ssl-redirect", "location-snippets": "configuration-snippet",
	"server-snippets": "server-snippet", "lb-method": "load-balance", "sticky-cookie-services": "affinity {cookie}", "proxy-hide-headers": "configuration-snippet {proxy_hide_header NAME;}",
	"proxy-set-headers": "configuration-snippet {proxy_set_header NAME VALUE;}", "path-regex": "use-regex", "basic-auth-secret": "auth-secret, with auth-type", "basic-auth-realm": "auth-realm",
	"limit-req-rate": "limit-rps", "limit-req-zone-size": "", "websocket-services": "", "keepalive": "", "server-tokens": "", "use-cluster-ip": "service-upstream",
	"rewrite-target": "rewrite-target", "http-redirect-code": "permanent-redirect-code", "app-root": "app-root", "ssl-redirect": "ssl-redirect",
	"hsts": "", "mergeable-ingress-type": "",
}

var products = []product{
	{"nginx.org/", "F5's NGINX Ingress Controller", Error, f5},
	{"nginx.com/", "F5's NGINX Ingress Controller for NGINX Plus", Error, map[string]string{
		"sticky-cookie-services": "affinity {cookie}", "jwt-key": "auth-url", "jwt-realm": "auth-url", "health-checks": "", "slow-start": "",
	}},
	{"haproxy.org/", "HAProxy Technologies' ingress controller", Warning, map[string]string{
		"allow-list": "allowlist-source-range", "whitelist": "allowlist-source-range", "deny-list": "denylist-source-range", "blacklist": "denylist-source-range",
		"auth-type": "auth-type", "auth-secret": "auth-secret", "auth-realm": "auth-realm", "cors-enable": "enable-cors", "cors-allow-origin": "cors-allow-origin",
		"cors-allow-methods": "cors-allow-methods", "cors-allow-headers": "cors-allow-headers", "cors-allow-credentials": "cors-allow-credentials", "cors-max-age": "cors-max-age",
		"path-rewrite": "rewrite-target", "set-host": "upstream-vhost", "request-redirect": "permanent-redirect", "request-redirect-code": "permanent-redirect-code",
		"ssl-redirect": "ssl-redirect", "ssl-passthrough": "ssl-passthrough", "server-ssl": "backend-protocol {HTTPS}", "server-proto": "backend-protocol {GRPC}", "server-ca": "proxy-ssl-secret",
		"server-crt": "proxy-ssl-secret", "cookie-persistence": "affinity {cookie}", "load-balance": "load-balance", "rate-limit-requests": "limit-rps or limit-rpm",
		"rate-limit-period": "limit-rps or limit-rpm", "timeout-connect": "proxy-connect-timeout", "timeout-server": "proxy-read-timeout", "request-set-header": "configuration-snippet {proxy_set_header NAME VALUE;}",
		"response-set-header": "configuration-snippet {more_set_headers \"NAME: VALUE\";}", "client-ca": "auth-tls-secret",
	}},
	{"haproxy-ingress.github.io/", "HAProxy Ingress (jcmoraisjr)", Warning, map[string]string{
		"rewrite-target": "rewrite-target", "app-root": "app-root", "ssl-redirect": "ssl-redirect", "allowlist-source-range": "allowlist-source-range", "whitelist-source-range": "allowlist-source-range",
		"denylist-source-range": "denylist-source-range", "auth-secret": "auth-secret", "auth-url": "auth-url", "auth-signin": "auth-signin", "auth-tls-secret": "auth-tls-secret",
		"backend-protocol": "backend-protocol", "cors-enable": "enable-cors", "proxy-body-size": "proxy-body-size", "limit-rps": "limit-rps", "limit-connections": "limit-connections",
		"affinity": "affinity", "ssl-passthrough": "ssl-passthrough", "redirect-to": "permanent-redirect", "server-alias": "server-alias",
	}},
	{"traefik.ingress.kubernetes.io/", "Traefik", Warning, map[string]string{
		"router.entrypoints": "ssl-redirect and force-ssl-redirect", "router.middlewares": "the annotations that do what the Middleware does", "router.tls": "spec.tls of the Ingress",
		"router.tls.certresolver": "cert-manager with spec.tls", "service.sticky.cookie": "affinity {cookie}", "service.sticky.cookie.name": "session-cookie-name",
		"service.serversscheme": "backend-protocol", "service.passhostheader": "upstream-vhost", "redirect-entry-point": "force-ssl-redirect", "rewrite-target": "rewrite-target",
		"whitelist-source-range": "allowlist-source-range", "app-root": "app-root", "auth-type": "auth-type", "auth-secret": "auth-secret", "redirect-permanent": "permanent-redirect",
		"rule-type": "rewrite-target",
	}},
	{"ingress.kubernetes.io/", "an old ingress-nginx, Traefik 1 or HAProxy Ingress", Warning, nil},
	{"alb.ingress.kubernetes.io/", "the AWS Load Balancer Controller", Warning, map[string]string{
		"ssl-redirect": "force-ssl-redirect", "backend-protocol": "backend-protocol", "inbound-cidrs": "allowlist-source-range", "certificate-arn": "spec.tls of the Ingress",
		"auth-type": "auth-url", "target-group-attributes": "affinity {cookie}", "healthcheck-path": "", "scheme": "", "listen-ports": "", "target-type": "",
	}},
	{"appgw.ingress.kubernetes.io/", "Azure's Application Gateway Ingress Controller", Warning, map[string]string{
		"backend-path-prefix": "rewrite-target", "ssl-redirect": "ssl-redirect", "backend-protocol": "backend-protocol", "backend-hostname": "upstream-vhost",
		"cookie-based-affinity": "affinity {cookie}", "request-timeout": "proxy-read-timeout", "connection-draining": "",
	}},
	{"konghq.com/", "Kong", Warning, map[string]string{
		"strip-path": "rewrite-target", "protocols": "force-ssl-redirect", "https-redirect-status-code": "force-ssl-redirect", "plugins": "the annotations that do what the plugin does",
		"host-aliases": "server-alias", "preserve-host": "upstream-vhost",
	}},
	{"projectcontour.io/", "Contour", Warning, map[string]string{
		"response-timeout": "proxy-read-timeout", "num-retries": "proxy-next-upstream-tries", "retry-on": "proxy-next-upstream", "websocket-routes": "", "tls-minimum-protocol-version": "",
	}},
	{"ingress.citrix.com/", "Citrix's ingress controller", Warning, nil},
	{"zalando.org/", "Skipper", Warning, nil},
	{"getambassador.io/", "Ambassador (Emissary)", Warning, nil},
	{"ingress.gcp.kubernetes.io/", "Google Cloud's ingress", Warning, nil},
	{"networking.gke.io/", "Google Cloud's ingress", Warning, nil},
	{"ingress.cloud.ibm.com/", "IBM Cloud's ALB", Warning, nil},
}

// otherControllers are annotations that belong to other ingress controllers.
func (p placed) otherControllers() (out []Finding) {
	for _, key := range slices.Sorted(maps.Keys(p.Annotations())) {
		for _, product := range products {
			name, ours := strings.CutPrefix(key, product.prefix)
			if !ours {
				continue
			}
			out = append(out, Finding{File: p.file, Line: p.line("metadata", "annotations", key), Object: p.object(), Key: key, Verdict: "foreign", Level: product.level,
				Message: fmt.Sprintf("%s reads this key; ingress-nginx did not, and Kerngate does not%s", product.name, product.hint(name))})
		}
	}
	return out
}

// hint says what does the same here.
func (p *product) hint(name string) string {
	equal, known := p.equals[name]
	if !known {
		// Products that have forked ingress-nginx's words have them under their own prefix.
		if _, same := ingressnginx.Lookup(name); same {
			equal, known = name, true
		}
	}
	switch first, value, valued := strings.Cut(equal, " {"); {
	case !known:
		return ": docs/annotations.md lists the keys that are read"
	case equal == "":
		return ", and needs nothing in its place"
	case strings.Contains(first, " "):
		return ": use " + equal
	case valued:
		return fmt.Sprintf(": use %s%s: %s", ingressnginx.Prefix, first, strings.TrimSuffix(value, "}"))
	}
	return ": use " + ingressnginx.Prefix + equal
}
