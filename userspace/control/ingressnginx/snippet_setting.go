package ingressnginx

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// expires reads "expires [modified] TIME|epoch|max|off". Cache-Control says it all: Expires,
// which it takes precedence over (RFC 9111 section 5.3), is removed but for "epoch".
func (s *snippet) expires(d nginxconf.Directive) error {
	if len(d.Args) != 1 {
		return unsupported("it is read as expires TIME, expires epoch, expires max and expires off")
	}
	control, expires := "", ""
	switch d.Args[0] {
	case "off":
		return nil
	case "epoch":
		control, expires = "no-cache", "Thu, 01 Jan 1970 00:00:01 GMT"
	case "max":
		control, expires = "max-age=315360000", "Thu, 31 Dec 2037 23:55:55 GMT"
	default:
		age, err := nginxTime(strings.TrimPrefix(d.Args[0], "-"))
		if err != nil {
			return err
		}
		if control = fmt.Sprintf("max-age=%d", int64(age/time.Second)); d.Args[0][0] == '-' {
			control = "no-cache"
		}
	}
	for _, h := range []struct{ name, value string }{{"Cache-Control", control}, {"Expires", expires}} {
		if err := s.levelHeader(d.Name, model.HeaderRule{Op: model.SetHeader, Name: h.name, Success: true}, h.value); err != nil {
			return err
		}
	}
	return nil
}

// nginxTime reads a time as nginx writes it: "30", "1h 30m", "5d".
func nginxTime(text string) (time.Duration, error) {
	units := []struct {
		name string
		of   time.Duration
	}{{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}, {"w", 7 * 24 * time.Hour}, {"M", 30 * 24 * time.Hour}, {"y", 365 * 24 * time.Hour}}
	var sum time.Duration
	for rest := text; rest != ""; {
		n := 0
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		number, err := strconv.Atoi(rest[:n])
		if err != nil || n > 9 {
			return 0, fmt.Errorf("%q is no time", rule.Shorten(text))
		}
		rest = rest[n:]
		unit := time.Second
		for _, u := range units {
			if after, found := strings.CutPrefix(rest, u.name); found {
				unit, rest = u.of, after
				break
			}
		}
		if number > int(100*365*24*time.Hour/unit) {
			return 0, fmt.Errorf("%q is too long", rule.Shorten(text))
		}
		sum += time.Duration(number) * unit
		if trimmed := strings.TrimLeft(rest, " "); trimmed != "" && (trimmed[0] < '0' || trimmed[0] > '9') {
			return 0, fmt.Errorf("%q is no time", rule.Shorten(text))
		} else {
			rest = trimmed
		}
	}
	if text == "" {
		return 0, errors.New("there is no time")
	}
	return sum, nil
}

// timeout reads a time-out for pods that speak gRPC, which here are the same as for others. An
// annotation takes precedence.
func (s *snippet) timeout(d nginxconf.Directive) error {
	if len(d.Args) != 1 {
		return fmt.Errorf("it is written %s TIME", d.Name)
	}
	t, err := nginxTime(d.Args[0])
	if err != nil || t < time.Millisecond || t > 7*24*time.Hour {
		return errors.Join(errors.New("it can be up to 7d"), err)
	}
	of := strings.TrimSuffix(strings.TrimPrefix(d.Name, "grpc_"), "_timeout")
	if s.r.in.Annotations[Prefix+"proxy-"+of+"-timeout"] != "" {
		return nil
	}
	p := &s.r.want().Timeouts
	*map[string]*time.Duration{"read": &p.Read, "send": &p.Send, "connect": &p.Connect}[of] = t
	s.r.addBy(model.RuleTimeouts, s.key)
	return nil
}

// setting reads directives of which some values have an equal.
func (s *snippet) setting(d nginxconf.Directive) error {
	if len(d.Args) != 1 {
		return errNoEqual
	}
	switch d.Name + " " + d.Args[0] {
	case "gzip off":
		s.r.want().Compression = &model.Compression{}
		s.r.setBy(model.RuleCompression, s.key)
		return nil
	case "gzip on":
		return unsupported("the agent's flag --compression decides it")
	case "access_log off":
		s.r.want().Unlogged = true
		s.r.setBy(model.RuleUnlogged, s.key)
		return nil
	}
	if d.Name == "gzip" || d.Name == "access_log" {
		return errNoEqual
	}
	n, err := size(d.Args[0])
	if err != nil {
		return err
	}
	if key := strings.ReplaceAll(d.Name, "_", "-"); s.r.in.Annotations[Prefix+key] != "" {
		return nil
	}
	if s.r.policy.Pace == nil {
		s.r.want().Pace = &model.Pace{}
	}
	if d.Name == "limit_rate" {
		s.r.policy.Pace.BytesPerSecond = n
	} else {
		s.r.policy.Pace.After = n
	}
	s.r.addBy(model.RulePace, s.key)
	return nil
}

// substitution reads sub_filter and what belongs to it.
func (s *snippet) substitution(d nginxconf.Directive) error {
	if s.policy.Substitutions == nil {
		s.r.want().Substitutions = &model.Substitutions{Once: true}
		s.r.addBy(model.RuleSubstitution, s.key)
	}
	all := s.policy.Substitutions
	if d.Name != "sub_filter" && len(d.Args) == 0 {
		return fmt.Errorf("it is written %s VALUE", d.Name)
	}
	switch d.Name {
	case "sub_filter_once":
		all.Once = d.Args[0] != "off"
		return nil
	case "sub_filter_last_modified":
		all.KeepModified = d.Args[0] == "on"
		return nil
	case "sub_filter_types":
		if len(all.Types) == 0 {
			all.Types = []string{nginxType} // always among them
		}
		for _, t := range d.Args {
			if t != "*" {
				if err := rule.MediaType(t); err != nil {
					return err
				}
			}
			if t = strings.ToLower(t); len(all.Types) < rule.MaxSubstitutions {
				all.Types = append(all.Types, t)
			}
		}
		return nil
	}
	if len(d.Args) != 2 {
		return errors.New("it is written sub_filter TEXT REPLACEMENT")
	}
	text := s.r.substitute(d.Args[1])
	err := rule.Substitution(d.Args[0], text)
	if err == nil {
		err = s.r.fits(text)
	}
	if err == nil && strings.Contains(d.Args[0], "$") {
		err = unsupported("a text that is looked for cannot have values of the request in it")
	}
	if err == nil && len(all.Replace) >= rule.MaxSubstitutions {
		err = unsupported(fmt.Sprintf("no more than %d texts are replaced", rule.MaxSubstitutions))
	}
	if err != nil {
		return err
	}
	all.Replace = append(all.Replace, model.Substitution{From: d.Args[0], To: text})
	return nil
}
