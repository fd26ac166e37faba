package ingressnginx

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// script is what the rewrite module of nginx does in a server or a location: set, if,
// return, rewrite and break, in order.
type script struct {
	steps []model.Step
	// inIf is set while the block of an if is read, and level is its level.
	inIf   bool
	level  uint8
	levels int // that were given away
	// groups is set if an expression with groups came before, and hostGroups if the last one
	// of them is about the host.
	groups, hostGroups bool

	mediaType string // of texts that return sends
	headers   []levelHeader
}

// levelHeader is a header rule of which nginx's inheritance says at which levels it holds.
type levelHeader struct {
	kind  string // the directive
	index int    // in Policy.ResponseHeaders
	level uint8
}

func (c *script) add(s model.Step) { c.steps = append(c.steps, s) }

// nginxType is what ingress-nginx sets default_type to.
const nginxType = "text/html"

// announce gives names to the variables that directives set, which nginx knows in all of its
// configuration, whatever the order is.
func (s *snippet) announce(directives []nginxconf.Directive) {
	for _, d := range directives {
		if name := variableOf(d); name != "" && s.place != inSubrequest && checkVariable(name) == nil {
			if _, known := s.r.variables[name]; !known && name != "args" {
				s.r.define(name, "${set_"+name+"}")
			}
		}
		s.announce(d.Block)
	}
}

// variableOf returns the name of the variable that a directive sets, "" if it sets none.
func variableOf(d nginxconf.Directive) string {
	if d.Name != "set" || len(d.Args) == 0 || !strings.HasPrefix(d.Args[0], "$") {
		return ""
	}
	return strings.ToLower(strings.Trim(d.Args[0][1:], "{}"))
}

// checkVariable says why a variable cannot be set.
func checkVariable(name string) error {
	if name == "args" {
		return nil
	}
	if template.Known(name) {
		return unsupported(fmt.Sprintf("$%s is a value of the request, and cannot be set", rule.Shorten(name)))
	}
	return rule.Variable(name)
}

// set reads "set $NAME VALUE". If it cannot be read, nobody knows what the name stands for.
func (s *snippet) set(d nginxconf.Directive) error {
	name := variableOf(d)
	if name == "" || len(d.Args) != 2 {
		return errors.New("it is written set $NAME VALUE")
	}
	err := checkVariable(name)
	value := ""
	if err == nil {
		if value, err = s.r.expandGroups(d.Args[1]); err != nil {
			s.r.forget(name)
		}
	}
	if err == nil && !s.r.setsVariable(name) {
		s.r.forget(name)
		err = unsupported(fmt.Sprintf("no more than %d variables can be set", rule.MaxVariables))
	}
	if err != nil {
		return err
	}
	if name != "args" {
		s.r.define(name, "${set_"+name+"}")
	}
	s.script.add(model.Step{Op: model.StepSet, Name: name, Value: value})
	return nil
}

// setsVariable counts the variables, and reports false if there are too many.
func (r *reader) setsVariable(name string) bool {
	if slices.Contains(r.assigned, name) {
		return true
	}
	r.assigned = append(r.assigned, name)
	return len(r.assigned) <= rule.MaxVariables
}

// forget makes a name one that nobody knows the value of.
func (r *reader) forget(name string) { r.define(name, "$"+name) }

// forgetVariables forgets those that directives set which are not executed.
func (s *snippet) forgetVariables(directives []nginxconf.Directive) {
	for _, d := range directives {
		if name := variableOf(d); name != "" {
			s.r.forget(name)
		}
		s.forgetVariables(d.Block)
	}
}

// condition reads an if. If its condition cannot be evaluated, what it protects is closed.
func (s *snippet) condition(d nginxconf.Directive) {
	test, groups, ofHost, err := s.test(d)
	if err == nil && s.script.inIf {
		err = errors.New("it stands in another if, which nginx does not allow")
	}
	if err == nil && s.script.levels >= model.MaxLevel {
		err = unsupported("there are too many ifs")
	}
	if err != nil {
		if guard, found := findGuard(d); found {
			s.close(guard, fmt.Sprintf("it decides who gets in, and stands in a block that is not executed (line %d: %s): %v", d.Line, rule.Shorten(d.String()), err))
		} else {
			s.report(d, err)
		}
		s.forgetHeaders(d.Block)
		s.forgetVariables(d.Block)
		return
	}
	at := len(s.script.steps)
	before := s.script
	s.script.inIf = true
	if groups {
		s.script.groups, s.script.hostGroups = true, ofHost
	}
	if s.place != inServer {
		s.script.levels++
		s.script.level = uint8(s.script.levels)
		test.Level = s.script.level
	}
	s.script.add(test)
	for _, inner := range d.Block {
		s.inIf(inner)
	}
	if s.script.steps[at].Skip = len(s.script.steps) - at - 1; s.script.steps[at].Skip == 0 && !s.holdsAt(test.Level) {
		s.script.steps, s.script.levels = s.script.steps[:at], before.levels // nothing depends on it
	}
	s.script.inIf, s.script.level = false, 0
	s.script.groups, s.script.hostGroups = before.groups || s.script.groups, before.hostGroups
	s.r.touched = true
}

// holdsAt reports whether a header depends on a level.
func (s *snippet) holdsAt(level uint8) bool {
	return level > 0 && slices.ContainsFunc(slices.Concat(s.policy.ResponseHeaders, s.policy.RequestHeaders), func(h model.HeaderRule) bool { return h.Levels&(1<<level) != 0 })
}

// inIf reads a directive in an if whose condition is evaluated. What decides there who gets
// in, and cannot be read, keeps out those that the condition is about.
func (s *snippet) inIf(d nginxconf.Directive) {
	refuse := func(why string) {
		s.r.find(s.key, Invalid, "line %d: the directive %q: %s; requests that match its if are refused", d.Line, rule.Shorten(d.String()), why)
		s.script.add(model.Step{Op: model.StepAnswer, Answer: model.Redirect{Status: http.StatusServiceUnavailable, By: s.r.by(s.key)}})
	}
	var err error
	switch d.Name {
	case "set", "break", "rewrite", "return":
		if err = s.rule(d); err != nil && d.Name == "return" {
			refuse(err.Error())
			return
		}
	case "add_header", "more_set_headers", "more_clear_headers", "expires":
		if s.place == inServer {
			err = unsupported("nginx does not allow it in an if of a server")
		} else {
			err = s.rule(d)
		}
	case "more_set_input_headers", "more_clear_input_headers":
		err = s.rule(d)
	default:
		switch guard, found := findGuard(d); {
		case d.HasBlock && found:
			refuse(fmt.Sprintf("line %d: it decides who gets in, and nginx does not allow the block in an if", guard.Line))
		case d.Name == "allow", d.Name == "deny", guards(d) && !s.hasNoEffect(d):
			refuse("it decides who gets in, and nginx does not allow it in an if")
		case !d.HasBlock && s.hasNoEffect(d):
		default:
			err = errNoEqual
			s.forgetHeaders([]nginxconf.Directive{d})
		}
	}
	if err != nil {
		s.report(d, err)
	}
}

// test reads the condition of an if. groups is set if it is an expression that has some, and
// ofHost if that is about the host.
func (s *snippet) test(d nginxconf.Directive) (test model.Step, groups, ofHost bool, err error) {
	test.Op = model.StepIf
	args := slices.Clone(d.Args)
	if len(args) == 0 || !strings.HasPrefix(args[0], "(") || !strings.HasSuffix(args[len(args)-1], ")") {
		return test, false, false, errors.New("it is written if (CONDITION) { ... }")
	}
	args[0] = args[0][1:]
	if last := len(args) - 1; args[last] == ")" {
		args = args[:last]
	} else {
		args[last] = strings.TrimSuffix(args[last], ")")
	}
	if len(args) > 0 && args[0] == "" {
		args = args[1:]
	}
	if len(args) == 0 || !strings.HasPrefix(args[0], "$") {
		return test, false, false, unsupported("a condition is $NAME, or $NAME compared by =, !=, ~, ~*, !~ or !~*")
	}
	if test.Value, err = s.r.expand(args[0]); err != nil {
		return test, false, false, err
	}
	switch {
	case len(args) == 1:
		return test, false, false, nil
	case len(args) == 2 && (args[1] == "=" || args[1] == "!="):
		args = append(args, "")
	case len(args) != 3:
		return test, false, false, errors.New("a condition is $NAME, or $NAME compared by =, !=, ~, ~*, !~ or !~*")
	}
	tests := map[string]model.Test{"=": model.TestEqual, "!=": model.TestDifferent, "~": model.TestMatch, "~*": model.TestMatchFold, "!~": model.TestNoMatch, "!~*": model.TestNoMatchFold}
	var known bool
	if test.Test, known = tests[args[1]]; !known {
		return test, false, false, fmt.Errorf("%q is none of =, !=, ~, ~*, !~ and !~*", rule.Shorten(args[1]))
	}
	if test.Test == model.TestEqual || test.Test == model.TestDifferent {
		test.To, err = s.r.expandGroups(args[2])
		return test, false, false, err
	}
	test.To = args[2]
	re, err := rule.Within("(?i:", test.To, ")")
	if err != nil {
		return test, false, false, err
	}
	groups = re.NumSubexp() > 0 && (test.Test == model.TestMatch || test.Test == model.TestMatchFold)
	name := strings.Trim(args[0], "${}")
	return test, groups, name == "host" || name == "http_host", nil
}

// methods reads "limit_except METHOD... { deny all; }".
func (s *snippet) methods(d nginxconf.Directive) {
	names := slices.Clone(d.Args)
	for _, name := range names {
		if !rule.Token(name) || strings.ToUpper(name) != name {
			s.close(d, fmt.Sprintf("%q is no method", rule.Shorten(name)))
			return
		}
	}
	if slices.Contains(names, "GET") {
		names = append(names, "HEAD")
	}
	if len(d.Block) != 1 || d.Block[0].String() != "deny all" {
		s.r.find(s.key, Invalid, "line %d: the directive %q: only deny all; is supported in its block; requests by other methods are refused", d.Line, rule.Shorten(d.String()))
	}
	for i, name := range names {
		names[i] = strings.NewReplacer("-", `\-`, ".", `\.`, "*", `\*`, "+", `\+`, "^", `\^`, "|", `\|`, "$", `\$`).Replace(name)
	}
	s.script.add(model.Step{Op: model.StepIf, Value: "$request_method", Test: model.TestNoMatch, To: "^(?:" + strings.Join(names, "|") + ")$", Skip: 1})
	s.script.add(model.Step{Op: model.StepAnswer, Answer: model.Redirect{Status: http.StatusForbidden, By: s.r.by(s.key)}})
	s.r.touched = true
}

// defaultType reads the media type of texts that return sends.
func (s *snippet) defaultType(d nginxconf.Directive) error {
	if len(d.Args) != 1 {
		return errors.New("it is written default_type TYPE")
	}
	if err := rule.MediaType(d.Args[0]); err != nil {
		return err
	}
	s.script.mediaType = d.Args[0]
	return nil
}

// finish completes what depends on directives that may stand anywhere.
func (s *snippet) finish() {
	c := &s.script
	for i := range c.steps {
		if a := &c.steps[i].Answer; a.Type == anyType {
			a.Type = nginxType
			if c.mediaType != "" {
				a.Type = c.mediaType
			}
		}
	}
	// An if has the headers of the location around it unless it has some of the same kind itself.
	for _, h := range c.headers {
		levels := uint64(1) << h.level
		if h.level == 0 {
			for level := 1; level <= c.levels; level++ {
				if !slices.ContainsFunc(c.headers, func(o levelHeader) bool { return o.kind == h.kind && int(o.level) == level }) {
					levels |= 1 << level
				}
			}
			if levels == 1<<(c.levels+1)-1 {
				levels = 0
			}
		}
		s.policy.ResponseHeaders[h.index].Levels = levels
	}
}

// anyType stands for the media type that the snippet says.
const anyType = "*/*"

// steps gives the Ingress the steps of its snippets. If all that they do is to answer, they
// are answers.
func (r *reader) steps(server, location []model.Step) {
	if isPlain(server) && isPlain(location) {
		r.policy.Redirects = append(append(answers(server), r.policy.Redirects...), answers(location)...)
		return
	}
	r.want().ServerSteps, r.policy.Steps = server, location
	r.stepsBy("server-snippet", func(c *Controller) []shared { return c.server })
	r.stepsBy("configuration-snippet", func(c *Controller) []shared { return c.location })
	if len(server) > 0 && !isPlain(server) {
		begin(r.out.ServerLocations, server)
		begin(r.out.Locations, server)
	}
}

// begin puts the steps of the server before those of locations.
func begin(locations []model.Location, server []model.Step) {
	for i := range locations {
		locations[i].Policy.ServerSteps = server
		begin(locations[i].Inner, server)
	}
}

// isPlain reports whether steps are nothing but answers, each of which depends on the path
// alone.
func isPlain(steps []model.Step) bool {
	return !slices.ContainsFunc(steps, func(s model.Step) bool {
		return s.Op != model.StepAnswer || s.Answer.Pattern == "" && (namesGroup(s.Answer.Target) || namesGroup(s.Answer.Body))
	})
}

func answers(steps []model.Step) (out []model.Redirect) {
	for _, s := range steps {
		out = append(out, s.Answer)
	}
	return out
}

// stepsBy notes where steps come from.
func (r *reader) stepsBy(key string, of func(*Controller) []shared) {
	if c := r.in.Controller; c != nil {
		for _, part := range of(c) {
			r.addBy(model.RuleSteps, ofController+part.key)
		}
		if r.in.Annotations[Prefix+key] == "" {
			return
		}
	}
	r.addBy(model.RuleSteps, key)
}
