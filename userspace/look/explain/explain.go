// Package explain tells why a request goes where it goes: from the ingress address to
// the pods that may answer it, each step with the reason and with what was not chosen.
//
// In: the request, the agent's routes, what the kernel maps hold. Out: plain values for
// kerngatectl to print. It reads nothing itself, so an explanation can be tested, and can
// be made of half of the input: what is not known is said to be not known.
package explain

import (
	"fmt"

	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// Input is all that an explanation is drawn from.
type Input struct {
	Target Target

	Maps   *Maps  // nil: not readable, for the reason in NoMaps
	NoMaps string // also says what to do

	Routes *status.Routes // nil: the agent does not answer, for the reason in NoAgent
	Rules  *status.Rules  // of the route that RuleOf names; nil: not known
	// RulesOf asks for the rules of another route, to which a rewrite leads; nil: nobody can be asked.
	RulesOf      func(status.RuleOf) (*status.Rules, error)
	Certificates *status.Certificates // describes those that hosts name; nil: their ids must do

	Services *status.Services // names pods and nodes; nil: addresses must do
	NoAgent  string
}

// Result says how a step turned out.
type Result string

const (
	OK      Result = "ok"
	Stop    Result = "stop"    // the request ends here
	Unknown Result = "unknown" // the input for it is missing
)

// Step is one decision on the way.
type Step struct {
	Name       string      `json:"step"` // filter, listener, worker, tls, host, path, rules, service, backends
	Result     Result      `json:"result"`
	Summary    string      `json:"summary"`
	Considered []Candidate `json:"considered,omitempty"`
}

// Candidate is a rule, worker or backend that was looked at.
type Candidate struct {
	Rule   string `json:"rule"`
	Chosen bool   `json:"chosen"` // or may be, where several can
	Why    string `json:"why"`
}

// Answer is what the client gets.
type Answer struct {
	Reason  string `json:"reason"`           // the token that stands in log and metrics
	Status  int    `json:"status,omitempty"` // of the proxy's own answer; 0: a pod's, or none
	Summary string `json:"summary"`
	Next    string `json:"next,omitempty"` // what to do about it

	Location string `json:"location,omitempty"` // where the client is sent
	// Otherwise is what the client gets in other cases, in the order in which a proxy finds out.
	Otherwise []Outcome `json:"otherwise,omitempty"`
}

// Explanation is the whole way.
type Explanation struct {
	URL      string  `json:"url"`
	Host     string  `json:"host"`
	Path     string  `json:"path"`
	Steps    []Step  `json:"steps"`
	Object   string  `json:"object,omitempty"` // that has the route, such as "Ingress shop/main"
	Service  string  `json:"service,omitempty"`
	Rules    []Rule  `json:"rules,omitempty"`  // of the route, or of the location that takes the path
	Shares   []Share `json:"shares,omitempty"` // of services, if there are canaries or several of them
	Backends []Pod   `json:"backends,omitempty"`
	Answer   Answer  `json:"answer"`
}

// Pod is a backend that the service's block names: it may answer.
type Pod struct {
	Backend
	Pod  string `json:"pod,omitempty"`
	Node string `json:"node,omitempty"`
	Why  string `json:"why"`
}

// Reasons of an Answer: the proxy's tokens, or program and reason of a kernel counter where
// the connection never reaches the proxy.
const (
	reasonForwarded    = "forwarded"
	reasonNoRoute      = "no_route"
	reasonNoService    = "no_service"
	reasonNoEndpoint   = "no_endpoint"
	reasonRedirect     = "redirect_https"
	reasonClosed       = "access_closed"
	reasonClientAuth   = "client_certificate"
	reasonDenied       = "kg_xdp:denied"
	reasonNotPublished = "kg_lookup:not_ours"
	reasonNoProxy      = "kg_lookup:no_proxy"
	reasonNoWorker     = "kg_lookup:no_worker"
	reasonUnknown      = "unknown"

	reasonRule           = "rule_answered"
	reasonRate           = "rate_limited"
	reasonConnections    = "connection_limited"
	reasonSource         = "source_denied"
	reasonPassword       = "unauthorized"
	reasonSignIn         = "sign_in"
	reasonExternal       = "external_denied"
	reasonExternalFailed = "external_failed"
	reasonBody           = "body_too_large"
	reasonBadPath        = "bad_path"
	reasonErrorPage      = "error_page"
	reasonLoop           = "rewrite_loop"

	// reasonDepends is that of an answer which another service decides about.
	reasonDepends = "depends"
)

// walk is an explanation in the making. The first step that stops decides the answer;
// later ones are still told, because a request often fails for more than one reason.
type walk struct {
	in  Input
	out Explanation

	policy   *model.Policy   // of what answers; nil: none
	turns    int             // how often the request was routed again
	request  *policy.Request // as rewrites have left it; nil: as it was sent
	others   []Outcome
	asked    *asked // whose answer decides; nil: nobody
	grpc     bool   // calls of gRPC get the proxy's answers as grpc-status
	fallback string // service that answers where there is no ready pod; "": none
}

// Explain follows the request through kernel and proxy.
func Explain(in Input) Explanation {
	t := in.Target
	w := &walk{in: in, out: Explanation{
		URL:  fmt.Sprintf("%s://%s:%d%s", t.Scheme, t.Host, t.Port, t.Path),
		Host: t.Host, Path: t.Path,
	}}
	if t.From.IsValid() {
		w.filter()
	}
	w.listener()
	w.worker()
	if w.tls() {
		return w.passed()
	}
	w.route()
	return w.finish()
}

// passed ends an explanation of a connection that is passed through, still encrypted.
func (w *walk) passed() Explanation {
	w.service(w.out.Service)
	return w.finish()
}

func (w *walk) finish() Explanation {
	if w.out.Answer.Reason == "" {
		w.conclude()
	}
	w.complete(w.policy)
	return w.out
}

func (w *walk) step(s Step) { w.out.Steps = append(w.out.Steps, s) }

// stop records a step at which the request ends.
func (w *walk) stop(s Step, a Answer) {
	s.Result = Stop
	w.step(s)
	if w.out.Answer.Reason == "" {
		w.out.Answer = a
	}
}

func (w *walk) unknown(name, why string) {
	w.step(Step{Name: name, Result: Unknown, Summary: why})
}

// conclude answers for a request that no step stopped.
func (w *walk) conclude() {
	for _, s := range w.out.Steps {
		if s.Result == Unknown {
			w.out.Answer = Answer{
				Reason:  reasonUnknown,
				Summary: "not known: step " + s.Name + " could not be looked at",
				Next:    s.Summary,
			}
			return
		}
	}
	w.out.Answer = Answer{
		Reason:  reasonForwarded,
		Summary: fmt.Sprintf("forwarded to %s of %s", plural(len(w.out.Backends), "the one pod", "one of %d pods"), w.out.Service),
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf(many, n)
}
