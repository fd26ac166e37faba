package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// defaults are what holds for Ingresses without any annotation, where ingress-nginx and
// Kerngate differ.
var defaults = []string{
	"Request bodies: ingress-nginx refuses more than 1 MiB where proxy-body-size says nothing; Kerngate has no limit unless the agent's --max-body sets one.",
	"Request buffering: ingress-nginx reads a whole request body, to a file if it is large, before it asks a pod. Kerngate passes a body with Content-Length on as it comes; it holds one without up to 4 MiB in memory (--request-buffer-bytes), and a larger one in a file if the proxy has --request-spool-dir, else it answers 411 (--large-requests).",
	"Response heads: ingress-nginx takes 4 KiB where proxy-buffer-size says nothing, Kerngate 32 KiB (--max-response-head).",
	"Retries: ingress-nginx asks up to three pods after an error or a time-out. Kerngate, where proxy-next-upstream says nothing, asks another pod only if the first took no connection, refused the request, or closed a reused connection.",
	"Time-outs: a client has 60 seconds for the head of a request with ingress-nginx, 15 here (--head-timeout); a WebSocket may be silent for 60 seconds there, for an hour here (--tunnel-timeout). Those for pods are the same.",
	"Limits: IPv6 clients are counted by /64 here, by address there.",
	"Request headers with an underscore: ingress-nginx drops them; Kerngate passes them on, unless they can be taken for a header that the proxy sets.",
	"Strict-Transport-Security: ingress-nginx sends it by default with TLS; Kerngate sends it if the agent's --hsts is set.",
	"Access log: ingress-nginx writes one by default; Kerngate writes one if the agent's --access-log is on.",
	"Regular expressions: Kerngate's are RE2's, without look-around and back references; a path that has them is not served.",
}

// settings are keys of ingress-nginx's ConfigMap, and what does the same here; "": nothing.
var settings = map[string]string{
	"proxy-body-size":              "the agent's --max-body, in bytes",
	"hsts":                         "the agent's --hsts",
	"hsts-max-age":                 "the agent's --hsts, such as \"max-age=31536000\"",
	"hsts-include-subdomains":      "the agent's --hsts, such as \"max-age=31536000; includeSubDomains\"",
	"hsts-preload":                 "the agent's --hsts, such as \"max-age=31536000; preload\"",
	"use-forwarded-headers":        "the agent's --trusted-proxy, which takes the addresses of the proxies in front",
	"proxy-real-ip-cidr":           "the agent's --trusted-proxy",
	"enable-real-ip":               "the agent's --trusted-proxy",
	"use-proxy-protocol":           "the agent's --proxy-protocol-from",
	"keep-alive":                   "the agent's --idle-timeout",
	"client-header-timeout":        "the agent's --head-timeout",
	"client-body-timeout":          "the agent's --body-timeout",
	"proxy-connect-timeout":        "the agent's --connect-timeout",
	"proxy-read-timeout":           "the agent's --response-timeout",
	"enable-brotli":                "the agent's --compression, with br",
	"use-gzip":                     "the agent's --compression, with gzip",
	"gzip-types":                   "the agent's --compression-types",
	"brotli-types":                 "the agent's --compression-types",
	"log-format-upstream":          "the agent's --access-log-format",
	"disable-access-log":           "the agent's --access-log",
	"block-cidrs":                  "the agent's --defence, which reads this ConfigMap",
	"proxy-buffer-size":            "the agent's --max-response-head, in bytes, if it is more than 32k",
	"custom-http-errors":           "",
	"block-user-agents":            "",
	"block-referers":               "",
	"hide-headers":                 "",
	"forwarded-for-header":         "",
	"force-ssl-redirect":           "",
	"ssl-redirect":                 "",
	"use-geoip2":                   "",
	"proxy-set-headers":            "",
	"add-headers":                  "",
	"global-auth-url":              "",
	"no-auth-locations":            "",
	"limit-req-status-code":        "",
	"server-snippet":               "",
	"location-snippet":             "",
	"http-snippet":                 "",
	"main-snippet":                 "",
	"enable-modsecurity":           "",
	"enable-owasp-modsecurity-crs": "",
}

// same are values of settings that ask for nothing but what Kerngate does by default.
var same = map[string][]string{
	"proxy-body-size": {"0"}, "hsts": {"false"}, "use-forwarded-headers": {"false"}, "enable-real-ip": {"false"},
	"use-proxy-protocol": {"false"}, "keep-alive": {"75"}, "client-header-timeout": {"15"}, "client-body-timeout": {"60"},
	"proxy-connect-timeout": {"5"}, "proxy-read-timeout": {"60"}, "enable-brotli": {"false"}, "use-gzip": {"false"},
	"disable-access-log": {"true"}, "proxy-buffer-size": {"4k", "8k", "16k", "32k"}, "force-ssl-redirect": {"false"},
	"ssl-redirect": {"true"}, "use-geoip2": {"false"}, "no-auth-locations": {"/.well-known/acme-challenge"},
	"limit-req-status-code": {"503"}, "enable-modsecurity": {"false"}, "enable-owasp-modsecurity-crs": {"false"},
}

// configMap judges the ConfigMaps of ingress-nginx itself.
func configMap(p placed) (out []Finding) {
	data := p.ConfigData()
	if data == nil || p.Ref.Name != "tcp-services" && p.Ref.Name != "udp-services" && !strings.Contains(p.Ref.Name, "nginx") {
		return nil
	}
	find := func(key string, level Level, message string) {
		out = append(out, Finding{File: p.file, Line: p.line("data", key), Object: p.object(), Key: key, Verdict: "setting", Level: level, Message: message})
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if p.Ref.Name == "tcp-services" || p.Ref.Name == "udp-services" {
			flag := "--" + p.Ref.Name + " " + p.Ref.Namespace + "/" + p.Ref.Name
			if strings.HasSuffix(data[key], ":PROXY") || strings.Contains(data[key], ":PROXY:") {
				find(key, Error, fmt.Sprintf("%q: PROXY entries are refused; the others are read if the agent has %s", data[key], flag))
				continue
			}
			find(key, Warning, "is read if the agent has "+flag)
			continue
		}
		value := strings.TrimSpace(data[key])
		switch equal, known := settings[key]; {
		case value == "" || slices.Contains(same[key], strings.ToLower(value)):
		case known && equal == "":
			find(key, Error, "a setting of ingress-nginx's controller that has no equal for all Ingresses here; annotations may do it for each")
		case known:
			find(key, Warning, "a setting of ingress-nginx's controller; here it is "+equal)
		}
	}
	return out
}
