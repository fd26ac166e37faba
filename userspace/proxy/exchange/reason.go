package exchange

import "net/http"

// Reason says how an exchange ended. The token stands in the body of the proxy's own
// answers, in the access log and in the metric kerngate_proxy_requests_total.
type Reason uint8

const (
	Forwarded         Reason = iota // a pod's response was passed on whole
	NoRoute                         // no host or path matches
	NoService                       // the route names a service or port that does not exist
	NoEndpoint                      // the service has no ready pod
	ConnectFailed                   // no pod could be connected to
	ConnectTimeout                  // no pod answered the connection in time
	UpstreamClosed                  // the pod closed the connection before a response
	UpstreamInvalid                 // the pod's response is not valid HTTP
	UpstreamTimeout                 // the pod did not respond in time
	UpstreamAborted                 // the pod broke off within its response
	ClientAborted                   // the client went away
	ClientTimeout                   // the client was too slow to send
	BadRequest                      // the request is not valid HTTP; the log has the parser's token
	BodyTooLarge                    // the request's body exceeds the limit
	BadPath                         // the path cannot be normalised
	Overloaded                      // no descriptor or port left for a connection to a pod
	Crashed                         // a fault of the proxy itself
	UpstreamReset                   // the pod reset the request's stream
	UpstreamRefused                 // the pod refused the request's stream, as did others
	UpstreamProtocol                // the pod does not speak the protocol that the Ingress says
	NoWebSocket                     // the pod speaks HTTP/2 and takes no WebSocket over it
	UpstreamTLS                     // there is no TLS connection to the pod
	UpstreamUntrusted               // the pod's certificate cannot be verified
	Misdirected                     // the TLS connection is not one for this host
	ClientCertificate               // the host's clients must show a certificate that is valid
	ErrorPage                       // the same, and there is a page for those who do not
	RedirectHTTPS                   // sent to the same URL in https
	RuleAnswered                    // a rule of the route answered, such as a redirect
	RateLimited                     // the client sends more requests than a rule allows
	ConnectionLimited               // the client has more requests at once than a rule allows
	SourceDenied                    // a rule does not let the client's address in
	Unauthorized                    // a rule asks for a name and a password
	AccessClosed                    // what a rule needs to judge is missing: nobody gets in
	SignIn                          // a rule's service does not know the client, who is sent to sign in
	ExternalDenied                  // a rule's service does not let the request in
	ExternalFailed                  // a rule's service does not answer as it should: nobody gets in
	Intercepted                     // the pod's error is replaced by a page of another service
	PodsBusy                        // every pod has as many requests as its Service allows
	LengthRequired                  // the request's body has no length and is too large to be gathered
	BuffersFull                     // the same, and it is other bodies that take the room
	SpoolFailed                     // the request's body cannot be kept in a file
	RewriteLoop                     // rules sent the request from path to path without an end
	Shed                            // the proxy is about to run out of something
	ClientSlow                      // the client was too slow to take the response
	Loop                            // the request has come back to proxies of the cluster too often
	Reasons
)

var reasons = [Reasons]struct {
	token  string
	status int
	text   string
}{
	Forwarded:       {"forwarded", 200, ""},
	NoRoute:         {"no_route", http.StatusNotFound, "no Ingress publishes this host and path"},
	NoService:       {"no_service", http.StatusServiceUnavailable, "the Ingress names a Service or port that does not exist"},
	NoEndpoint:      {"no_endpoint", http.StatusServiceUnavailable, "the Service has no ready pod"},
	ConnectFailed:   {"connect_failed", http.StatusBadGateway, "no pod of the Service accepted a connection"},
	ConnectTimeout:  {"connect_timeout", http.StatusGatewayTimeout, "no pod of the Service accepted a connection in time"},
	UpstreamClosed:  {"upstream_closed", http.StatusBadGateway, "the pod closed the connection before responding"},
	UpstreamInvalid: {"upstream_invalid", http.StatusBadGateway, "the pod's response is not valid HTTP"},
	UpstreamTimeout: {"upstream_timeout", http.StatusGatewayTimeout, "the pod did not respond in time"},
	UpstreamAborted: {"upstream_aborted", http.StatusBadGateway, "the pod broke off its response"},
	ClientAborted:   {"client_aborted", 499, "the client closed the connection"},
	ClientTimeout:   {"client_timeout", http.StatusRequestTimeout, "the request was not received in time"},
	ClientSlow:      {"client_slow", 499, "the client took the response too slowly"},
	BadRequest:      {"bad_request", http.StatusBadRequest, "the request is not valid HTTP"},
	BodyTooLarge:    {"body_too_large", http.StatusRequestEntityTooLarge, "the request body exceeds the limit"},
	LengthRequired:  {"length_required", http.StatusLengthRequired, "the request body has no Content-Length and is larger than what the proxy holds to find it"},
	BuffersFull:     {"request_buffers_full", http.StatusServiceUnavailable, "too many request bodies are held in memory"},
	SpoolFailed:     {"request_spool_failed", http.StatusInsufficientStorage, "the proxy cannot keep the request body in a file"},
	BadPath:         {"bad_path", http.StatusBadRequest, "the request path cannot be normalised"},
	Overloaded:      {"overloaded", http.StatusServiceUnavailable, "the proxy has no descriptor or port left"},
	Crashed:         {"crashed", http.StatusInternalServerError, "internal error"},

	UpstreamReset:     {"upstream_reset", http.StatusBadGateway, "the pod reset the request's stream"},
	UpstreamRefused:   {"upstream_refused", http.StatusServiceUnavailable, "no pod of the Service took the request's stream"},
	UpstreamProtocol:  {"upstream_protocol", http.StatusBadGateway, "the pod does not speak the protocol that the Ingress says"},
	UpstreamTLS:       {"upstream_tls", http.StatusBadGateway, "no TLS connection to a pod of the Service"},
	UpstreamUntrusted: {"upstream_untrusted", http.StatusBadGateway, "the pod's certificate cannot be verified"},
	NoWebSocket:       {"no_websocket", http.StatusNotImplemented, "the pod speaks HTTP/2 and does not allow WebSockets over it (RFC 8441)"},

	Misdirected:       {"misdirected", http.StatusMisdirectedRequest, "this TLS connection was opened for another host; open one for this"},
	ClientCertificate: {"client_certificate", http.StatusBadRequest, "this host asks for a client certificate, and a valid one"},
	ErrorPage:         {"error_page", http.StatusFound, "this host asks for a client certificate, and a valid one"},
	RedirectHTTPS:     {"redirect_https", http.StatusPermanentRedirect, "this host is served by https"},

	RuleAnswered:      {"rule_answered", http.StatusOK, "a rule of the Ingress answered"},
	RateLimited:       {"rate_limited", http.StatusServiceUnavailable, "too many requests"},
	ConnectionLimited: {"connection_limited", http.StatusServiceUnavailable, "too many requests at the same time"},
	SourceDenied:      {"source_denied", http.StatusForbidden, "this address may not"},
	Unauthorized:      {"unauthorized", http.StatusUnauthorized, "a name and a password are needed"},
	SignIn:            {"sign_in", http.StatusFound, "sign in first"},
	ExternalDenied:    {"external_denied", http.StatusForbidden, "the service that decides about this request denies it"},
	ExternalFailed:    {"external_failed", http.StatusInternalServerError, "the service that decides about this request cannot be asked"},
	Intercepted:       {"intercepted", http.StatusBadGateway, "the pod answered with an error, and the page for that is not to be had"},
	RewriteLoop:       {"rewrite_loop", http.StatusInternalServerError, "the rules of the Ingress rewrite the path without an end"},
	Loop:              {"loop", http.StatusLoopDetected, "the request comes back to the ingress again and again; find out which Service, mirror or auth-url leads to an ingress address"},
	Shed:              {"shed", http.StatusServiceUnavailable, "too much to do at the moment"},
	PodsBusy:          {"pods_busy", http.StatusServiceUnavailable, "every pod of the Service has as many requests as it may have"},
	AccessClosed:      {"access_closed", http.StatusServiceUnavailable, "the access rules of the Ingress cannot be judged"},
}

// String returns the reason's stable token.
func (r Reason) String() string { return reasons[r].token }

// Status returns the status that the proxy answers with for this reason.
func (r Reason) Status() int { return reasons[r].status }

// Text returns the sentence for people.
func (r Reason) Text() string { return reasons[r].text }

// UpstreamFault reports whether the pod is to blame, for its failure count.
func (r Reason) UpstreamFault() bool {
	switch r {
	case ConnectFailed, ConnectTimeout, UpstreamClosed, UpstreamInvalid, UpstreamTimeout, UpstreamAborted,
		UpstreamReset, UpstreamProtocol, UpstreamTLS, UpstreamUntrusted:
		return true
	}
	return false
}
