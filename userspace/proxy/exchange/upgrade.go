package exchange

import "bytes"

// barred are the protocols that nobody may change to through the proxy: a client would talk
// to the pod past every rule, in requests that nobody sees (RFC 9110 section 7.8).
var barred = [...]string{"h2", "h2c", "h3", "http", "https", "tls", "ssl"}

// upgrades reports whether the client asks for other protocols, all of which may pass.
func (x *Exchange) upgrades() bool {
	asked := x.Request.Upgrade
	if len(asked) == 0 {
		return false
	}
	n := 0
	for rest, more := asked, true; more; {
		var protocol []byte
		protocol, rest, more = cutProtocol(rest)
		if len(protocol) == 0 {
			continue
		}
		n++
		name, _, _ := bytes.Cut(protocol, []byte("/"))
		for _, b := range barred {
			if foldEqual(name, b) {
				return false
			}
		}
	}
	return n > 0
}

// asksFor reports whether the client has asked for each of the protocols that a pod has
// changed to, and that there is one.
func (x *Exchange) asksFor(agreed []byte) bool {
	n := 0
	for rest, more := agreed, true; more; {
		var protocol []byte
		protocol, rest, more = cutProtocol(rest)
		if len(protocol) == 0 {
			continue
		}
		n++
		if !x.asksForOne(protocol) {
			return false
		}
	}
	return n > 0
}

func (x *Exchange) asksForOne(protocol []byte) bool {
	for rest, more := x.Request.Upgrade, true; more; {
		var one []byte
		if one, rest, more = cutProtocol(rest); bytes.EqualFold(one, protocol) {
			return true
		}
	}
	return false
}

// cutProtocol splits a list at its first comma and trims the element before it.
func cutProtocol(list []byte) (protocol, rest []byte, more bool) {
	protocol, rest, more = bytes.Cut(list, []byte(","))
	return bytes.Trim(protocol, " \t"), rest, more
}
