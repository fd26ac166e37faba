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
	"github.com/kerngate/kerngate/userspace/text/template"
)

// returns reads "return URL", "return CODE", "return CODE URL" and "return CODE TEXT". It
// answers every request that gets to it, so that one which cannot be read closes what it
// stands in.
func (s *snippet) returns(d nginxconf.Directive) error {
	answer, err := s.answer(d)
	if err != nil {
		if s.script.inIf {
			return err
		}
		s.close(d, err.Error())
		return nil
	}
	s.r.touched = true
	s.script.add(model.Step{Op: model.StepAnswer, Answer: answer})
	s.answered = s.answered || !s.script.inIf
	return nil
}

func (s *snippet) answer(d nginxconf.Directive) (model.Redirect, error) {
	answer := model.Redirect{Status: http.StatusFound, By: s.r.by(s.key)}
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
	if !redirect && answer.Target != "" {
		if status == http.StatusNoContent || status == http.StatusNotModified || status < 200 {
			return answer, fmt.Errorf("an answer with status %d has no text", status)
		}
		answer.Target, answer.Body, answer.Type = "", s.r.substitute(answer.Target), anyType
	}
	if strings.HasPrefix(answer.Target, "/") && !s.r.out.RelativeRedirects {
		answer.Target = "$scheme://$host" + answer.Target
	}
	if names := namesGroup(answer.Target) || namesGroup(answer.Body); names && s.pattern != "" && !s.script.groups {
		answer.Pattern = s.pattern
	} else if names && !s.script.groups {
		return answer, errors.New("no expression comes before it whose groups $1 to $9 could be")
	}
	if leadsAnywhere(answer.Target) && !s.script.hostGroups {
		return answer, errLeadsAnywhere
	}
	if answer.Body != "" {
		if _, err = template.ParseText(answer.Body, 9); err == nil {
			err = s.r.fits(answer.Body)
		}
		if err != nil {
			return answer, err
		}
	}
	answer.Target, err = s.r.redirectTarget(status, answer.Target, answer.Pattern)
	return answer, err
}

const errLeadsAnywhere unsupported = "clients must not choose the host that they are sent to"

// leadsAnywhere reports whether a URL's host begins with a group of an expression.
func leadsAnywhere(target string) bool {
	_, host, _ := strings.Cut(target, "://")
	return len(host) > 1 && host[0] == '$' && host[1] >= '1' && host[1] <= '9'
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
	d := model.Redirect{Pattern: args[0], Status: http.StatusFound, Query: true, By: s.r.by(s.key)}
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
	default:
		then := model.ThenGoOn
		if len(args) == 3 {
			then = map[string]model.Then{"last": model.ThenRoute, "break": model.ThenStay}[flag]
		}
		return s.newPath(args[0], target, then)
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
	if leadsAnywhere(target) {
		return errLeadsAnywhere
	}
	var err error
	if d.Target, err = s.r.redirectTarget(d.Status, target, d.Pattern); err != nil {
		return err
	}
	s.r.touched = true
	s.script.add(model.Step{Op: model.StepAnswer, Answer: d})
	s.script.noteGroups(d.Pattern)
	return nil
}

// newPath reads a rewrite that gives the request another path. Those of a server go to the
// route of that path whatever they say.
func (s *snippet) newPath(pattern, target string, then model.Then) error {
	if _, err := rule.Expression(pattern); err != nil {
		return err
	}
	text, err := s.r.expandGroups(target)
	if err != nil {
		return err
	}
	if _, err := rule.StepPath(text); err != nil {
		return err
	}
	s.r.touched = true
	s.script.add(model.Step{Op: model.StepRewrite, Pattern: pattern, Value: text, Then: then})
	s.script.noteGroups(pattern)
	return nil
}

// noteGroups notes that an expression about the path came before.
func (c *script) noteGroups(pattern string) {
	if re, err := rule.Expression(pattern); err == nil && re.NumSubexp() > 0 {
		c.groups, c.hostGroups = true, false
	}
}

// redirectTarget is expand for the target of an answer, in which the groups of an expression may
// stand.
func (r *reader) redirectTarget(status int, text, pattern string) (string, error) {
	text = r.substitute(text)
	if _, _, err := rule.Answer(status, text, pattern); err != nil {
		return "", err
	}
	return text, r.fits(text)
}
