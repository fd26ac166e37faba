package ingressnginx

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// returns reads "return URL", "return CODE" and "return CODE URL". It answers every request
// that gets to it, so that one which cannot be read closes what it stands in.
func (s *snippet) returns(d nginxconf.Directive) error {
	answer, err := s.answer(d)
	if err != nil {
		s.close(d, err.Error())
		return nil
	}
	s.r.touched = true
	s.policy.Redirects = append(s.policy.Redirects, answer)
	s.answered = true
	return nil
}

func (s *snippet) answer(d nginxconf.Directive) (model.Redirect, error) {
	answer := model.Redirect{Status: http.StatusFound, By: Prefix + s.key}
	code, err := 0, error(nil)
	switch len(d.Args) {
	case 1:
		if code, err = strconv.Atoi(d.Args[0]); err == nil {
			answer.Status = code
		} else {
			answer.Target = d.Args[0]
		}
	case 2:
		if answer.Status, err = strconv.Atoi(d.Args[0]); err != nil {
			return answer, fmt.Errorf("%q is no status", rule.Shorten(d.Args[0]))
		}
		answer.Target = d.Args[1]
	default:
		return answer, errors.New("it is written return CODE [URL]")
	}
	status := answer.Status
	redirect := status/100 == 3 && status != 300 && status <= 308 && status != 304 && status != 305 && status != 306
	text := !redirect && answer.Target != ""
	if text {
		answer.Target = ""
	}
	if strings.HasPrefix(answer.Target, "/") && !s.r.out.RelativeRedirects {
		answer.Target = "$scheme://$host" + answer.Target
	}
	if s.pattern != "" && namesGroup(answer.Target) {
		answer.Pattern = s.pattern
	}
	answer.Target, err = s.r.redirectTarget(status, answer.Target, answer.Pattern)
	if text && err == nil {
		s.note(d, "the status is answered without the text")
	}
	return answer, err
}

// namesGroup reports whether $1 to $9 stand in a text.
func namesGroup(text string) bool {
	for i := 1; i < len(text); i++ {
		if text[i-1] == '$' && text[i] >= '1' && text[i] <= '9' {
			return true
		}
	}
	return false
}

// rewrites takes "rewrite EXPRESSION URL [redirect|permanent]", of which every URL that
// begins with a scheme is a redirect (ngx_http_rewrite_module).
func (s *snippet) rewrites(statement nginxconf.Directive) error {
	args := statement.Args
	if len(args) != 2 && len(args) != 3 {
		return errors.New("it is written rewrite EXPRESSION URL redirect")
	}
	d := model.Redirect{Pattern: args[0], Status: http.StatusFound, Query: true, By: Prefix + s.key}
	target, absolute := args[1], false
	for _, scheme := range []string{"http://", "https://", "$scheme://"} {
		absolute = absolute || strings.HasPrefix(target, scheme)
	}
	flag := args[len(args)-1]
	switch {
	case len(args) == 3 && flag == "permanent":
		d.Status = http.StatusMovedPermanently
	case len(args) == 3 && flag == "redirect", absolute && (len(args) == 2 || flag == "last" || flag == "break"):
	case len(args) == 3 && flag != "last" && flag != "break":
		return fmt.Errorf("%q is none of redirect, permanent, last and break", rule.Shorten(flag))
	case s.place == inOwnLocation:
		s.close(statement, "paths within a location are not rewritten")
		return nil
	default:
		return unsupported("a path for pods is set by rewrite-target")
	}
	if rest, alone := strings.CutSuffix(target, "?"); alone {
		target, d.Query = rest, false
	}
	switch {
	case !absolute && (!strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//")):
		return fmt.Errorf("%q is neither a URL with http://, https:// or $scheme://, nor a path", rule.Shorten(target))
	case !absolute && !s.r.out.RelativeRedirects:
		target = "$scheme://$host" + target
	case !absolute && strings.HasPrefix(target, "/$"):
		return errors.New("a path whose first segment is a value could be another host")
	}
	if _, after, _ := strings.Cut(target, "://"); len(after) > 1 && after[0] == '$' && after[1] >= '1' && after[1] <= '9' {
		return errors.New("clients must not choose the host that they are sent to")
	}
	var err error
	if d.Target, err = s.r.redirectTarget(d.Status, target, d.Pattern); err != nil {
		return err
	}
	s.r.touched = true
	s.policy.Redirects = append(s.policy.Redirects, d)
	return nil
}

// redirectTarget is expand for the target of an answer, in which the groups of an expression may
// stand.
func (r *reader) redirectTarget(status int, text, pattern string) (string, error) {
	text = r.substitute(text)
	if _, _, err := rule.Redirect(status, text, pattern); err != nil {
		return "", err
	}
	return text, r.fits(text)
}
