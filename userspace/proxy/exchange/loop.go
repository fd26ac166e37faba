package exchange

import "bytes"

// A request that is sent to an ingress address comes back to a proxy, and may go round until
// something runs out: a pod or a mirror may be one, by a load balancer that nobody here knows.
// Every request that leaves the proxy says how often it has passed one of this cluster. Coming
// back once or twice is no loop: external authentication at a host of the ingress does, and
// applications that hand on the fields of a request.
//
// Proxies of other clusters have other tokens. Whoever learns this cluster's, as pods do, can
// have nobody's requests but its own refused.

const (
	passName  = "X-Kerngate-Pass"
	passLower = "x-kerngate-pass"
	// maxPasses is how often a request may have passed a proxy before; one digit.
	maxPasses = 5
)

// readPasses finds out how often the request has passed a proxy, and takes the field away. It
// reports false if that is too often.
func (x *Exchange) readPasses() bool {
	x.passes = 0
	v := x.Request.Lookup(passLower)
	if v == nil {
		return true
	}
	token := x.conf.PassToken
	if n := len(token); len(v) == n+2 && bytes.Equal(v[:n], token) && v[n] == ';' && '0' <= v[n+1] && v[n+1] <= '9' {
		x.passes = int(v[n+1] - '0')
	}
	x.Request.Drop(passLower)
	return x.passes < maxPasses
}

// appendPass appends the value of the field that says how often.
func (x *Exchange) appendPass(dst []byte) []byte {
	dst = append(dst, x.conf.PassToken...)
	return append(dst, ';', byte('0'+x.passes+1))
}
