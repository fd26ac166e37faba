package ingressnginx

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// A snippet is read into rules and never executed. A directive that has no equal is
// reported with its line. Three things hold whatever stands in a snippet:
//
//   - A directive that may keep somebody out, and cannot be read, keeps everybody out: of
//     the Ingress, or of the location in which it stands.
//   - A request header that a directive sets is never the client's own value: if the value
//     cannot be read, the header is removed.
//   - A location that cannot be read is not public by what lies behind it.

// place is where the directives of a snippet stand in nginx's configuration.
type place uint8

const (
	inLocation    place = iota // configuration-snippet: in each location of the Ingress
	inServer                   // server-snippet: in the server of each of its hosts
	inSubrequest               // auth-snippet: in the location that asks the external auth service
	inOwnLocation              // in a location of a snippet
)

// snippet is the reading of one snippet, or of a location in one.
type snippet struct {
	r      *reader
	key    string
	place  place
	policy *model.Policy // gets the rules
	source sourceRules   // allow and deny
	script script        // set, if, return, rewrite and break
	// Of a location: its expression with the flags that belong to it, what cannot be read
	// and may protect, whether the location has answered by itself already, and the locations
	// within it.
	pattern  string
	closed   string
	answered bool
	inner    []model.Location
}

// snippets reads the three snippets. What a server answers by itself takes precedence over
// what its locations do.
func (r *reader) snippets() {
	server := r.snippet("server-snippet", inServer)
	location := r.snippet("configuration-snippet", inLocation)
	r.snippet("auth-snippet", inSubrequest)
	r.sourceRules(server.source, location.source)
	r.steps(server.script.steps, location.script.steps)
}

// snippet reads one snippet.
func (r *reader) snippet(key string, at place) *snippet {
	s := &snippet{r: r, key: key, place: at, policy: &r.policy}
	var before []shared
	_, text, set := r.text(key)
	if c := r.in.Controller; c != nil {
		before = map[place][]shared{inServer: c.server, inLocation: c.location}[at]
		if _, from := r.setting(key); set && !from && c.noSnippets {
			r.find(key, Unsupported, "allow-snippet-annotations of ConfigMap %s is false: it is not read", c.Name)
			set = false
		}
	}
	var directives []nginxconf.Directive
	if set {
		var err error
		if directives, err = nginxconf.Parse(text); err != nil {
			r.close(key, fmt.Sprintf("it cannot be read: %v", err))
			return s
		}
	}
	for _, part := range before {
		s.announce(part.directives)
	}
	s.announce(directives)
	for _, part := range before {
		s.key = ofController + part.key
		s.read(part.directives)
	}
	s.key = key
	s.read(directives)
	s.finish()
	if at == inServer && slices.ContainsFunc(directives, ofServer) {
		r.find(key, Difference, "its headers, returns, redirects, allow and deny apply only to paths of this Ingress; in ingress-nginx they apply to every path of its hosts")
	}
	return s
}

// ofServer reports whether a directive of a server has an effect on the paths of other
// Ingresses in ingress-nginx.
func ofServer(d nginxconf.Directive) bool {
	switch d.Name {
	case "add_header", "more_set_headers", "more_clear_headers", "return", "rewrite", "allow", "deny", "satisfy":
		return true
	}
	return false
}

func (s *snippet) read(directives []nginxconf.Directive) {
	for _, d := range directives {
		s.directive(d)
	}
}

// directive reads one directive.
func (s *snippet) directive(d nginxconf.Directive) {
	var err error
	switch {
	case d.IsLua():
		s.lua(d)
	case d.Name == "location" && d.HasBlock && s.place != inSubrequest:
		s.location(d)
	case d.Name == "if" && d.HasBlock && s.place != inSubrequest:
		s.condition(d)
	case d.Name == "limit_except" && d.HasBlock && s.place != inSubrequest:
		s.methods(d)
	case d.HasBlock:
		s.block(d)
	case !d.HasBlock && s.hasNoEffect(d):
	case s.place == inSubrequest && (d.Name == "allow" || d.Name == "deny" || d.Name == "satisfy"):
		s.close(d, "it decides who gets in, and is not executed")
	case d.Name == "allow" || d.Name == "deny":
		if err = s.source.add(d); err != nil {
			s.close(d, err.Error())
		}
	case d.Name == "satisfy":
		s.satisfy(d)
	case d.Name == "auth_request_set":
		s.define(d)
	case guards(d):
		s.close(d, "it decides who gets in, and is not executed")
	default:
		if err = s.rule(d); err != nil {
			s.report(d, err)
		}
	}
}

// rule takes a directive for the rule that it equals.
func (s *snippet) rule(d nginxconf.Directive) error {
	if setsRequestHeader(d.Name) {
		return s.requestHeader(d)
	}
	if s.place == inSubrequest {
		return errNoEqual
	}
	switch d.Name {
	case "set":
		return s.set(d)
	case "break":
		s.script.add(model.Step{Op: model.StepEnd})
		return nil
	case "default_type":
		return s.defaultType(d)
	case "add_header":
		return s.addHeader(d)
	case "more_set_headers", "more_clear_headers":
		return s.moreHeaders(d)
	case "expires":
		return s.expires(d)
	case "internal": // only nginx's own requests, of which there are none, get in
		return s.returns(nginxconf.Directive{Name: "return", Args: []string{"404"}, Line: d.Line})
	case "return":
		return s.returns(d)
	case "rewrite":
		return s.rewrites(d)
	}
	if s.place == inOwnLocation {
		return s.locationRule(d)
	}
	switch d.Name {
	case "proxy_hide_header", "grpc_hide_header":
		if len(d.Args) != 1 {
			return fmt.Errorf("it is written %s NAME", d.Name)
		}
		return s.responseHeader(model.HeaderRule{Op: model.SetHeader, Name: d.Args[0]}, "")
	case "sub_filter", "sub_filter_once", "sub_filter_types", "sub_filter_last_modified":
		return s.substitution(d)
	case "grpc_read_timeout", "grpc_send_timeout", "grpc_connect_timeout":
		return s.timeout(d)
	case "gzip", "access_log", "limit_rate", "limit_rate_after":
		return s.setting(d)
	}
	if key := ownLocation[d.Name]; key != "" {
		return unsupported("the annotation " + key + " sets it")
	}
	return errNoEqual
}

// unsupported is why a directive that was read has no effect.
type unsupported string

func (u unsupported) Error() string { return string(u) }

// verdictOf says whether something could not be read, or has no effect.
func verdictOf(err error) Verdict {
	if errors.As(err, new(unsupported)) {
		return Unsupported
	}
	return Invalid
}

const errNoEqual unsupported = "it has no equal here"

// block reads a block that is none of a location. What stands in it holds under a
// condition that is not evaluated.
func (s *snippet) block(d nginxconf.Directive) {
	if d.Name == "types" {
		s.report(d, errNoEqual)
	} else if s.place == inOwnLocation {
		s.close(d, "blocks within a location are not executed")
	} else if guard, found := findGuard(d); found {
		s.close(guard, fmt.Sprintf("it decides who gets in, and stands in a block that is not executed (%s)", rule.Shorten(d.String())))
	} else {
		s.report(d, unsupported("blocks other than location are not executed"))
	}
	s.forgetHeaders(d.Block)
}

// findGuard returns the first directive in a block that decides who gets in.
func findGuard(d nginxconf.Directive) (nginxconf.Directive, bool) {
	if d.Name == "limit_except" {
		return d, true
	}
	for _, inner := range d.Block {
		if guards(inner) || inner.Name == "allow" || inner.Name == "deny" || refuses(inner) {
			return inner, true
		}
		if guard, found := findGuard(inner); found {
			return guard, true
		}
	}
	return d, false
}

// guards reports whether a directive decides who gets in; allow, deny, satisfy and return
// are read.
func guards(d nginxconf.Directive) bool {
	switch d.Name {
	case "limit_except", "valid_referers", "ssl_verify_client":
		return true
	case "auth_request_set":
		return false
	}
	for _, prefix := range []string{"auth_", "limit_req", "limit_conn", "access_by_", "rewrite_by_", "content_by_", "modsecurity", "naxsi", "secure_link"} {
		if strings.HasPrefix(d.Name, prefix) {
			return true
		}
	}
	return false
}

// refuses reports whether a directive answers with an error.
func refuses(d nginxconf.Directive) bool {
	return d.Name == "return" && len(d.Args) > 0 && d.Args[0] != "" && (d.Args[0][0] == '4' || d.Args[0][0] == '5')
}

// close lets nobody in: of a location, if the directive stands in one, else at all.
func (s *snippet) close(d nginxconf.Directive, why string) {
	why = fmt.Sprintf("line %d: the directive %q: %s", d.Line, rule.Shorten(d.String()), why)
	if s.place != inOwnLocation {
		s.r.close(s.key, why)
		return
	}
	if s.closed == "" {
		s.closed = why
	}
}

// report says that a directive is not executed, or not as it is written. It is invalid only
// if it cannot be read.
func (s *snippet) report(d nginxconf.Directive, why error) {
	s.r.find(s.key, verdictOf(why), "line %d: the directive %q is not executed: %v", d.Line, rule.Shorten(d.String()), why)
}

// note says what a directive comes to, where that is not quite what its author may expect.
func (s *snippet) note(d nginxconf.Directive, text string) {
	s.r.find(s.key, Difference, "line %d: the directive %q: %s", d.Line, rule.Shorten(d.String()), text)
}

// satisfy reads whether one of sources and passwords is enough. An annotation takes
// precedence.
func (s *snippet) satisfy(d nginxconf.Directive) {
	a := s.policy.Access
	switch {
	case len(d.Args) != 1 || d.Args[0] != "any" && d.Args[0] != "all":
		s.close(d, "it is written satisfy all, or satisfy any")
	case s.place == inOwnLocation: // of sources and passwords, a location has sources alone
	case s.r.in.Annotations[Prefix+"satisfy"] == "" && a != nil:
		a.Any = d.Args[0] == "any"
	}
}

// define reads auth_request_set, which gives a name to a value of the external auth
// service's answer. It is kept as the template that stands for the name.
func (s *snippet) define(d nginxconf.Directive) {
	if len(d.Args) != 2 || !strings.HasPrefix(d.Args[0], "$") || len(d.Args[0]) < 2 {
		s.report(d, errors.New("it is written auth_request_set $NAME VALUE"))
		return
	}
	text := template.Substitute(d.Args[1], func(name string) (string, bool) {
		if name == "upstream_status" {
			return "${auth_answer_status}", true
		}
		for from, to := range map[string]string{"upstream_http_": "auth_answer_http_", "sent_http_": "auth_answer_http_", "upstream_cookie_": "auth_answer_cookie_"} {
			if rest, ok := strings.CutPrefix(name, from); ok && rest != "" {
				return "${" + to + rest + "}", true
			}
		}
		return "", false
	})
	if err := s.r.checkTemplate(text); err != nil {
		s.report(d, err)
		return
	}
	s.r.define(strings.ToLower(d.Args[0][1:]), text)
}

// define gives a name to a template.
func (r *reader) define(name, text string) {
	if r.variables == nil {
		r.variables = map[string]string{}
	}
	r.variables[name] = text
}

// expand replaces the names that directives have defined, and checks the result.
func (r *reader) expand(text string) (string, error) {
	text = r.substitute(text)
	return text, r.checkTemplate(text)
}

// expandGroups is expand for a text in which the groups of the last expression may stand.
func (r *reader) expandGroups(text string) (string, error) {
	text = r.substitute(text)
	if _, err := template.ParseGroups(text, 9); err != nil {
		return text, err
	}
	return text, r.fits(text)
}

func (r *reader) substitute(text string) string {
	return template.Substitute(text, func(name string) (string, bool) {
		v, ok := r.variables[strings.ToLower(name)]
		if !ok && name == "auth_cookie" { // ingress-nginx defines it
			v, ok = authCookie, true
		}
		return v, ok
	})
}

// authCookie is all Set-Cookie headers of the external auth service's answer.
const authCookie = "${auth_answer_http_set_cookie}"

const errLua unsupported = "Lua is not executed"
