package exchange

import (
	"bytes"
	"net/netip"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// origin is what the proxy takes for true about where a request comes from. Without
// trusted proxies that is what the connection shows. The word of a trusted proxy leads one
// hop further, as long as each hop is itself a trusted proxy; what lies behind the first
// address that is not, was said by that client and is dropped.
type origin struct {
	client netip.Addr
	// hops are the believed addresses behind the connection's own: the nearest first,
	// the client last. Empty if the connection is the client's.
	hops   []netip.Addr
	secure bool   // the client speaks https
	host   []byte // that the client asked for, nil: the request's
	port   uint16 // that the client asked for
}

// maxHops bounds the addresses that are believed. More hops than that indicate a forwarding loop.
const maxHops = 32

// claims are the fields in which a proxy says whom it speaks for.
var (
	xForwarded = message.Fields(message.FieldXForwardedFor, message.FieldXForwardedProto,
		message.FieldXForwardedHost, message.FieldXForwardedPort)
	claims = xForwarded.With(message.Fields(message.FieldForwarded, message.FieldXRealIP))
)

// Client returns the address that the request comes from: that of the connection's client
// or, where this is a trusted proxy, of the one that it speaks for. Policies go by it.
func (x *Exchange) Client() netip.Addr { return x.origin.client }

// Secure reports whether the client speaks https, if only to a trusted proxy before us.
func (x *Exchange) Secure() bool { return x.origin.secure }

// find finds the origin of a request.
func (o *origin) find(r *message.Request, c *Connection, s *config.Settings) {
	*o = origin{client: c.Client.Addr(), secure: c.TLS != nil, port: c.Local.Port(), hops: o.hops[:0]}
	if c.TLS != nil && !c.Announced && s.PublicHTTPSPort != 0 {
		o.port = s.PublicHTTPSPort
	}
	// A load balancer that has ended TLS says so by no more than the port, as ingress-nginx
	// takes it.
	o.secure = o.secure || c.Announced && o.port == 443
	trusted := s.TrustedProxies
	if s.ForwardedFor != "" {
		o.findNamed(r, s.ForwardedFor, trusted)
		return
	}
	if len(trusted) == 0 || r.Present&claims == 0 || !trusted.Contain(o.client) {
		return
	}
	// A proxy that writes one of the two kinds may pass on what its client wrote of the
	// other: the more usual one wins.
	switch {
	case r.Present&xForwarded != 0:
		o.readXForwarded(r, trusted)
	case r.Present.Has(message.FieldForwarded):
		o.readForwarded(r, trusted)
	}
	if r.Present&message.Fields(message.FieldXForwardedFor, message.FieldForwarded) == 0 {
		if a, ok := hopAddress(single(r, message.FieldXRealIP)); ok {
			o.believe(a, trusted)
		}
	}
}

// findNamed finds the origin where the header of one name (in lower case) alone says who the
// client is. Of what an untrusted client writes there, or in a name that CGI takes for it, pods and
// rules see nothing.
func (o *origin) findNamed(r *message.Request, name string, trusted config.Prefixes) {
	believed := trusted.Contain(o.client)
	for i := range r.Fields {
		if f := &r.Fields[i]; policy.SameVariable(f.Name, name) && !(believed && chars.EqualFold(f.Name, name)) {
			f.HopByHop = true
		}
	}
	switch {
	case !believed:
	case name == message.FieldForwarded.String():
		o.readForwarded(r, trusted)
	default:
		o.readAsked(r)
		o.readHops(r, name, trusted)
	}
}

// believe takes a for the one behind the last hop. It reports whether a is a trusted proxy,
// so that what a has said may be believed as well.
func (o *origin) believe(a netip.Addr, trusted config.Prefixes) bool {
	o.client = a
	o.hops = append(o.hops, a)
	return len(o.hops) < maxHops && trusted.Contain(a)
}

// readXForwarded reads the X-Forwarded-* fields. Each must be valid to be believed; where
// one is not, what we see ourselves stands.
func (o *origin) readXForwarded(r *message.Request, trusted config.Prefixes) {
	o.readAsked(r)
	o.readHops(r, message.FieldXForwardedFor.String(), trusted)
}

// readAsked reads what the client has asked for, and how.
func (o *origin) readAsked(r *message.Request) {
	told := false
	if o.secure, told = readScheme(first(r, message.FieldXForwardedProto), o.secure); told {
		o.port = schemePort(o.secure)
	}
	if host := first(r, message.FieldXForwardedHost); message.IsAuthority(host) {
		o.host = host
	}
	if port, ok := parsePort(single(r, message.FieldXForwardedPort)); ok {
		o.port = port
	}
}

// readHops reads the addresses in the fields of a name (in lower case), the nearest last.
func (o *origin) readHops(r *message.Request, name string, trusted config.Prefixes) {
	for i := len(r.Fields) - 1; i >= 0; i-- {
		if !chars.EqualFold(r.Fields[i].Name, name) {
			continue
		}
		for list, more := r.Fields[i].Value, true; more; {
			word := list
			comma := bytes.LastIndexByte(list, ',')
			if more = comma >= 0; more {
				list, word = list[:comma], list[comma+1:]
			}
			a, ok := hopAddress(bytes.Trim(word, " \t"))
			if !ok || !o.believe(a, trusted) {
				return
			}
		}
	}
}

// first returns the first value of a list, maybe in several fields: that of the proxy which is
// nearest to the client.
func first(r *message.Request, id message.FieldID) []byte {
	value, _, _ := bytes.Cut(r.Value(id), []byte(","))
	return bytes.Trim(value, " \t")
}

// readScheme reports whether a scheme means TLS; told, whether it is one: http, https, or that
// of a WebSocket, which some proxies say where one is opened. Else what was known stands.
func readScheme(scheme []byte, known bool) (secure, told bool) {
	switch {
	case bytes.EqualFold(scheme, schemeHTTPS), chars.EqualFold(scheme, "wss"):
		return true, true
	case bytes.EqualFold(scheme, schemeHTTP), chars.EqualFold(scheme, "ws"):
		return false, true
	}
	return known, false
}

// single returns the header's value if it occurs exactly once, else nil.
func single(r *message.Request, id message.FieldID) (value []byte) {
	if !r.Present.Has(id) {
		return nil
	}
	for i := range r.Fields {
		if r.Fields[i].ID != id {
			continue
		}
		if value != nil {
			return nil
		}
		value = r.Fields[i].Value
	}
	return value
}

// hopAddress reads an address with or without a port; IPv6 may stand in brackets.
func hopAddress(s []byte) (netip.Addr, bool) {
	if len(s) == 0 || len(s) > len("[0000:0000:0000:0000:0000:ffff:255.255.255.255]:65535") {
		return netip.Addr{}, false
	}
	host := s
	if s[0] == '[' {
		end := bytes.IndexByte(s, ']')
		if end < 0 || !isPortSuffix(s[end+1:]) || bytes.IndexByte(s[:end], ':') < 0 {
			return netip.Addr{}, false
		}
		host = s[1:end]
	} else if colon := bytes.IndexByte(s, ':'); colon >= 0 && bytes.IndexByte(s[colon+1:], ':') < 0 {
		if host = s[:colon]; !isPortSuffix(s[colon:]) {
			return netip.Addr{}, false
		}
	}
	a, err := netip.ParseAddr(string(host))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

func isPortSuffix(s []byte) bool {
	if len(s) == 0 {
		return true
	}
	_, ok := parsePort(s[1:])
	return s[0] == ':' && ok
}

// parsePort reads 1 to 65535.
func parsePort(s []byte) (uint16, bool) {
	if len(s) == 0 || len(s) > 5 {
		return 0, false
	}
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return uint16(n), n > 0 && n <= 65535
}

func schemePort(secure bool) uint16 {
	if secure {
		return 443
	}
	return 80
}
