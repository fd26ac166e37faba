package ingressnginx

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// reader is the work in progress of one Read.
type reader struct {
	in   Ingress
	refs References
	out  Reading
	seen map[string]bool // keys that were asked for

	variables map[string]string // that snippets have defined: the template that each stands for
	assigned  []string          // those that steps set

	policy  model.Policy
	touched bool // policy says something

	global bool // external authentication is the ConfigMap's
	alone  bool // the ConfigMap is read, and no Ingress
}

// want returns the policy to write to.
func (r *reader) want() *model.Policy {
	r.touched = true
	return &r.policy
}

// text returns the value of the first key that has one, without the space around it.
func (r *reader) text(keys ...string) (key, value string, set bool) {
	for _, key := range keys {
		r.seen[key] = true
	}
	if r.global && slices.Contains(authKeys, keys[0]) { // the Ingress's own belong to an auth-url
		v := r.in.Controller.auth[keys[0]]
		return keys[0], v, v != ""
	}
	for _, key := range keys {
		if v := strings.TrimSpace(r.in.Annotations[Prefix+key]); v != "" {
			return key, v, true
		}
	}
	for _, key := range keys {
		if v := r.fallback(key); v != "" {
			return key, v, true
		}
	}
	return keys[0], "", false
}

func (r *reader) find(key string, v Verdict, format string, args ...any) {
	r.report(Finding{Key: key, Verdict: v, Message: fmt.Sprintf(format, args...)})
}

// report notes a finding. What is wrong with the ConfigMap is said of it, once, and of an
// Ingress only if nobody gets in therefore.
func (r *reader) report(f Finding) {
	if setting, from := r.setting(f.Key); from {
		if !r.alone && f.Verdict != Closed {
			return
		}
		f.Key, f.Setting = setting, r.in.Controller.Name
	}
	r.out.Findings = append(r.out.Findings, f)
}

func (r *reader) invalid(key, value, allowed, instead string) {
	r.find(key, Invalid, "invalid value %q: use %s; %s", rule.Shorten(value), allowed, instead)
}

// close lets nobody in.
func (r *reader) close(key, why string) {
	r.find(key, Closed, "%s; to fail closed, every request is refused", why)
	named := key
	if setting, from := r.setting(key); from {
		named = r.in.Controller.origin(setting)
	}
	r.shut(named+": "+why, r.by(key))
}

// shut refuses every request, for a reason that people are told.
func (r *reader) shut(why, by string) {
	p := r.want()
	if p.Access == nil {
		p.Access = &model.Access{}
	}
	if p.Access.Closed == "" {
		p.Access.Closed = why
		r.setOrigin(model.RuleClosed, by)
	}
}

func (r *reader) boolean(key string, fallback bool) bool {
	_, v, set := r.text(key)
	if !set {
		return fallback
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.invalid(key, v, "true or false", fmt.Sprintf("%t is used", fallback))
		return fallback
	}
	return b
}

func (r *reader) number(key string, fallback, least, most int) int {
	_, v, set := r.text(key)
	if !set {
		return fallback
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		r.invalid(key, v, fmt.Sprintf("%d to %d", least, most), fmt.Sprintf("%d is used", fallback))
		return fallback
	}
	return n
}

// oneOfOr returns a value that is among allowed, else the fallback.
func (r *reader) oneOfOr(key, fallback string, allowed ...string) string {
	_, v, set := r.text(key)
	switch {
	case !set:
		return fallback
	case !slices.Contains(allowed, v):
		r.invalid(key, v, strings.Join(allowed, ", "), fallback+" is used")
		return fallback
	}
	return v
}

// ineffective says of an annotation that can be read why it does nothing.
func (r *reader) ineffective(key, why string) {
	r.report(Finding{Key: key, Verdict: Difference, Reason: "AnnotationIneffective", Message: why})
}

// seconds reads a number of seconds, with or without an "s". 0: not set.
func (r *reader) seconds(key string) time.Duration {
	_, v, set := r.text(key)
	if !set {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v, "s"))
	if err != nil || n < 1 || n > 7*24*3600 {
		r.invalid(key, v, "1 to 604800 seconds", "the proxy's own time-out applies")
		return 0
	}
	return time.Duration(n) * time.Second
}

// template reads a text in which values of the request may stand.
func (r *reader) template(key, instead string) (string, bool) {
	_, v, set := r.text(key)
	if !set {
		return "", false
	}
	if err := r.checkTemplate(v); err != nil {
		r.find(key, Invalid, "%q: %v; %s", rule.Shorten(v), err, instead)
		return "", false
	}
	return v, true
}

// MaxService and MaxPort are the lengths in bytes of the longest names of Services and of their
// ports (RFC 1035 section 2.3.4, RFC 6335 section 5.1).
const (
	MaxService = 63
	MaxPort    = 15
)

// longest are values as long as they can be, of those that are replaced by text for each route.
var longest = map[string]string{
	"service_name": strings.Repeat("x", MaxService), "service_port": strings.Repeat("x", MaxPort), "server_name": strings.Repeat("x", 253),
}

// checkTemplate says what is wrong with a template, or would be on some route of the Ingress.
func (r *reader) checkTemplate(text string) error {
	if _, err := template.Parse(text); err != nil {
		return err
	}
	return r.fits(text)
}

// fits says whether a template is too long on some route of the Ingress.
func (r *reader) fits(text string) error {
	filled := template.Substitute(text, func(name string) (string, bool) {
		switch name {
		case "namespace":
			return r.in.Namespace, true
		case "ingress_name":
			return r.in.Name, true
		}
		v, ok := longest[name]
		return v, ok
	})
	if len(filled) > template.MaxLength {
		return fmt.Errorf("with the names of services and hosts it can come to %d bytes, more than %d", len(filled), template.MaxLength)
	}
	return nil
}

// fieldName says what is wrong with the name of a header that is to be set.
func fieldName(name string) error {
	if rule.ProxyOwn(name) {
		return unsupported(fmt.Sprintf("header %s is managed by the proxy and cannot be set here", name))
	}
	return rule.FieldName(name)
}

// list splits at commas.
func list(text string) []string {
	var out []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// prefixes reads sources. An error names the first that is none.
func prefixes(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, item := range list(text) {
		p, err := rule.Prefix(item)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Compare(b) })
	return slices.Compact(out), nil
}

// size reads bytes as nginx writes them: 8, 8k, 8m, 8g.
func size(text string) (uint64, error) {
	shift := 0
	lower := strings.ToLower(text)
	for unit, s := range map[string]int{"k": 10, "m": 20, "g": 30} {
		if strings.HasSuffix(lower, unit) {
			lower, shift = strings.TrimSuffix(lower, unit), s
			break
		}
	}
	n, err := strconv.ParseUint(lower, 10, 64)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is no size", text)
	}
	return n << shift, nil
}
