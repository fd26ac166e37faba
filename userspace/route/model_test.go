package route

import "strings"

// naive finds a route by comparing with every one: the rules of the package
// comment, written down without any thought of speed.
func naive(hosts []Host[int], host, path string, q Request) *Route[int] {
	var best *Host[int]
	class := 0
	for i := range hosts {
		if c := naiveHost(hosts[i].Name, host); c > class {
			best, class = &hosts[i], c // of two wildcards that with more labels, and of those "*."
		}
	}
	if best == nil {
		return nil
	}
	var found *Route[int]
	for i := range best.Routes {
		r := &best.Routes[i]
		if !naivePath(r, path) || r.When != nil && (q == nil || !r.When.Fit(q)) {
			continue
		}
		// Exact is always the longest there can be; of one path the first that fits goes first.
		if found != nil && r.Exact == found.Exact && trim(r.Path) == trim(found.Path) {
			continue
		}
		if found == nil || r.Exact || !found.Exact && len(trim(r.Path)) > len(trim(found.Path)) {
			found = r
		}
	}
	return found
}

func naiveHost(name, host string) (class int) {
	label, domain, dotted := strings.Cut(host, ".")
	switch {
	case name == host && name != "":
		return 1000
	case dotted && label != "" && name == "*."+domain:
		return 3 + 2*len(domain)
	case strings.HasPrefix(name, "**") && len(host) > len(name)-2 && host[0] != '.' && strings.HasSuffix(host, name[2:]):
		return 2 + 2*(len(name)-3)
	case name == "":
		return 1
	}
	return 0
}

func naivePath(r *Route[int], path string) bool {
	switch p := trim(r.Path); {
	case r.Exact:
		return path == r.Path
	case p == "":
		return true
	default:
		return path == p || strings.HasPrefix(path, p+"/")
	}
}

func trim(path string) string { return strings.TrimRight(path, "/") }
