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
	"github.com/kerngate/kerngate/userspace/template"
)

// reader is the work in progress of one Read.
type reader struct {
	in   Ingress
	refs References
	out  Reading
	seen map[string]bool // keys that were asked for

	variables map[string]string // that snippets have defined: the template that each stands for

	policy  model.Policy
	touched bool // policy says something
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
	for _, key := range keys {
		if v := strings.TrimSpace(r.in.Annotations[Prefix+key]); v != "" {
			return key, v, true
		}
	}
	return keys[0], "", false
}

func (r *reader) find(key string, v Verdict, format string, args ...any) {
	r.out.Findings = append(r.out.Findings, Finding{key, v, fmt.Sprintf(format, args...)})
}

func (r *reader) invalid(key, value, allowed, instead string) {
	r.find(key, Invalid, "%q is not allowed: it can be %s; %s", shorten(value), allowed, instead)
}

// close lets nobody in.
func (r *reader) close(key, why string) {
	r.find(key, Closed, "%s; so that nobody gets in who should not, every request is refused", why)
	p := r.want()
	if p.Access == nil {
		p.Access = &model.Access{}
	}
	if p.Access.Closed == "" {
		p.Access.Closed = key + ": " + why
		r.setBy(model.RuleClosed, key)
	}
}

func (r *reader) boolean(key string, fallback bool) bool {
	_, v, set := r.text(key)
	if !set {
		return fallback
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.invalid(key, v, "true or false", fmt.Sprintf("%t is taken to be meant", fallback))
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
		r.invalid(key, v, fmt.Sprintf("%d to %d", least, most), fmt.Sprintf("%d is taken to be meant", fallback))
		return fallback
	}
	return n
}

// seconds reads a number of seconds, with or without an "s". 0: not set.
func (r *reader) seconds(key string) time.Duration {
	_, v, set := r.text(key)
	if !set {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v, "s"))
	if err != nil || n < 1 || n > 7*24*3600 {
		r.invalid(key, v, "1 to 604800 seconds", "the proxy's own time-out holds")
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
	if _, err := template.Parse(v); err != nil {
		r.find(key, Invalid, "%q: %v; %s", shorten(v), err, instead)
		return "", false
	}
	return v, true
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
		p, err := netip.ParsePrefix(item)
		if !strings.Contains(item, "/") {
			var a netip.Addr
			if a, err = netip.ParseAddr(item); err == nil && a.Zone() == "" {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil || !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is neither an address nor a prefix such as 192.0.2.0/24", shorten(item))
		}
		out = append(out, p.Masked())
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

// shorten bounds what is repeated of somebody's text in messages.
func shorten(text string) string {
	const most = 100
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// token reports whether the text is one (RFC 9110 section 5.6.2).
func token(s string) bool {
	return s != "" && len(s) <= 256 && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?={}", c)
	})
}
