package ingressnginx

import (
	"errors"
	"fmt"
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
	return s.setRequestHeader(d, name, value)
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
func (s *snippet) setRequestHeader(d nginxconf.Directive, name, value string) error {
	rules := s.requestRules()
	if rules == nil {
		return unsupported("there is no auth-url, whose requests could get the header")
	}
	if rule.ProxyOwn(name) {
		s.note(d, "the proxy sets this header by itself")
		return nil
	}
	text, err := s.r.expand(value)
	if err == nil {
		err = s.r.appendHeader(rules, s.key, model.SetHeader, name, text)
	} else if removed := s.r.appendHeader(rules, s.key, model.SetHeader, name, ""); removed == nil {
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
	names := d.Args
	for len(names) > 0 && strings.HasPrefix(names[0], "-") {
		// -r and -t narrow the directive down to some requests.
		s.forgetHeaders([]nginxconf.Directive{d})
		return unsupported(fmt.Sprintf("the option %s has no equal here; the headers are removed from all requests", rule.Shorten(names[0])))
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
		if strings.HasSuffix(name, "*") {
			errs = append(errs, unsupported("names with * have no equal here"))
			continue
		}
		errs = append(errs, s.setRequestHeader(d, strings.TrimSpace(name), strings.TrimSpace(value)))
	}
	return errors.Join(errs...)
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
			if name = strings.TrimSpace(name); !strings.HasPrefix(name, "-") && s.r.appendHeader(rules, s.key, model.SetHeader, name, "") == nil {
				s.note(d, "the header "+name+" is removed from requests")
			}
		}
	}
}

// addHeader reads add_header. nginx adds the header to errors with "always" alone, which
// is not told apart here.
func (s *snippet) addHeader(d nginxconf.Directive) error {
	args := d.Args
	always := len(args) == 3 && args[2] == "always"
	if always {
		args = args[:2]
	}
	if len(args) != 2 {
		return errors.New("it is written add_header NAME VALUE")
	}
	text, err := s.r.expand(args[1])
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
	return s.responseHeader(model.AddHeader, args[0], text)
}

func (s *snippet) responseHeader(op model.HeaderOp, name, value string) error {
	return s.r.appendHeader(&s.policy.ResponseHeaders, s.key, op, name, value)
}

func (s *snippet) moreHeaders(d nginxconf.Directive) error {
	if len(d.Args) == 0 {
		return errors.New("it names no header")
	}
	for _, arg := range d.Args {
		if strings.HasPrefix(arg, "-") {
			return unsupported(fmt.Sprintf("the option %s has no equal here", rule.Shorten(arg)))
		}
		name, value, _ := strings.Cut(arg, ":")
		if d.Name == "more_clear_headers" {
			value = ""
		}
		if strings.HasSuffix(name, "*") {
			return unsupported("names with * have no equal here")
		}
		text, err := s.r.expand(strings.TrimSpace(value))
		if err == nil {
			err = s.responseHeader(model.SetHeader, strings.TrimSpace(name), text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// appendHeader adds a rule for a header. The value is a template that was checked.
func (r *reader) appendHeader(to *[]model.HeaderRule, key string, op model.HeaderOp, name, value string) error {
	if err := fieldName(name); err != nil {
		return err
	}
	if len(*to) >= nginxconf.MaxDirectives {
		return fmt.Errorf("more than %d headers", nginxconf.MaxDirectives)
	}
	r.touched = true
	*to = append(*to, model.HeaderRule{Op: op, Name: name, Value: value, By: Prefix + key})
	return nil
}
