package model

import "net/netip"

// Access says who may use a route. What cannot be judged is refused.
type Access struct {
	Allow, Deny []netip.Prefix // sources; no Allow: all; Deny goes before Allow
	Basic       *BasicAuth
	External    *ExternalAuth
	// Any lets those in whom one of sources, Basic and External lets in; else all must.
	Any bool
	// Closed says why nobody gets in: what is needed to judge cannot be had. "": it can.
	Closed string
}

// BasicAuth asks for a name and a password (RFC 7617).
type BasicAuth struct {
	Realm string // printable ASCII without " and \
	Users Credentials
}

// Credentials are lines NAME:HASH as htpasswd writes them. However they are printed, they
// do not show.
type Credentials []byte

// String hides the hashes, like the methods below.
func (Credentials) String() string { return "(credentials)" }

// GoString hides the hashes from %#v.
func (Credentials) GoString() string { return "(credentials)" }

// MarshalText hides the hashes from encoders.
func (Credentials) MarshalText() ([]byte, error) { return []byte("(credentials)"), nil }

// UnmarshalText reads what MarshalText writes: nothing is left of the credentials.
func (c *Credentials) UnmarshalText([]byte) error {
	*c = nil
	return nil
}
