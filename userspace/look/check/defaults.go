package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
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
	"Redirects to https: they come before the returns of snippets, permanent-redirect and temporal-redirect, and have no CORS headers; ingress-nginx answers a request in clear text with those.",
	"X-Original-Forwarded-For and X-Original-Forwarded-Host: ingress-nginx sends pods what the client wrote of itself; Kerngate does not.",
	"Backends of kind resource: Kerngate answers 503, ingress-nginx 404.",
	"Load balancing: ingress-nginx asks the pods of a Service in turn; Kerngate takes the less loaded of two random ones (--load-balancing, or the annotation load-balance).",
	"Pages of the proxy's own: an error has a short text that begins with its reason, not nginx's page of HTML; the default certificate is called Kerngate's.",
	"Access log: ingress-nginx writes one by default; Kerngate writes one if the agent's --access-log is on.",
	"Regular expressions: Kerngate's are RE2's, without look-around and back references; a path that has them is not served.",
}

// configMap judges the ConfigMaps of ingress-nginx itself. read is set if it is judged as the
// agent's --ingress-nginx-configmap, whose problems are told by the translation.
func configMap(p placed, read bool) (out []Finding) {
	data := p.ConfigData()
	if data == nil || !read && p.Ref.Name != "tcp-services" && p.Ref.Name != "udp-services" && !strings.Contains(p.Ref.Name, "nginx") {
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
		s, known := ingressnginx.LookupSetting(key)
		why := ""
		if s.Why != "" {
			why = ": " + s.Why
		}
		switch {
		case !known || !s.Asks(data[key]):
		case s.By == ingressnginx.ByFlag:
			find(key, Warning, "a setting of ingress-nginx's controller; here it is the agent's "+s.Equal+why)
		case s.By == ingressnginx.NotSupported:
			find(key, Error, "a setting of ingress-nginx's controller that is not supported"+why)
		case !read:
			find(key, Warning, fmt.Sprintf("a setting of ingress-nginx's controller that is honoured if the agent has --ingress-nginx-configmap %s/%s%s", cmp.Or(p.Ref.Namespace, "default"), p.Ref.Name, why))
		}
	}
	return out
}

// Defaults are the differences that hold for every Ingress.
func Defaults() []string { return slices.Clone(defaults) }
