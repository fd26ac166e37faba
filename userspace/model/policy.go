package model

// Policy is what happens to the requests of a route beyond being sent to its service. It
// says what is wanted, not how somebody wrote it down: annotations and Gateway API filters
// come to the same Policy. The zero value wants nothing.
//
// Rules apply in the order of the fields. Texts that are templates may name values of the
// request: $host, $http_host, $scheme, $uri, $request_uri, $args, $is_args, $query_string,
// $request_method, $remote_addr, $server_port, $http_NAME (a field), $cookie_NAME and
// $arg_NAME. There is no other syntax in them, and a value that a template brings in can
// never end a line or a field.
type Policy struct {
	// ServerSteps run once for a request, Steps whenever it has been routed to a route with
	// this Policy.
	ServerSteps, Steps []Step

	Redirects []Redirect
	CORS      *CORS
	Limits    *Limits
	Access    *Access
	MaxBody   *uint64 // bytes of a request's body, above: 413; 0: no limit; nil: that of the proxy
	Buffering RequestBuffering

	Rewrite        *Rewrite
	Host           string // template: the Host that pods get, "": the client's
	RequestHeaders []HeaderRule

	ResponseHeaders []HeaderRule
	CookieDomains   []Replacement // of Set-Cookie; the first that fits
	CookiePaths     []Replacement
	Locations       []Replacement // of Location and Refresh, at their beginning

	// Substitutions replace texts in the bodies of responses; nil: none.
	Substitutions *Substitutions

	Timeouts Timeouts
	// MaxResponseHead bounds the head of a pod's response in bytes where the proxy's own bound
	// is less; 0: that holds.
	MaxResponseHead uint32
	Unlogged        bool // leave requests out of the access log

	Balance    *Balance    // nil: as the service says
	Retry      *Retry      // nil: as the proxy does by itself
	Mirrors    []Mirror    // all get their copy
	ErrorPages *ErrorPages // nil: none
	// Fallback answers when the route's service has no ready pod; zero: 503.
	Fallback    ServiceKey
	Compression *Compression // nil: as the proxy's settings say
	Pace        *Pace        // nil: no bound
	Trace       *Trace       // nil: as the proxy's settings say

	Origins Origins
}

// Origins says what asked for the rules of a Policy, such as the keys of annotations, by
// kind of rule. It is for people alone: proxies do not get it, and rules may be missing.
// Redirects and headers name their own.
type Origins map[RuleKind][]string

// RuleKind names a kind of rule.
type RuleKind string

const (
	RuleCORS         RuleKind = "cors"
	RuleRate         RuleKind = "rate-limit"
	RuleConnections  RuleKind = "connection-limit"
	RuleAllow        RuleKind = "allow"
	RuleDeny         RuleKind = "deny"
	RuleBasic        RuleKind = "basic-auth"
	RuleExternal     RuleKind = "external-auth"
	RuleClosed       RuleKind = "closed"
	RuleMaxBody      RuleKind = "body-limit"
	RuleBuffering    RuleKind = "request-buffering"
	RuleRewrite      RuleKind = "rewrite"
	RuleHost         RuleKind = "host"
	RuleCookieDomain RuleKind = "cookie-domain"
	RuleCookiePath   RuleKind = "cookie-path"
	RuleLocation     RuleKind = "location-rewrite"
	RuleTimeouts     RuleKind = "timeouts"
	RuleResponseHead RuleKind = "response-head-limit"
	RuleUnlogged     RuleKind = "unlogged"
	RuleBalance      RuleKind = "balance"
	RuleAffinity     RuleKind = "affinity"
	RuleRetry        RuleKind = "retry"
	RuleMirror       RuleKind = "mirror"
	RuleErrorPages   RuleKind = "error-pages"
	RuleFallback     RuleKind = "fallback"
	RuleCompression  RuleKind = "compression"
	RulePace         RuleKind = "pace"
	RuleTrace        RuleKind = "trace"
	RuleSteps        RuleKind = "steps"
	RuleSubstitution RuleKind = "substitution"
)
