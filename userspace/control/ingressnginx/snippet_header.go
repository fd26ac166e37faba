package ingressnginx

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// setsRequestHeader reports whether a directive sets or removes headers of requests.
func setsRequestHeader(name string) bool {
	switch name {
	case "proxy_set_header", "grpc_set_header", "more_set_input_headers", "more_clear_input_headers":
		return true
	}
	return false
}

// requestHeader reads a directive that sets or removes headers of requests. Those whose
// value cannot be read are removed.
func (s *snippet) requestHeader(d nginxconf.Directive) error {
	if s.place == inOwnLocation {
		return nil // no request goes on from there
	}
	if s.script.inIf && s.place == inServer {
		s.forgetHeaders([]nginxconf.Directive{d})
		return unsupported("nginx does not allow it in an if of a server")
	}
	if strings.HasPrefix(d.Name, "more_") {
		return s.moreInputHeaders(d)
	}
	if len(d.Args) != 2 {
		s.forgetHeaders([]nginxconf.Directive{d})
		return fmt.Errorf("it is written %s NAME VALUE", d.Name)
	}
	name, value := d.Args[0], d.Args[1]
	if s.place == inServer {
		s.note(d, "ingress-nginx ignores it in a server-snippet; here it holds for the Ingress's own paths")
	}
	if strings.EqualFold(name, "host") {
		return s.host(value)
	}
	return s.setRequestHeader(d, model.HeaderRule{Op: model.SetHeader, Name: name}, value)
}

// host reads the Host that pods get.
func (s *snippet) host(value string) error {
	if s.place != inLocation {
		return unsupported("the Host of requests to pods is set by configuration-snippet or upstream-vhost")
	}
	text, err := s.r.expand(value)
	if err == nil {
		s.r.want().Host = text
		s.r.setBy(model.RuleHost, s.key)
	}
	return err
}

// setRequestHeader sets a header of requests to pods, or of those to the external auth
// service. An error means that the header is removed.
func (s *snippet) setRequestHeader(d nginxconf.Directive, h model.HeaderRule, value string) error {
	rules := s.requestRules()
	if rules == nil {
		return unsupported("there is no auth-url, whose requests could get the header")
	}
	if rule.ProxyOwn(h.Name) {
		s.note(d, "the proxy sets this header by itself")
		return nil
	}
	if s.script.inIf {
		h.Levels = 1 << s.script.level
	}
	expand := s.r.expand
	if s.script.groups && s.place != inSubrequest {
		expand = s.r.expandGroups
	}
	var err error
	if h.Value, err = expand(value); err == nil {
		err = s.r.appendHeader(rules, s.key, h)
	} else if removed := s.r.appendHeader(rules, s.key, model.HeaderRule{Op: model.SetHeader, Name: h.Name}); removed == nil {
		err = fmt.Errorf("%w; the header is removed from requests", err)
	}
	return err
}

// requestRules returns where headers of requests go, nil if there are no such requests.
func (s *snippet) requestRules() *[]model.HeaderRule {
	if s.place != inSubrequest {
		return &s.policy.RequestHeaders
	}
	if a := s.policy.Access; a != nil && a.External != nil {
		return &a.External.Headers
	}
	return nil
}

// moreInputHeaders reads "more_set_input_headers 'NAME: VALUE'..." and
// "more_clear_input_headers NAME...".
func (s *snippet) moreInputHeaders(d nginxconf.Directive) error {
	h, names, err := options(d)
	if err == nil && (len(h.Status) > 0 || h.Op == model.AddHeader) {
		err = errors.New("a request has no status, and -a has no effect on it")
	}
	if err != nil {
		s.forgetHeaders([]nginxconf.Directive{d})
		return fmt.Errorf("%w; the headers are removed from all requests", err)
	}
	if len(names) == 0 {
		return errors.New("it names no header")
	}
	var errs []error
	for _, arg := range names {
		name, value, _ := strings.Cut(arg, ":")
		if d.Name == "more_clear_input_headers" {
			value = ""
		}
		h.Name = strings.TrimSpace(name)
		if prefix, all := strings.CutSuffix(h.Name, "*"); all && d.Name == "more_clear_input_headers" {
			cleared := h
			cleared.Op, cleared.Name = model.ClearHeaders, prefix
			errs = append(errs, s.setRequestHeader(d, cleared, ""))
			continue
		}
		errs = append(errs, s.setRequestHeader(d, h, strings.TrimSpace(value)))
	}
	return errors.Join(errs...)
}

// options reads what stands before the headers in directives of the headers-more module: -s
// STATUSES, -t TYPES, -r to replace only and -a to add. The rest is returned.
func options(d nginxconf.Directive) (h model.HeaderRule, rest []string, err error) {
	rest = d.Args
	for len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
		option := rest[0]
		if rest = rest[1:]; option == "-r" || option == "-a" {
			h.Op = map[string]model.HeaderOp{"-r": model.ReplaceHeader, "-a": model.AddHeader}[option]
			continue
		}
		if option != "-s" && option != "-t" || len(rest) == 0 {
			return h, nil, unsupported(fmt.Sprintf("the option %s has no equal here", rule.Shorten(option)))
		}
		for _, word := range strings.Fields(rest[0]) {
			if option == "-t" {
				h.Types = append(h.Types, strings.ToLower(word))
				continue
			}
			status, err := strconv.Atoi(word)
			if err != nil || status < 100 || status > 999 {
				return h, nil, fmt.Errorf("%q is no status", rule.Shorten(word))
			}
			h.Status = append(h.Status, status)
		}
		rest = rest[1:]
	}
	return h, rest, nil
}

// forgetHeaders removes the request headers that directives would set which are not
// executed.
func (s *snippet) forgetHeaders(directives []nginxconf.Directive) {
	rules := s.requestRules()
	if rules == nil || s.place == inOwnLocation {
		return
	}
	for _, d := range directives {
		s.forgetHeaders(d.Block)
		if !setsRequestHeader(d.Name) {
			continue
		}
		names := d.Args
		if !strings.HasPrefix(d.Name, "more_") {
			names = names[:min(len(names), 1)]
		}
		for _, arg := range names {
			name, _, _ := strings.Cut(arg, ":")
			if name = strings.TrimSpace(name); !strings.HasPrefix(name, "-") && s.r.appendHeader(rules, s.key, model.HeaderRule{Op: model.SetHeader, Name: name}) == nil {
				s.note(d, "the header "+name+" is removed from requests")
			}
		}
	}
}

// addHeader reads add_header. nginx adds the header to errors with "always" alone.
func (s *snippet) addHeader(d nginxconf.Directive) error {
	args := d.Args
	always := len(args) == 3 && args[2] == "always"
	if always {
		args = args[:2]
	}
	if len(args) != 2 {
		return errors.New("it is written add_header NAME VALUE")
	}
	text, err := s.value(args[1])
	if err != nil {
		return err
	}
	if strings.EqualFold(args[0], "Set-Cookie") && text == authCookie {
		// The proxy passes the service's cookies on by itself, each in a header of its own.
		if a := s.policy.Access; a != nil && a.External != nil {
			a.External.AlwaysSetCookie = a.External.AlwaysSetCookie || always
		}
		return nil
	}
	h := model.HeaderRule{Op: model.AddHeader, Name: args[0], Success: !always}
	if strings.EqualFold(h.Name, "Content-Type") {
		h.Op = model.SetHeader // a response has one
	}
	return s.levelHeader(d.Name, h, text)
}

// value expands what stands in a header.
func (s *snippet) value(text string) (string, error) {
	if s.script.groups {
		return s.r.expandGroups(text)
	}
	return s.r.expand(text)
}

// responseHeader adds a rule that holds at the level at which it stands, or at all.
func (s *snippet) responseHeader(h model.HeaderRule, value string) error {
	if h.Value = value; s.script.inIf {
		h.Levels = 1 << s.script.level
	}
	return s.r.appendHeader(&s.policy.ResponseHeaders, s.key, h)
}

// levelHeader is responseHeader for a directive that an if has from around it only if it has
// none of the same kind itself.
func (s *snippet) levelHeader(kind string, h model.HeaderRule, value string) error {
	err := s.responseHeader(h, value)
	if err == nil {
		s.script.headers = append(s.script.headers, levelHeader{kind, len(s.policy.ResponseHeaders) - 1, s.script.level})
	}
	return err
}

func (s *snippet) moreHeaders(d nginxconf.Directive) error {
	h, names, err := options(d)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New("it names no header")
	}
	for _, arg := range names {
		name, value, _ := strings.Cut(arg, ":")
		if d.Name == "more_clear_headers" {
			value = ""
		}
		rule := h
		rule.Name = strings.TrimSpace(name)
		if prefix, all := strings.CutSuffix(rule.Name, "*"); all && d.Name == "more_clear_headers" {
			rule.Op, rule.Name = model.ClearHeaders, prefix
		}
		text, err := s.value(strings.TrimSpace(value))
		if err == nil {
			err = s.responseHeader(rule, text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// appendHeader adds a rule for a header. The value is a template that was checked.
func (r *reader) appendHeader(to *[]model.HeaderRule, key string, h model.HeaderRule) error {
	if err := fieldName(h.Name); err != nil {
		return err
	}
	if len(*to) >= nginxconf.MaxDirectives {
		return fmt.Errorf("more than %d headers", nginxconf.MaxDirectives)
	}
	r.touched = true
	h.By = r.by(key)
	*to = append(*to, h)
	return nil
}
