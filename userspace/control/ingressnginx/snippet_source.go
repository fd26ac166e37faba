package ingressnginx

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
	"github.com/kerngate/kerngate/userspace/model"
)

// sourceRules are allow and deny directives. The first that holds a source decides about
// it, and a source that none holds gets in.
type sourceRules []sourceRule

type sourceRule struct {
	allow bool
	of    netip.Prefix
}

var everything = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// add reads a directive. An error means that nobody can tell whom it is about.
func (rules *sourceRules) add(d nginxconf.Directive) error {
	if len(d.Args) != 1 {
		return errors.New("it is written allow SOURCE, or deny SOURCE")
	}
	list := everything
	if d.Args[0] == "unix:" { // no client comes by a Unix socket
		return nil
	}
	if d.Args[0] != "all" {
		var err error
		if list, err = prefixes(d.Args[0]); err != nil {
			return err
		}
		if len(list) != 1 {
			return errors.New("it names no single source")
		}
	}
	for _, p := range list {
		*rules = append(*rules, sourceRule{d.Name == "allow", p})
	}
	return nil
}

// split returns the sources that do not get in, and those that do. It reports false if they
// are too many to be listed.
func (rules sourceRules) split() (denied, allowed []netip.Prefix, ok bool) {
	undecided := slices.Clone(everything)
	for _, r := range rules {
		var left []netip.Prefix
		for _, u := range undecided {
			if !u.Overlaps(r.of) {
				left = append(left, u)
				continue
			}
			decided := u
			if r.of.Bits() > u.Bits() {
				decided = r.of
				left = append(left, without(u, r.of)...)
			}
			if r.allow {
				allowed = append(allowed, decided)
			} else {
				denied = append(denied, decided)
			}
		}
		if undecided = left; len(undecided)+len(denied)+len(allowed) > 1<<14 {
			return nil, nil, false
		}
	}
	return denied, append(allowed, undecided...), true
}

// without returns the parts of a prefix outside of another that lies within it.
func without(whole, hole netip.Prefix) (parts []netip.Prefix) {
	for whole.Bits() < hole.Bits() {
		low, high := halves(whole)
		if low.Contains(hole.Addr()) {
			whole, parts = low, append(parts, high)
		} else {
			whole, parts = high, append(parts, low)
		}
	}
	return parts
}

func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits() + 1
	raw := p.Addr().AsSlice()
	raw[(bits-1)/8] |= 0x80 >> ((bits - 1) % 8)
	upper, _ := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(p.Addr(), bits), netip.PrefixFrom(upper, bits)
}

// apply writes the rules to an Access. The commonest form, some sources and no others, is
// kept as it is.
func (rules sourceRules) apply(a *model.Access) error {
	if only, ok := rules.onlyAllowed(); ok {
		a.Allow = only
		return nil
	}
	denied, _, ok := rules.split()
	if !ok {
		return errors.New("allow and deny overlap in too many ways")
	}
	a.Deny = append(a.Deny, denied...)
	slices.SortFunc(a.Deny, netip.Prefix.Compare)
	a.Deny = slices.Compact(a.Deny)
	return nil
}

// onlyAllowed returns the sources of "allow A; allow B; deny all".
func (rules sourceRules) onlyAllowed() (allowed []netip.Prefix, ok bool) {
	for i, r := range rules {
		if !r.allow {
			rest := rules[i:]
			ok = i > 0 && len(rest) >= 2 && !rest[1].allow && rest[0].of == everything[0] && rest[1].of == everything[1]
			slices.SortFunc(allowed, netip.Prefix.Compare)
			return slices.Compact(allowed), ok
		}
		allowed = append(allowed, r.of)
	}
	return nil, false
}

// sourceRules adds the allow and deny of snippets to those of annotations, as nginx would:
// what a server says holds for locations that say nothing; annotations come first in a
// location, and an allowlist leaves nothing to be decided.
func (r *reader) sourceRules(server, location sourceRules) {
	key, rules := "configuration-snippet", location
	a := r.policy.Access
	switch {
	case a != nil && len(a.Allow) > 0:
		return
	case len(rules) == 0 && (a == nil || len(a.Deny) == 0):
		key, rules = "server-snippet", server
	}
	if denied, _, ok := rules.split(); ok && len(denied) == 0 {
		return
	}
	if a == nil {
		a = &model.Access{}
		r.want().Access = a
	}
	if err := rules.apply(a); err != nil {
		r.close(key, err.Error())
	}
	if len(a.Allow) > 0 {
		r.setBy(model.RuleAllow, key)
	} else {
		r.addBy(model.RuleDeny, key)
	}
}
