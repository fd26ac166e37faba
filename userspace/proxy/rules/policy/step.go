package policy

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/route"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// step is one of the steps that a request takes before anybody asks who sent it. They run
// in order and jump forward only, so that they end.
type step struct {
	op    feedpb.Step_Op
	name  string
	value template.Template

	test   feedpb.Step_Test
	to     template.Template
	re     *rule.Regexp // of a test, or of a rewrite
	ofPath bool         // the test is about the path, which is compared as routing sees it
	ofHost bool         // the test is about the host that was asked for
	skip   int
	level  uint8

	path   rule.NewPath
	then   feedpb.Step_Then
	answer redirect
}

func compileSteps(list []*feedpb.Step) ([]step, error) {
	if len(list) > rule.MaxSteps {
		return nil, fmt.Errorf("%d steps are more than %d", len(list), rule.MaxSteps)
	}
	out := make([]step, 0, len(list))
	for i, m := range list {
		s, err := compileStep(m, len(list)-i-1)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// compileStep reads a step that so many others follow.
func compileStep(m *feedpb.Step, after int) (s step, err error) {
	s = step{op: m.Op, name: m.Name, test: m.Test, skip: int(m.Skip), level: uint8(m.Level), then: m.Then}
	if m.Level > model.MaxLevel || int(m.Skip) > after {
		return s, fmt.Errorf("level %d, and %d of %d steps to skip", m.Level, m.Skip, after)
	}
	switch m.Op {
	case feedpb.Step_SET:
		if err = rule.Variable(m.Name); err == nil {
			s.value, err = template.ParseGroups(m.Value, 9)
		}
	case feedpb.Step_IF:
		err = s.compileTest(m)
	case feedpb.Step_ANSWER:
		if m.Answer == nil {
			return s, fmt.Errorf("there is no answer")
		}
		s.answer, err = compileRedirect(m.Answer, rule.Answer)
	case feedpb.Step_REWRITE:
		if s.re, err = rule.Expression(m.Pattern); err == nil {
			s.path, err = rule.StepPath(m.Value)
		}
		if m.Then > feedpb.Step_STAY {
			err = fmt.Errorf("this proxy knows nothing that follows a rewrite by number %d", m.Then)
		}
	case feedpb.Step_END:
	default:
		err = fmt.Errorf("this proxy has no step %d", m.Op)
	}
	return s, err
}

func (s *step) compileTest(m *feedpb.Step) (err error) {
	if s.value, err = template.ParseGroups(m.Value, 9); err != nil {
		return err
	}
	if len(s.value) == 1 {
		s.ofPath = s.value[0].Value == template.Path
		s.ofHost = s.value[0].Value == template.Host || s.value[0].Value == template.Authority
	}
	switch m.Test {
	case feedpb.Step_NOT_EMPTY:
	case feedpb.Step_EQUAL, feedpb.Step_DIFFERENT:
		s.to, err = template.ParseGroups(m.To, 9)
	case feedpb.Step_MATCH, feedpb.Step_NO_MATCH:
		s.re, err = rule.Expression(m.To)
	case feedpb.Step_MATCH_FOLD, feedpb.Step_NO_MATCH_FOLD:
		s.re, err = rule.Within("(?i:", m.To, ")")
	default:
		err = fmt.Errorf("this proxy has no test %d", m.Test)
	}
	return err
}

// Next is what follows the steps of a policy.
type Next uint8

const (
	GoOn       Next = iota
	RouteAgain      // by the path that Request.Normal is now
	Answered        // see Policy.Answer
	Refused         // the new path would lead elsewhere than it seems, or it would take too long to find out
)

// HasSteps reports whether Steps does anything. p may be nil.
func (p *Policy) HasSteps() bool { return p != nil && len(p.server)+len(p.steps) > 0 }

// Steps runs the policy's steps; first is set unless the request was routed before.
func (p *Policy) Steps(q *Request, first bool) Next {
	if q.level = 0; first && len(p.server) > 0 {
		before := q.changes
		if next := q.run(p.server); next == Answered || next == Refused {
			return next
		}
		if q.fixed = false; q.changes != before {
			return RouteAgain
		}
	}
	before := q.changes
	next := q.run(p.steps)
	if next == GoOn && !q.fixed && q.changes != before && p.rewrite == nil {
		return RouteAgain
	}
	return next
}

// run takes the steps of a list. RouteAgain is that of a step which says so.
func (q *Request) run(list []step) Next {
	for i := 0; i < len(list); i++ {
		s := &list[i]
		switch s.op {
		case feedpb.Step_SET:
			q.set(s)
		case feedpb.Step_IF:
			holds, known := s.holds(q)
			if !known {
				return Refused
			}
			if !holds {
				i += s.skip
			} else if s.level > 0 {
				q.level = s.level
			}
		case feedpb.Step_ANSWER:
			if q.spends(s.answer.pattern, q.Normal) {
				return Refused
			}
			if q.answer = s.answer.answer(q); q.answer != nil {
				return Answered
			}
		case feedpb.Step_REWRITE:
			if q.spends(s.re, q.Normal) {
				return Refused
			}
			if !q.match(s.re, q.Normal, false) {
				continue
			}
			if !q.rewrite(s) {
				return Refused
			}
			switch s.then {
			case feedpb.Step_ROUTE:
				return RouteAgain
			case feedpb.Step_STAY:
				q.fixed = true
				return GoOn
			}
		case feedpb.Step_END:
			q.fixed = true
			return GoOn
		}
	}
	return GoOn
}

// assigned is what a step has set.
type assigned struct {
	name  string
	value []byte
}

func (q *Request) set(s *step) {
	at := len(q.room)
	for i := range s.value {
		if t := s.value[i : i+1]; t[0].Value == template.Group && q.pathGroups && bytes.ContainsAny(q.Path, "%+") {
			q.room = appendEscaped(q.room, q.group(t[0].Text[0]), &inArgs) // as nginx does
		} else {
			q.room = q.fill(q.room, t)
		}
	}
	value := q.room[at:len(q.room):len(q.room)]
	if s.name == "args" {
		q.Args = q.asQuery(value)
		q.changed = true
		return
	}
	for i := range q.variables {
		if q.variables[i].name == s.name {
			q.variables[i].value = value
			return
		}
	}
	if len(q.variables) < rule.MaxVariables {
		q.variables = append(q.variables, assigned{s.name, value})
	}
}

// variable returns what a step has set a name to.
func (q *Request) variable(name string) []byte {
	for i := range q.variables {
		if q.variables[i].name == name {
			return q.variables[i].value
		}
	}
	return nil
}

// holds reports whether a test succeeds. known is false if it would take too long to find out.
func (s *step) holds(q *Request) (holds, known bool) {
	value := q.Normal
	if !s.ofPath {
		at := len(q.room)
		q.room = q.fill(q.room, s.value)
		value = q.room[at:len(q.room):len(q.room)]
	}
	switch s.test {
	case feedpb.Step_NOT_EMPTY:
		return len(value) > 0 && !(len(value) == 1 && value[0] == '0'), true
	case feedpb.Step_EQUAL, feedpb.Step_DIFFERENT:
		at := len(q.room)
		q.room = q.fill(q.room, s.to)
		return bytes.Equal(value, q.room[at:]) == (s.test == feedpb.Step_EQUAL), true
	}
	switch {
	case q.spends(s.re, value):
		return false, false
	case s.test == feedpb.Step_NO_MATCH || s.test == feedpb.Step_NO_MATCH_FOLD:
		return !s.re.Match(value), true
	}
	return q.match(s.re, value, s.ofHost), true
}

// spends notes what a search costs, and reports whether all of the request's come to too much.
func (q *Request) spends(re *rule.Regexp, text []byte) bool {
	q.cost += re.Cost(len(text))
	return q.cost > rule.MaxSearch
}

// match reports whether an expression is found in a text, and notes what its groups have
// matched. Without groups nothing is allocated.
func (q *Request) match(re *rule.Regexp, text []byte, ofHost bool) bool {
	if re.NumSubexp() == 0 {
		found := re.Match(text)
		if found {
			q.groups = nil
		}
		return found
	}
	found := re.FindSubmatchIndex(text)
	if found == nil {
		return false
	}
	q.groups, q.subject, q.hostGroups = found, text, ofHost
	q.pathGroups = len(text) > 0 && &text[0] == &q.Normal[0]
	return true
}

// group returns what the digit's group of the last expression has matched.
func (q *Request) group(digit byte) []byte {
	n := 2 * int(digit-'0')
	if n+1 >= len(q.groups) || q.groups[n] < 0 {
		return nil
	}
	return q.subject[q.groups[n]:q.groups[n+1]]
}

// rewrite replaces the path, and the query if the step says so. It reports false if the new
// path would lead elsewhere than it seems.
func (q *Request) rewrite(s *step) bool {
	at := len(q.room)
	for i := range s.path.Path {
		switch p := &s.path.Path[i]; p.Value {
		case template.Group:
			q.room = append(q.room, q.group(p.Text[0])...)
		case template.Path:
			q.room = append(q.room, q.Normal...)
		default:
			q.room = q.fill(q.room, s.path.Path[i:i+1])
		}
	}
	decoded := q.room[at:len(q.room):len(q.room)]
	if s.path.Alone || s.path.HasQuery { // else the query stays
		before := q.Args
		at = len(q.room)
		q.room = q.fillURL(q.room, s.path.Query, &plainQuery)
		if !s.path.Alone && len(before) > 0 {
			q.room = append(append(q.room, '&'), before...)
		}
		q.Args = q.asQuery(q.room[at:len(q.room):len(q.room)])
		if len(q.Args) == 0 {
			q.Args = nil
		}
	}
	return q.setPath(decoded)
}

// asQuery returns a text as it may stand in a request line: of a header's value in it, a space
// would end the target, and the client's text would follow.
func (q *Request) asQuery(text []byte) []byte {
	if !slices.ContainsFunc(text, func(c byte) bool { return !inQuery[c] }) {
		return text
	}
	at := len(q.room)
	q.room = appendEscaped(q.room, text, &inQuery)
	return q.room[at:len(q.room):len(q.room)]
}

// setPath makes a decoded text the path that is routed and sent to the pod.
func (q *Request) setPath(decoded []byte) bool {
	at := len(q.room)
	if len(decoded) == 0 || decoded[0] != '/' {
		q.room = append(q.room, '/')
	}
	q.room = appendEscaped(q.room, decoded, &plainPath)
	escaped := q.room[at:len(q.room):len(q.room)]
	if hasDotSegment(escaped) {
		return false
	}
	at = len(q.room)
	normal, err := route.NormalisePath(q.room, escaped)
	if err != nil || len(normal) == at || normal[at] != '/' {
		return false
	}
	q.room = normal
	q.Normal = normal[at:len(normal):len(normal)]
	q.changes++
	q.changed = true
	return true
}

// Changed reports whether steps have replaced path or query, and Replaced appends the path
// that pods get in place of the client's.
func (q *Request) Changed() bool { return q.changed }

func (q *Request) Replaced(dst []byte) (buf, path []byte) {
	if q.changes == 0 {
		return dst, q.Path
	}
	at := len(dst)
	dst = appendEscaped(dst, q.Normal, &plainPath)
	return dst, dst[at:len(dst):len(dst)]
}

// fillURL is fill for a part of a URL: what groups have matched is escaped but for plain, and
// of other values what can stand in no URL.
func (q *Request) fillURL(dst []byte, t template.Template, plain *[256]bool) []byte {
	for i := range t {
		switch t[i].Value {
		case template.Group:
			dst = appendEscaped(dst, q.group(t[i].Text[0]), plain)
		case template.Variable:
			dst = appendEscaped(dst, q.variable(t[i].Text), &inURL)
		default:
			dst = q.fill(dst, t[i:i+1])
		}
	}
	return dst
}

// inURL are the characters that can stand somewhere in a URL.
var inURL = plainSet("/-._~!$&'()*+,;=:@%?#[]")

// inQuery are the characters that servers read in a query: all that is printable but #.
var inQuery = func() (t [256]bool) {
	for c := '!'; c <= '~'; c++ {
		t[c] = c != '#'
	}
	return t
}()

// inArgs are the characters that nginx leaves as they are in the value of an argument.
var inArgs = plainSet("!\"$'()*,-./:<=>@[\\]^_`{|}~")

// holdsAt reports whether a rule for some levels holds for the request.
func (q *Request) holdsAt(levels uint64) bool { return levels == 0 || levels&(1<<q.level) != 0 }

// appendSafe appends a value without its control characters, none of which may stand in a
// header.
func appendSafe(dst, value []byte) []byte {
	if !slices.ContainsFunc(value, isControl) {
		return append(dst, value...)
	}
	for _, c := range value {
		if !isControl(c) {
			dst = append(dst, c)
		}
	}
	return dst
}

func isControl(c byte) bool { return c < ' ' || c == 0x7f }
