package exchange

import (
	"bytes"
	"iter"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// barred are the protocols that nobody may change to through the proxy: a client would talk
// to the pod past every rule, in requests that nobody sees (RFC 9110 section 7.8).
var barred = [...]string{"h2", "h2c", "h3", "http", "https", "tls", "ssl"}

// upgrades reports whether the client asks for other protocols, all of which may pass.
func upgrades(r *message.Request) bool {
	if len(r.Upgrade) == 0 {
		return false
	}
	n := 0
	for protocol := range protocolsOf(r.Upgrade) {
		n++
		name, _, _ := bytes.Cut(protocol, []byte("/"))
		for _, b := range barred {
			if chars.EqualFold(name, b) {
				return false
			}
		}
	}
	return n > 0
}

// asksFor reports whether the client has asked for each of the protocols that a pod has
// changed to, and that there is one.
func asksFor(r *message.Request, agreed []byte) bool {
	n := 0
	for protocol := range protocolsOf(agreed) {
		n++
		if !asksForOne(r, protocol) {
			return false
		}
	}
	return n > 0
}

func asksForOne(r *message.Request, protocol []byte) bool {
	for one := range protocolsOf(r.Upgrade) {
		if bytes.EqualFold(one, protocol) {
			return true
		}
	}
	return false
}

// protocolsOf yields the elements of an Upgrade header that are not empty.
func protocolsOf(list []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for one := range bytes.SplitSeq(list, []byte(",")) {
			if one = bytes.Trim(one, " \t"); len(one) > 0 && !yield(one) {
				return
			}
		}
	}
}
