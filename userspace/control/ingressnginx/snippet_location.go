package ingressnginx

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/route"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// location reads a location of a snippet: paths that are answered by rules of their own.
// As in nginx, no request goes from there to the Ingress's service.
func (s *snippet) location(d nginxconf.Directive) {
	l, pattern, err := locationOf(d)
	if err == errNamed {
		s.report(d, err)
		return
	}
	if err != nil {
		// Nobody can tell which paths it is about.
		if protects(d.Block) {
			s.close(d, fmt.Sprintf("%v, and the block keeps requests from the Ingress's pods", err))
		} else {
			s.report(d, err)
		}
		return
	}
	body := &snippet{r: s.r, key: s.key, place: inOwnLocation, policy: &model.Policy{}, pattern: pattern}
	body.read(d.Block)
	body.finish()
	body.settle(d)
	l.Policy, l.Inner = body.policy, body.inner
	s.r.touched = true
	if s.place == inOwnLocation {
		s.inner = append(s.inner, l)
	} else if s.place == inServer {
		s.r.out.ServerLocations = append(s.r.out.ServerLocations, l)
	} else {
		s.r.out.Locations = append(s.r.out.Locations, l)
	}
}

const errNamed unsupported = "a named location is reached by other directives alone, which are not executed"

// locationOf reads modifier and path. Of an expression, pattern is the same with its flags.
func locationOf(d nginxconf.Directive) (l model.Location, pattern string, err error) {
	modifier, path := "", ""
	switch len(d.Args) {
	case 1:
		path = d.Args[0]
		for _, m := range []string{"=", "^~", "~*", "~"} {
			if rest, ok := strings.CutPrefix(path, m); ok {
				modifier, path = m, rest
				break
			}
		}
	case 2:
		modifier, path = d.Args[0], d.Args[1]
	default:
		return l, "", errors.New("it is written location [MODIFIER] PATH")
	}
	l.Path = path
	switch modifier {
	case "":
		if strings.HasPrefix(path, "@") {
			return l, "", errNamed
		}
	case "=":
		l.Match = model.LocationExact
	case "^~":
		l.Match = model.LocationFinalPrefix
	case "~", "~*":
		l.Match, pattern = model.LocationPattern, path
		if modifier == "~*" {
			l.Match, pattern = model.LocationPatternFold, "(?i:"+path+")"
		}
		_, err = route.CompileLocation(path, modifier == "~*")
		return l, pattern, err
	default:
		return l, "", fmt.Errorf("%q is no modifier of a location", rule.Shorten(modifier))
	}
	switch {
	case !strings.HasPrefix(path, "/"):
		err = fmt.Errorf("the path %q does not begin with a slash", rule.Shorten(path))
	case len(path) > rule.MaxExpression:
		err = fmt.Errorf("a path of %d bytes: no more than %d are allowed", len(path), rule.MaxExpression)
	}
	return l, "", err
}

// protects reports whether a block may keep requests from the pods behind it.
func protects(block []nginxconf.Directive) bool {
	for _, d := range block {
		if guards(d) || d.Name == "allow" || d.Name == "deny" || d.Name == "return" || protects(d.Block) {
			return true
		}
	}
	return false
}

// locationRule reads a directive that has a meaning in a location of a snippet alone.
func (s *snippet) locationRule(d nginxconf.Directive) error {
	switch d.Name {
	case "proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "memcached_pass",
		"root", "alias", "try_files", "index", "autoindex", "stub_status", "echo":
		s.close(d, "it says what answers the location, and is not executed")
		return nil
	case "access_log":
		if len(d.Args) == 1 && d.Args[0] == "off" {
			s.policy.Unlogged = true
			return nil
		}
	case "log_not_found", "log_subrequest", "error_log", "server_tokens", "sub_filter", "sub_filter_once", "sub_filter_types",
		"proxy_hide_header", "grpc_hide_header", "gzip", "limit_rate", "limit_rate_after", "error_page", "client_max_body_size":
		return nil // of no effect on an answer of the proxy's own
	}
	return errNoEqual
}

// settle completes a location whose directives are read. One that does not say what
// answers is answered with 404, as nginx finds no file there.
func (s *snippet) settle(d nginxconf.Directive) {
	if isPlain(s.script.steps) {
		s.policy.Redirects = answers(s.script.steps)
	} else {
		s.policy.Steps = s.script.steps
	}
	switch {
	case s.answered && s.closed != "":
		s.r.find(s.key, Invalid, "%s; the location (line %d) is answered without it", s.closed, d.Line)
	case s.answered:
	case s.closed != "":
		s.r.find(s.key, Invalid, "%s; requests of this location (line %d: %s) are refused", s.closed, d.Line, rule.Shorten(d.String()))
		s.policy.Access = &model.Access{Closed: s.key + ": " + s.closed}
	case len(s.source) > 0:
		s.policy.Access = &model.Access{}
		if err := s.source.apply(s.policy.Access); err != nil {
			s.policy.Access.Closed = s.key + ": " + err.Error()
		}
		if _, allowed, ok := s.source.split(); !ok || len(allowed) > 0 {
			s.note(d, "sources that may ask for it get 503, since nothing answers there; ingress-nginx answers with 404")
		}
	default:
		s.policy.Redirects = append(s.policy.Redirects, model.Redirect{Status: http.StatusNotFound, By: s.r.by(s.key)})
		if len(s.policy.Steps) == 0 {
			s.note(d, "nothing answers there, as in ingress-nginx: requests get 404")
		}
	}
}
