package config

// Session is what a TLS connection was begun for: the name that the client asked for, and
// the host that it belonged to then. Tables change while connections live, so whether one
// may carry a request is asked of the tables in force.
type Session struct {
	Name string // in lower case, "" if the client named none
	Host *VirtualHost

	// The last question, which is nearly always the next one too.
	asked  *TLS
	host   string
	answer bool
}

// Session begins a connection for a name, in lower case.
func (t *TLS) Session(name string) *Session { return &Session{Name: name, Host: t.Lookup(name)} }

// Covers reports whether the connection may carry requests for a host, in lower case and
// without port, under the tables t:
//
//   - The host's client policy must be the one that the connection was begun under. A client
//     that was not asked for its certificate is not let in by the side door, and one that
//     was judged by a policy that has changed is judged anew.
//   - The connection must be for the host: because the client named none (load balancers that
//     encrypt anew, health checks, old clients; it was shown the default certificate and is
//     content with it), because it asked for this very name,
//     because host and name belong to the same entry of the tables (both have none of their
//     own, so that both get the default certificate, or the same wildcard), or because the
//     certificate that the client was shown is for the host as well, which is what lets
//     browsers use one HTTP/2 connection for several hosts (RFC 9113 section 9.1.1).
//
// Anything else is answered with 421, upon which clients open a connection of its own.
func (s *Session) Covers(t *TLS, host []byte) bool {
	if s.asked == t && s.host == string(host) {
		return s.answer
	}
	s.asked, s.host = t, string(host)
	s.answer = s.covers(t, s.host)
	return s.answer
}

func (s *Session) covers(t *TLS, host string) bool {
	h := t.Lookup(host)
	if h.Passthrough != nil || !samePolicy(h, s.Host) {
		return false
	}
	return s.Name == "" || host == s.Name || t.Lookup(s.Name) == h || s.Host.Covers(host)
}

func samePolicy(a, b *VirtualHost) bool {
	if a.Client == nil || b.Client == nil {
		return a.Client == b.Client
	}
	return a.Client.Fingerprint == b.Client.Fingerprint
}
