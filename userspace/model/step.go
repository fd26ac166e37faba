package model

import (
	"fmt"
	"strings"
)

// Step is one of the steps that a request takes before anybody asks who sent it: nginx's
// "set", "if", "return", "rewrite" and "break". Steps run in order, once, and jump forward
// only.
type Step struct {
	Op StepOp
	// Name is the variable of StepSet. Templates name it ${set_NAME}; "args" is the query.
	Name string
	// Value is a template: what a variable is set to, what StepIf tests, or the new path of
	// StepRewrite, with a query after a "?".
	Value string
	Test  Test   // of StepIf
	To    string // of StepIf: a template to compare with, or an RE2 expression
	// Pattern of StepRewrite is an RE2 expression: only paths in which it is found.
	Pattern string
	Then    Then // of StepRewrite
	// Skip is how many of the following steps StepIf leaves out if its test fails. Level is what
	// holds from there on if it succeeds; see HeaderRule.Levels.
	Skip  int
	Level uint8
	// Answer of StepAnswer ends the steps, if its Pattern is found. Its Path is not used.
	Answer Redirect
}

// StepOp is what a Step does. In all templates of steps, and in those of headers of the same
// Policy, $1 to $9 stand for what the groups of the last expression have matched.
type StepOp uint8

const (
	StepSet StepOp = iota
	StepIf
	StepAnswer
	StepRewrite
	StepEnd
)

// Test is how StepIf compares.
type Test uint8

const (
	TestSet         Test = iota // neither empty nor "0"
	TestEqual                   // the same text
	TestDifferent               // another text
	TestMatch                   // To, an expression, is found
	TestMatchFold               // the same without case
	TestNoMatch                 // it is not found
	TestNoMatchFold             // the same without case
)

// Then is what follows a rewrite.
type Then uint8

const (
	ThenGoOn  Then = iota // the next step; the new path is routed after the last one
	ThenRoute             // the new path is routed
	ThenStay              // the request stays with its route
)

// MaxLevel is the highest Level of a step.
const MaxLevel = 63

// String returns the step as the policy is dumped.
func (s Step) String() string {
	switch s.Op {
	case StepSet:
		return fmt.Sprintf("set %s %q", s.Name, s.Value)
	case StepIf:
		test := [...]string{TestSet: "", TestEqual: "=", TestDifferent: "!=", TestMatch: "~", TestMatchFold: "~*", TestNoMatch: "!~", TestNoMatchFold: "!~*"}[s.Test]
		text := fmt.Sprintf("if %q", s.Value)
		if test != "" {
			text += fmt.Sprintf(" %s %q", test, s.To)
		}
		text += fmt.Sprintf(" %d steps", s.Skip)
		if s.Level > 0 {
			text += fmt.Sprintf(", level %d", s.Level)
		}
		return text
	case StepAnswer:
		return "answer" + s.Answer.dump()
	case StepRewrite:
		return fmt.Sprintf("rewrite ~%s to %q, then %s", s.Pattern, s.Value, [...]string{ThenGoOn: "go on", ThenRoute: "route", ThenStay: "stay"}[s.Then])
	}
	return "end"
}

// dump returns what is answered, and to whom.
func (r Redirect) dump() string {
	var b strings.Builder
	if r.Path != "" {
		b.WriteString(" of " + r.Path)
	}
	if r.Pattern != "" {
		b.WriteString(" of ~" + r.Pattern)
	}
	if r.Query {
		b.WriteString(" with its query")
	}
	fmt.Fprintf(&b, ": %d", r.Status)
	if r.Target != "" {
		b.WriteString(" " + r.Target)
	}
	if r.Body != "" || r.Type != "" {
		fmt.Fprintf(&b, " text %q of type %q", r.Body, r.Type)
	}
	return b.String()
}
