package gateway

import "strings"

// Hostnames are in lower case: "" is any, "*.example.com" any with one label more or several.

// covers reports whether every name of the second is one of the first.
func covers(pattern, name string) bool {
	if pattern == "" || pattern == name {
		return true
	}
	domain, wild := strings.CutPrefix(pattern, "*")
	return wild && name != "" && len(name) > len(domain) && strings.HasSuffix(strings.TrimPrefix(name, "*"), domain)
}

// intersect returns the names that two hostnames have in common: those of the more specific one, or
// none.
func intersect(a, b string) (string, bool) {
	switch {
	case covers(a, b):
		return b, true
	case covers(b, a):
		return a, true
	}
	return "", false
}

// closest returns the most specific of some hostnames that covers a name.
func closest(all map[string]bool, name string) (best string, ok bool) {
	for pattern := range all {
		if covers(pattern, name) && (!ok || covers(best, pattern)) {
			best, ok = pattern, true
		}
	}
	return best, ok
}

// modelName returns a hostname as model.Host has it.
func modelName(name string) string {
	if strings.HasPrefix(name, "*.") {
		return "*" + name
	}
	return name
}
