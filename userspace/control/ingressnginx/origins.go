package ingressnginx

import (
	"slices"

	"github.com/kerngate/kerngate/userspace/model"
)

// setBy notes that an annotation asked for a kind of rule, and no other did.
func (r *reader) setBy(kind model.RuleKind, key string) {
	r.setOrigin(kind, r.by(key))
}

func (r *reader) setOrigin(kind model.RuleKind, by string) {
	if r.policy.Origins == nil {
		r.policy.Origins = model.Origins{}
	}
	r.policy.Origins[kind] = []string{by}
}

// addBy notes that an annotation asked for a part of a kind of rules.
func (r *reader) addBy(kind model.RuleKind, key string) {
	r.addOrigin(kind, r.by(key))
}

func (r *reader) addOrigin(kind model.RuleKind, by string) {
	if have := r.policy.Origins[kind]; len(have) == 0 {
		r.setOrigin(kind, by)
	} else if !slices.Contains(have, by) {
		r.policy.Origins[kind] = append(have, by)
	}
}

// noteOrigins completes what setBy has noted, where a kind of rule can come from nothing but
// some annotations: those of them that the Ingress has.
func (r *reader) noteOrigins() {
	p := &r.policy
	for _, o := range []struct {
		kind model.RuleKind
		used bool
		keys []string
	}{
		{model.RuleCORS, p.CORS != nil, []string{"enable-cors"}},
		{model.RuleRate, p.Limits != nil && len(p.Limits.Rates) > 0, []string{"limit-rps", "limit-rpm", "limit-burst-multiplier"}},
		{model.RuleConnections, p.Limits != nil && p.Limits.Connections > 0, []string{"limit-connections"}},
		{model.RuleBasic, p.Access != nil && p.Access.Basic != nil, []string{"auth-type", "auth-secret"}},
		{model.RuleExternal, p.Access != nil && p.Access.External != nil, []string{"auth-url", "auth-signin"}},
		{model.RuleMaxBody, p.MaxBody != nil, []string{"proxy-body-size"}},
		{model.RuleBuffering, p.Buffering != model.BufferAuto, []string{"proxy-request-buffering"}},
		{model.RuleRewrite, p.Rewrite != nil, []string{"rewrite-target"}},
		{model.RuleCookieDomain, len(p.CookieDomains) > 0, []string{"proxy-cookie-domain"}},
		{model.RuleCookiePath, len(p.CookiePaths) > 0, []string{"proxy-cookie-path"}},
		{model.RuleLocation, len(p.Locations) > 0, []string{"proxy-redirect-from", "proxy-redirect-to"}},
		{model.RuleTimeouts, p.Timeouts != model.Timeouts{}, []string{"proxy-connect-timeout", "proxy-send-timeout", "proxy-read-timeout"}},
		{model.RuleResponseHead, p.MaxResponseHead > 0, []string{"proxy-buffer-size"}},
		{model.RuleUnlogged, p.Unlogged, []string{"enable-access-log"}},
		{model.RuleBalance, p.Balance != nil, []string{"load-balance", "upstream-hash-by", "upstream-hash-by-subset"}},
		{model.RuleAffinity, p.Balance != nil && p.Balance.Affinity != nil, []string{"affinity", "affinity-mode"}},
		{model.RuleRetry, p.Retry != nil, []string{"proxy-next-upstream", "proxy-next-upstream-tries", "proxy-next-upstream-timeout"}},
		{model.RuleMirror, len(p.Mirrors) > 0, []string{"mirror-target"}},
		{model.RuleErrorPages, p.ErrorPages != nil, []string{"custom-http-errors"}},
		{model.RuleFallback, p.Fallback != model.ServiceKey{}, []string{"default-backend"}},
		{model.RulePace, p.Pace != nil, []string{"limit-rate", "limit-rate-after"}},
		{model.RuleTrace, p.Trace != nil, []string{"enable-opentelemetry", "opentelemetry-operation-name", "opentelemetry-trust-incoming-span"}},
	} {
		for _, key := range o.keys {
			if _, from := r.setting(key); o.used && (from || r.in.Annotations[Prefix+key] != "") {
				r.addBy(o.kind, key)
			}
		}
	}
}
