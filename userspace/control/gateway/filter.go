package gateway

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// policy returns what the filters of a rule ask for at a listener, nil for nothing.
func (t *translation) policy(r *httpRoute, spec *gatewayv1.HTTPRouteRule, m match, scheme string, port uint16) (*model.Policy, fault) {
	if len(spec.Filters) == 0 {
		return nil, fault{}
	}
	p, wrong := withHeaders(&model.Policy{}, slices.DeleteFunc(slices.Clone(spec.Filters), func(f gatewayv1.HTTPRouteFilter) bool { return !isHeaders(f.Type) }))
	for i := 0; i < len(spec.Filters) && !wrong.any(); i++ {
		switch f := &spec.Filters[i]; {
		case isHeaders(f.Type):
		case f.Type == gatewayv1.HTTPRouteFilterRequestRedirect && f.RequestRedirect != nil:
			wrong = addRedirect(p, f.RequestRedirect, m, scheme, port)
		case f.Type == gatewayv1.HTTPRouteFilterURLRewrite && f.URLRewrite != nil:
			wrong = addRewrite(p, f.URLRewrite, m)
		case f.Type == gatewayv1.HTTPRouteFilterRequestMirror && f.RequestMirror != nil:
			wrong = t.addMirror(p, r, f.RequestMirror)
		default:
			wrong = unsupported("filter %s is not supported yet", f.Type)
		}
	}
	return p, wrong
}

func isHeaders(t gatewayv1.HTTPRouteFilterType) bool {
	return t == gatewayv1.HTTPRouteFilterRequestHeaderModifier || t == gatewayv1.HTTPRouteFilterResponseHeaderModifier
}

// withHeaders returns a copy of a policy with what filters do to headers, which are all that a
// backend may have.
func withHeaders(p *model.Policy, filters []gatewayv1.HTTPRouteFilter) (*model.Policy, fault) {
	out := *p
	out.RequestHeaders, out.ResponseHeaders = slices.Clone(p.RequestHeaders), slices.Clone(p.ResponseHeaders)
	for _, f := range filters {
		switch {
		case f.Type == gatewayv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil:
			for _, h := range f.RequestHeaderModifier.Set {
				if !strings.EqualFold(string(h.Name), "Host") {
					continue
				}
				if wrong := checkHeader("Request-Host", h.Value); wrong.any() {
					return p, wrong
				}
				out.Host = h.Value
			}
			rules, wrong := headerRules(f.RequestHeaderModifier, string(f.Type), true)
			if wrong.any() {
				return p, wrong
			}
			out.RequestHeaders = append(out.RequestHeaders, rules...)
		case f.Type == gatewayv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil:
			rules, wrong := headerRules(f.ResponseHeaderModifier, string(f.Type), false)
			if wrong.any() {
				return p, wrong
			}
			out.ResponseHeaders = append(out.ResponseHeaders, rules...)
		default:
			return p, unsupported("filter %s is not supported here", f.Type)
		}
	}
	return &out, fault{}
}

// headerRules returns what a filter does to headers.
func headerRules(f *gatewayv1.HTTPHeaderFilter, by string, ofRequest bool) (out []model.HeaderRule, wrong fault) {
	add := func(op model.HeaderOp, name, value string) {
		if ofRequest && op == model.SetHeader && value != "" && strings.EqualFold(name, "Host") {
			return // Policy.Host
		}
		if w := checkHeader(name, value); w.any() {
			wrong = w
			return
		}
		out = append(out, model.HeaderRule{Op: op, Name: name, Value: value, By: by})
	}
	for _, h := range f.Set {
		add(model.SetHeader, string(h.Name), h.Value)
	}
	for _, h := range f.Add {
		add(model.AddHeader, string(h.Name), h.Value)
	}
	for _, name := range f.Remove {
		add(model.SetHeader, name, "")
	}
	return out, wrong
}

func checkHeader(name, value string) fault {
	if err := rule.FieldName(name); err != nil {
		return unsupported("%v", err)
	}
	if !rule.FieldValue(value) {
		return unsupported("the value of header %s contains a control character", name)
	}
	return checkText("the value of header "+name, value)
}

// checkText: in a policy a dollar sign begins the name of a value.
func checkText(what, text string) fault {
	if strings.Contains(text, "$") {
		return unsupported("%s contains a dollar sign, which is not supported yet", what)
	}
	if _, err := template.Parse(text); err != nil {
		return unsupported("%s: %v", what, err)
	}
	return fault{}
}

// addRedirect adds a redirect as the listener that gets the request has it: unless the filter says
// otherwise, its scheme and its port.
func addRedirect(p *model.Policy, f *gatewayv1.HTTPRequestRedirectFilter, m match, listenerScheme string, port uint16) fault {
	scheme := listenerScheme
	if f.Scheme != nil {
		if scheme = *f.Scheme; scheme != "http" && scheme != "https" {
			return unsupported("requestRedirect.scheme %q is neither http nor https", rule.Shorten(scheme))
		}
	}
	wellKnown := map[string]uint16{"http": 80, "https": 443}[scheme]
	switch {
	case f.Port != nil:
		port = uint16(*f.Port)
	case f.Scheme != nil:
		port = wellKnown
	}
	base := scheme + "://$host"
	if f.Hostname != nil && *f.Hostname != "" {
		if wrong := checkText("requestRedirect.hostname", string(*f.Hostname)); wrong.any() {
			return wrong
		}
		base = scheme + "://" + string(*f.Hostname)
	}
	if port != wellKnown {
		base += fmt.Sprintf(":%d", port)
	}
	d := model.Redirect{Status: 302, By: string(gatewayv1.HTTPRouteFilterRequestRedirect)}
	if f.StatusCode != nil {
		d.Status = *f.StatusCode
	}
	if !slices.Contains([]int{301, 302, 303, 307, 308}, d.Status) {
		return unsupported("requestRedirect.statusCode %d is none of 301, 302, 303, 307 and 308", d.Status)
	}
	if f.Path == nil {
		d.Target = base + "$uri$is_args$args"
		p.Redirects = append(p.Redirects, d)
		return fault{}
	}
	pattern, to, wrong := replacement(f.Path, m)
	if wrong.any() {
		return wrong
	}
	d.Pattern, d.Target, d.Query = pattern, base+to, true
	if _, _, err := rule.Redirect(d.Status, d.Target, d.Pattern); err != nil {
		return unsupported("requestRedirect: %v", err)
	}
	p.Redirects = append(p.Redirects, d)
	return fault{}
}

// addRewrite adds another host and path for the backend.
func addRewrite(p *model.Policy, f *gatewayv1.HTTPURLRewriteFilter, m match) fault {
	if f.Hostname != nil {
		if wrong := checkText("urlRewrite.hostname", string(*f.Hostname)); wrong.any() {
			return wrong
		}
		p.Host = string(*f.Hostname)
	}
	if f.Path == nil {
		return fault{}
	}
	pattern, to, wrong := replacement(f.Path, m)
	if wrong.any() {
		return wrong
	}
	p.Steps = append(p.Steps, model.Step{Op: model.StepRewrite, Pattern: pattern, Value: to, Then: model.ThenStay})
	return fault{}
}

// replacement returns an expression that every path of the match has, and what takes its place.
func replacement(f *gatewayv1.HTTPPathModifier, m match) (pattern, to string, wrong fault) {
	text := valueOf(f.ReplaceFullPath)
	if f.Type == gatewayv1.PrefixMatchHTTPPathModifier {
		text = valueOf(f.ReplacePrefixMatch)
	}
	if strings.ContainsAny(text, "?#") || text != "" && text[0] != '/' || strings.Contains(text, "//") {
		return "", "", unsupported("the new path %q must begin with a slash, have no empty segment, and neither a query nor a fragment", rule.Shorten(text))
	}
	if wrong := checkText("the new path", text); wrong.any() {
		return "", "", wrong
	}
	switch f.Type {
	case gatewayv1.FullPathHTTPPathModifier:
		if text == "" {
			text = "/"
		}
		return "^", text, fault{}
	case gatewayv1.PrefixMatchHTTPPathModifier:
	default:
		return "", "", unsupported("path.type %s is not supported", f.Type)
	}
	if m.kind != model.Prefix {
		return "", "", unsupported("ReplacePrefixMatch needs a match of type PathPrefix")
	}
	text = strings.TrimSuffix(text, "/")
	if text == "" || m.prefix == "" { // what is left begins with a slash of its own
		return "(?s)^" + regexp.QuoteMeta(m.prefix) + "/?(.*)$", text + "/$1", fault{}
	}
	return "(?s)^" + regexp.QuoteMeta(m.prefix) + "(/.*)?$", text + "$1", fault{}
}

// addMirror adds a service that gets a copy of each request. One that cannot be had gets none.
func (t *translation) addMirror(p *model.Policy, r *httpRoute, f *gatewayv1.HTTPRequestMirrorFilter) fault {
	if f.Percent != nil || f.Fraction != nil {
		return unsupported("requestMirror with percent or fraction is not supported yet")
	}
	key, upstream, wrong := t.backend(r, &f.BackendRef)
	if wrong.any() {
		r.doubt("requestMirror.backendRef", wrong, "no copies are sent there")
		return fault{}
	}
	if upstream != (model.Upstream{}) {
		return unsupported("requestMirror to a backend of HTTP/2 is not supported yet")
	}
	n := types.NamespacedName{Namespace: namespaceOr(f.BackendRef.Namespace, r.Namespace), Name: string(f.BackendRef.Name)}
	p.Mirrors = append(p.Mirrors, model.Mirror{
		To:   model.Destination{Service: key, Authority: fmt.Sprintf("%s.%s.svc:%d", n.Name, n.Namespace, *f.BackendRef.Port), Path: "$uri$is_args$args"},
		Host: "$http_host", Body: true,
	})
	return fault{}
}
