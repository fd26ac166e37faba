package model

// Canary takes a part of a route's requests to another service. Of several the first that
// wants a request gets it.
type Canary struct {
	Service ServiceKey // zero: the part gets 503
	Source  ObjectRef

	// Header decides, if the request has it: by Value if that is set, else by Pattern
	// (RE2, on the whole value), else "always" and "never". What it does not decide is
	// up to Cookie ("always" and "never"), and then to Weight.
	Header, Value, Pattern string
	Cookie                 string
	Weight, Total          uint32 // Weight of Total requests, at random
}
