package model

import "time"

// Balance says which pod of the service gets a request, where the route wants it otherwise
// than the service's own Algorithm.
type Balance struct {
	Algorithm Algorithm // ServiceAlgorithm: that of the service
	// HashBy is a template whose value chooses the pod, by Maglev, so that a pod that comes
	// or goes moves few values; "": none. An empty value is balanced by the algorithm.
	HashBy string
	// Subset keeps each value at so many pods, among which the algorithm chooses; 0: at one.
	Subset   uint32
	Affinity *Affinity
}

// Affinity keeps a client at the pod that answered it first, by a cookie. The cookie is
// signed, and shows neither address nor name of the pod.
type Affinity struct {
	Cookie string // its name
	// Persistent keeps the client at its pod while that lives; else a part of the clients
	// is spread anew when pods come.
	Persistent bool
	// ChangeOnFailure gives a client whose pod fails another for good, else it comes back.
	ChangeOnFailure bool
	// Canary says whether a client stays with the service, main or canary, that it came to.
	Canary bool

	Path     string // attribute; "": the route's path, or "/" where that is an expression
	Domain   string // attribute; "": none
	MaxAge   time.Duration
	Expires  time.Duration // from now on; 0: no attribute, like MaxAge
	SameSite string        // attribute: "Strict", "Lax", "None" or "" for none
	// ConditionalSameSite leaves SameSite=None out for clients known to misread it.
	ConditionalSameSite bool
	Secure              *bool // nil: over TLS alone
}
