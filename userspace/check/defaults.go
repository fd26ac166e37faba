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
	"Request buffering: ingress-nginx reads a whole request body before it asks a pod; Kerngate does not wait for the whole of a long one.",
	"Strict-Transport-Security: ingress-nginx sends it by default with TLS; Kerngate sends it if the agent's --hsts is set.",
	"Access log: ingress-nginx writes one by default; Kerngate writes one if the agent's --access-log is on.",
	"Regular expressions: Kerngate's are RE2's, without look-around and back references.",
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
	"proxy-buffer-size":            "nothing to set: responses are streamed",
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
		switch equal, known := settings[key]; {
		case known && equal == "":
			find(key, Error, "a setting of ingress-nginx's controller that has no equal for all Ingresses here; annotations may do it for each")
		case known:
			find(key, Warning, "a setting of ingress-nginx's controller; here it is "+equal)
		}
	}
	return out
}
