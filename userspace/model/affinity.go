package model

import "time"

// Affinity keeps a client at the pod that it was sent to first, by a cookie that names
// the pod in a way which tells the client nothing.
type Affinity struct {
	Cookie string // its name
	Path   string
	Domain string
	MaxAge time.Duration // 0: until the client's session ends
	Expiry time.Duration // Expires instead of, or beside, Max-Age; 0: none
	// SameSite is Lax, Strict, None or "". Conditional leaves None out for clients that
	// take it for Strict.
	SameSite    string
	Conditional bool
	Secure      Secure
	// Move sends a client elsewhere, for good, once its pod has failed a request.
	Move bool
}

// Secure says when a cookie gets the attribute of that name.
type Secure uint8

const (
	SecureOverTLS Secure = iota // if the request came over TLS
	SecureAlways
	SecureNever
)
