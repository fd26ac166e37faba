package ingressnginx

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Controller is what the ConfigMap of ingress-nginx's controller says for all Ingresses. As
// there, most keys are the values of annotations that an Ingress does not have.
//
// The two rules of annotations hold here, too: a key that cannot be read changes nothing and
// is said, of the ConfigMap and once; but what was meant to keep somebody out keeps everybody
// out of the Ingresses that it is for.
type Controller struct {
	// Name is "namespace/name" of the ConfigMap.
	Name string
	// Closed says why the ConfigMap cannot be had: nobody knows then whom it keeps out. "": it can.
	Closed string
	// NoAuth and NoTLSRedirect begin the paths that are left out of authentication, and of
	// redirects to https. No NoAuth: those of ACME's challenges.
	NoAuth, NoTLSRedirect []string
	// HSTS is the value of Strict-Transport-Security, "": none.
	HSTS string
	// ForwardedFor is the header in which trusted proxies say who the client is, "": the usual.
	ForwardedFor string

	annotations       map[string]string // without Prefix: values for Ingresses that have none
	auth              map[string]string // the same of auth-url and what belongs to it; nil: no global authentication
	server, location  []shared
	hidden            []string           // headers of pods
	response, request []model.HeaderRule // of add-headers, proxy-set-headers
	blocked           []netip.Prefix
	allowedFields     []string
	limitStatus       int
	nonIdempotent     bool
	noSnippets        bool
}

// shared are directives of a key that hold for all Ingresses.
type shared struct {
	key        string
	directives []nginxconf.Directive
}

// Equal reports whether two ConfigMaps say the same.
func (c *Controller) Equal(other *Controller) bool { return reflect.DeepEqual(c, other) }

// NamedConfigMap is one that finds a ConfigMap of any namespace.
type NamedConfigMap func(namespace, name string) (map[string]string, error)

// headerMaps are the keys that name a ConfigMap of headers.
var headerMaps = []string{"add-headers", "proxy-set-headers"}

// HeaderMaps returns the ConfigMaps, "namespace/name", that the controller's ConfigMap of a
// namespace refers to.
func HeaderMaps(data map[string]string) (names []string) {
	for _, key := range headerMaps {
		if namespace, name, err := headerMap(data[key]); err == nil {
			names = append(names, namespace+"/"+name)
		}
	}
	return names
}

// headerMap reads NAMESPACE/NAME.
func headerMap(text string) (namespace, name string, err error) {
	namespace, name, both := strings.Cut(strings.TrimSpace(text), "/")
	if !both || namespace == "" {
		return "", "", fmt.Errorf("%q is not of the form NAMESPACE/NAME", rule.Shorten(text))
	}
	if name, err = configMapName(namespace, name); err != nil {
		return "", "", err
	}
	if _, err = configMapName(name, namespace); err != nil { // a namespace is named likewise
		return "", "", fmt.Errorf("%q is no name of a namespace", rule.Shorten(namespace))
	}
	return namespace, name, nil
}

// ClosedController is one whose ConfigMap cannot be had.
func ClosedController(name, why string) *Controller { return &Controller{Name: name, Closed: why} }

// ReadController reads the ConfigMap that --ingress-nginx-configmap names, "namespace/name".
// The keys of findings are those of the ConfigMap.
func ReadController(name string, data map[string]string, find NamedConfigMap) (*Controller, []Finding) {
	namespace, _, _ := strings.Cut(name, "/")
	r := &controllerReader{c: &Controller{Name: name, annotations: map[string]string{}}, data: data, find: find}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		r.judge(key)
	}
	r.hsts()
	r.forwardedFor()
	r.authentication()
	r.headers()
	r.blocks()
	r.statuses()
	r.snippets()
	r.nonIdempotent()

	// What is wrong with a value shows when an Ingress without annotations has it.
	alone := &reader{in: Ingress{Namespace: namespace, Name: "*", Controller: r.c}, seen: map[string]bool{}, alone: true}
	reading := alone.read()
	for _, f := range reading.Findings {
		if f.Setting != "" && f.Verdict != Supported && f.Verdict != Difference {
			f.Setting = ""
			r.found = append(r.found, f)
		}
	}
	sortFindings(r.found)
	return r.c, slices.CompactFunc(r.found, func(a, b Finding) bool { return a == b })
}

// controllerReader is the work in progress of one ReadController.
type controllerReader struct {
	c     *Controller
	data  map[string]string
	find  NamedConfigMap
	found []Finding
}

func (r *controllerReader) report(key string, v Verdict, format string, args ...any) {
	r.found = append(r.found, Finding{Key: key, Verdict: v, Message: fmt.Sprintf(format, args...)})
}

func (r *controllerReader) text(key string) string { return strings.TrimSpace(r.data[key]) }

// judge says what the table of settings says of a key, and takes over values of annotations.
func (r *controllerReader) judge(key string) {
	s, known := LookupSetting(key)
	v := r.text(key)
	why := ""
	if s.Why != "" {
		why = ": " + s.Why
	}
	switch {
	case !known:
		message := "ingress-nginx has no such setting"
		if near := nearestOf(key, settingNames); near != "" {
			message += fmt.Sprintf(": is %s meant?", near)
		}
		r.report(key, Unknown, "%s", message)
	case v == "":
	case !s.Asks(v):
	case s.By == ByAnnotation:
		r.c.annotations[s.Equal] = v
	case s.By == ByFlag:
		r.report(key, Difference, "it is not read from here, but is the agent's %s%s", s.Equal, why)
	case s.By == NotSupported:
		r.report(key, Unsupported, "it is not supported%s", why)
	}
}

// boolean reads true or false.
func (r *controllerReader) boolean(key string, fallback bool) bool {
	v := r.text(key)
	if v == "" {
		return fallback
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.report(key, Invalid, "invalid value %q: use true or false; %t is used", rule.Shorten(v), fallback)
		return fallback
	}
	return b
}

// hsts reads Strict-Transport-Security, which ingress-nginx sends unless it is told not to.
func (r *controllerReader) hsts() {
	age := r.text("hsts-max-age")
	if age == "" {
		age = "31536000"
	}
	if _, err := strconv.ParseUint(age, 10, 32); err != nil {
		r.report("hsts-max-age", Invalid, "invalid value %q: use a number of seconds; 31536000 is used", rule.Shorten(age))
		age = "31536000"
	}
	value := "max-age=" + age
	if r.boolean("hsts-include-subdomains", true) {
		value += "; includeSubDomains"
	}
	if r.boolean("hsts-preload", false) {
		value += "; preload"
	}
	if r.boolean("hsts", true) {
		r.c.HSTS = value
	}
}

// forwardedFor reads which header says who the client is.
func (r *controllerReader) forwardedFor() {
	const key = "forwarded-for-header"
	var err error
	if r.c.ForwardedFor, err = rule.ForwardedFor(r.text(key)); err != nil {
		r.report(key, Invalid, "%v; X-Forwarded-For of trusted proxies is read", err)
	}
}

// authKeys are the annotations of external authentication, which global-KEY sets for all
// Ingresses at once.
var authKeys = []string{
	"auth-url", "auth-method", "auth-signin", "auth-signin-redirect-param", "auth-response-headers", "auth-request-redirect",
	"auth-snippet", "auth-cache-key", "auth-cache-duration", "auth-always-set-cookie",
}

// authentication reads global-auth-* and what is left out of it.
func (r *controllerReader) authentication() {
	if r.text("global-auth-url") != "" {
		r.c.auth = map[string]string{}
		for _, key := range authKeys {
			if v := r.text("global-" + key); v != "" {
				r.c.auth[key] = v
			}
		}
	}
	paths := func(key string) (out []string) {
		for _, p := range list(r.text(key)) {
			if !strings.HasPrefix(p, "/") {
				r.report(key, Invalid, "%q does not begin with a slash; this one is left out", rule.Shorten(p))
				continue
			}
			out = append(out, p)
		}
		return out
	}
	r.c.NoAuth, r.c.NoTLSRedirect = paths("no-auth-locations"), paths("no-tls-redirect-locations")
	r.c.noSnippets = !r.boolean("allow-snippet-annotations", true)
}

// headers reads what is added to and taken from messages.
func (r *controllerReader) headers() {
	for _, name := range list(r.text("hide-headers")) {
		if err := fieldName(name); err != nil {
			r.report("hide-headers", verdictOf(err), "%v; this one is not hidden", err)
			continue
		}
		r.c.hidden = append(r.c.hidden, name)
	}
	for _, name := range list(r.text("global-allowed-response-headers")) {
		if err := rule.FieldName(name); err != nil {
			r.report("global-allowed-response-headers", Invalid, "%v; this one is not allowed", err)
			continue
		}
		r.c.allowedFields = append(r.c.allowedFields, name)
	}
	r.c.response = r.headerMap("add-headers", "responses do not get it", rule.FieldName)
	r.c.request = r.headerMap("proxy-set-headers", "requests do not get it", fieldName)
}

// headerMap reads the ConfigMap that a key names.
func (r *controllerReader) headerMap(key, otherwise string, check func(string) error) (rules []model.HeaderRule) {
	if r.text(key) == "" {
		return nil
	}
	namespace, name, err := headerMap(r.text(key))
	var fields map[string]string
	if err == nil && r.find != nil {
		fields, err = r.find(namespace, name)
	}
	if err == nil && len(fields) > nginxconf.MaxDirectives {
		err = fmt.Errorf("ConfigMap %s/%s has %d fields, more than %d", namespace, name, len(fields), nginxconf.MaxDirectives)
	}
	if err != nil {
		r.report(key, Invalid, "%v", err)
		return nil
	}
	t := &reader{in: Ingress{Namespace: namespace}}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		value := fields[field]
		err := check(field)
		if err == nil {
			err = fieldName(field)
		}
		if err == nil {
			err = checkField(field, value)
		}
		if err == nil {
			err = t.checkTemplate(value)
		}
		h := model.HeaderRule{Op: model.SetHeader, Name: field, Value: value, By: r.c.origin(key)}
		if err != nil {
			r.report(key, verdictOf(err), "header %s of ConfigMap %s/%s: %v; %s", rule.Shorten(field), namespace, name, err, otherwise)
			if key != "proxy-set-headers" || fieldName(field) != nil {
				continue
			}
			h.Value = "" // what a rule would have set is never the client's own
		}
		rules = append(rules, h)
	}
	return rules
}

// blocks reads who is refused before anything else.
func (r *controllerReader) blocks() {
	for _, item := range list(r.text("block-cidrs")) {
		p, err := rule.Prefix(item)
		if err != nil {
			r.report("block-cidrs", Invalid, "%v; the others are refused", err)
			continue
		}
		r.c.blocked = append(r.c.blocked, p)
	}
	slices.SortFunc(r.c.blocked, netip.Prefix.Compare)
	for _, b := range []struct{ key, variable string }{{"block-user-agents", "$http_user_agent"}, {"block-referers", "$http_referer"}} {
		var literal []string
		for _, item := range list(r.text(b.key)) {
			test, pattern := "~*", item
			switch rest, folded := strings.CutPrefix(item, "~*"); {
			case folded:
				pattern = rest
			case strings.HasPrefix(item, "~"):
				test, pattern = "~", item[1:]
			default: // nginx compares these without case, too
				literal = append(literal, regexp.QuoteMeta(item))
				continue
			}
			if err := blocking(pattern); err != nil {
				r.report(b.key, Invalid, "%q: %v; the others are refused", rule.Shorten(item), err)
				continue
			}
			r.refuse(b.key, b.variable, test, pattern)
		}
		for len(literal) > 0 {
			n := len(literal)
			for n > 1 && blocking(whole(literal[:n])) != nil {
				n /= 2
			}
			if err := blocking(whole(literal[:n])); err != nil {
				r.report(b.key, Invalid, "%q: %v; the others are refused", rule.Shorten(literal[0]), err)
			} else {
				r.refuse(b.key, b.variable, "~*", whole(literal[:n]))
			}
			literal = literal[n:]
		}
	}
}

func whole(literal []string) string { return "^(?:" + strings.Join(literal, "|") + ")$" }

// blocking says why an expression cannot be searched.
func blocking(pattern string) error {
	if pattern == "" {
		return errors.New("an empty expression is about everybody")
	}
	_, err := rule.Within("(?i:", pattern, ")")
	return err
}

// refuse answers with 403 where a value of the request fits.
func (r *controllerReader) refuse(key, variable, test, pattern string) {
	r.c.server = append(r.c.server, shared{key, []nginxconf.Directive{{
		Name: "if", Args: []string{"(" + variable, test, pattern + ")"}, HasBlock: true, Line: 1,
		Block: []nginxconf.Directive{{Name: "return", Args: []string{"403"}, Line: 1}},
	}}})
}

// statuses reads what exceeding a limit is answered with.
func (r *controllerReader) statuses() {
	read := func(key string) int {
		v := r.text(key)
		if v == "" {
			return 0
		}
		status, err := strconv.Atoi(v)
		if err != nil || !rule.ErrorStatus(status) {
			r.report(key, Invalid, "invalid value %q: use a status from 400 to 599; 503 is used", rule.Shorten(v))
			return 0
		}
		return status
	}
	requests, connections := read("limit-req-status-code"), read("limit-conn-status-code")
	if r.c.limitStatus = requests; requests == 0 {
		r.c.limitStatus = connections
	} else if connections != 0 && connections != requests {
		r.report("limit-conn-status-code", Difference, "both limits refuse by one status, that of limit-req-status-code: %d", requests)
	}
}

// snippets reads the two that belong to servers and locations.
func (r *controllerReader) snippets() {
	for _, s := range []struct {
		key string
		to  *[]shared
	}{{"server-snippet", &r.c.server}, {"location-snippet", &r.c.location}} {
		if r.text(s.key) == "" {
			continue
		}
		directives, err := nginxconf.Parse(r.data[s.key])
		if err != nil {
			why := fmt.Sprintf("it cannot be read: %v", err)
			r.report(s.key, Closed, "%s; to fail closed, every request is refused", why)
			r.c.Closed = s.key + ": " + why
			continue
		}
		*s.to = append(*s.to, shared{s.key, directives})
	}
}

func (r *controllerReader) nonIdempotent() {
	r.c.nonIdempotent = r.boolean("retry-non-idempotent", false)
}

// origin names a key, for people.
func (c *Controller) origin(key string) string { return "ConfigMap " + c.Name + ": " + key }

// ofController begins the keys of snippets that stand in the ConfigMap, which are named like
// annotations.
const ofController = "ConfigMap: "

// setting returns the key of the ConfigMap that a value of an annotation comes from.
func (r *reader) setting(key string) (setting string, from bool) {
	c := r.in.Controller
	if c == nil {
		return "", false
	}
	if rest, ok := strings.CutPrefix(key, ofController); ok {
		return rest, true
	}
	if r.global && slices.Contains(authKeys, key) {
		return "global-" + key, true
	}
	if strings.TrimSpace(r.in.Annotations[Prefix+key]) != "" || c.annotations[key] == "" {
		return "", false
	}
	return key, true
}

// fallback is what the ConfigMap says of an annotation that the Ingress does not have.
func (r *reader) fallback(key string) string {
	if r.in.Controller == nil {
		return ""
	}
	return r.in.Controller.annotations[key]
}

// by says what asked for a rule: an annotation, or a key of the ConfigMap.
func (r *reader) by(key string) string {
	if setting, from := r.setting(key); from {
		return r.in.Controller.origin(setting)
	}
	return Prefix + key
}

// controller reads what the ConfigMap says of headers and sources. Rules of annotations come
// after it and go before it.
func (r *reader) controller() {
	c := r.in.Controller
	if c == nil {
		return
	}
	if c.Closed != "" && !r.alone {
		r.report(Finding{Key: ofController, Verdict: Closed, Message: c.Closed})
		r.shut("ConfigMap "+c.Name+": "+c.Closed, "ConfigMap "+c.Name)
	}
	r.global = c.auth != nil && strings.TrimSpace(r.in.Annotations[Prefix+"auth-url"]) == "" && r.boolean("enable-global-auth", true)
	for _, name := range c.hidden {
		p := r.want()
		p.ResponseHeaders = append(p.ResponseHeaders, model.HeaderRule{Op: model.SetHeader, Name: name, By: c.origin("hide-headers")})
	}
	if len(c.response) > 0 {
		p := r.want()
		p.ResponseHeaders = append(p.ResponseHeaders, c.response...)
	}
	if len(c.request) > 0 {
		p := r.want()
		p.RequestHeaders = append(p.RequestHeaders, c.request...)
	}
}

// blocked refuses the sources of block-cidrs. It comes after allow and deny of snippets.
func (r *reader) blocked() {
	c := r.in.Controller
	if c == nil || len(c.blocked) == 0 {
		return
	}
	p := r.want()
	if p.Access == nil {
		p.Access = &model.Access{}
	}
	p.Access.Deny = append(slices.Clone(p.Access.Deny), c.blocked...)
	slices.SortFunc(p.Access.Deny, netip.Prefix.Compare)
	p.Access.Deny = slices.Compact(p.Access.Deny)
	r.addOrigin(model.RuleDeny, c.origin("block-cidrs"))
}
