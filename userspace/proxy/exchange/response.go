package exchange

import "github.com/kerngate/kerngate/userspace/proxy/rules/policy"

// response is a pod's response, on its way to the client.
type response struct {
	reader slowReader // who takes it
	begun  bool       // a final head was queued, by a pod or for a page in the place of its error
	asked  bool       // an interim response has asked if the client is there
	// replacing replaces texts in the body; nil: none are.
	replacing *policy.Substitution
	pacing    pacing
}
