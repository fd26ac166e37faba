package model

import "time"

// Destination is where requests of the proxy's own go.
type Destination struct {
	// Service is set if the URL's host is that of a Service of the cluster: its pods are
	// asked directly. Else the proxy resolves the authority's host.
	Service ServiceKey
	TLS     bool
	// Authority is host or host:port, for Host, SNI and the certificate's check. "$host"
	// stands for the host of the request: then the service that the proxy itself would
	// route such a URL to is asked, and none else, whatever a client says its host is.
	Authority string
	Path      string // template: path and query; begins with "/"
}

// ExternalAuth asks a service about each request (nginx: auth_request). 2xx lets it in, 401
// and 403 are passed on, whatever else comes, or does not, refuses it.
type ExternalAuth struct {
	To      Destination
	Method  string // "": GET
	Headers []HeaderRule
	// Response names fields of the answer that the pod gets, in place of the client's.
	Response []string
	// SignIn is a template: the URL to which clients are sent with 302 in place of 401; "":
	// none. SignInParameter names the query parameter that gets the URL asked for, "": rd.
	SignIn, SignInParameter string
	// Redirect is a template for X-Auth-Request-Redirect, "": the request's URI.
	Redirect string
	// AlwaysSetCookie passes Set-Cookie of the answer on with every response, else only
	// with those of success.
	AlwaysSetCookie bool
	CacheKey        string // template, "": nothing is kept
	CacheFor        []CacheTime
}

// CacheTime is how long an answer of these statuses is kept; no Status: of any.
type CacheTime struct {
	Status []int
	For    time.Duration
}

// Mirror sends a copy of each request elsewhere; what is answered there, and whether, has
// no influence on anything.
type Mirror struct {
	To   Destination
	Host string // template: the Host of the copy; "": the destination's
	Body bool   // with its body, as far as the proxy's bounds allow
}

// ErrorPages has another service answer in place of responses with these statuses, the
// proxy's own as well as the pods'. It gets GET / with X-Code, X-Format, X-Original-URI,
// X-Namespace, X-Ingress-Name, X-Service-Name, X-Service-Port and X-Request-ID.
type ErrorPages struct {
	Status  []int // sorted
	Service ServiceKey
}
