package http1

// IsAuthority reports whether s is host[:port] as Host would have to be, and not empty.
func IsAuthority(s []byte) bool {
	var r Request
	host, _, ok := r.readAuthority(s)
	return ok && len(host) > 0
}

// AuthorityPort returns the port of a valid authority, or 0 if there is none.
func AuthorityPort(s []byte) uint16 {
	var r Request
	_, port, _ := r.readAuthority(s)
	return port
}
