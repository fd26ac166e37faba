package ingressnginx

import (
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/text/rule"
)

// secretName returns the Secret that an annotation names, NAMESPACE/NAME or NAME, without its
// namespace. Only the Ingress's own is looked in: who may write an Ingress must not thereby use
// Secrets that he may not read. id is how the model names it; where that is not allowed the name is
// "", and the id one that no Secret can have, so that whatever depends on it fails closed.
func (r *reader) secretName(key string) (name, id string, set bool) {
	_, v, set := r.text(key)
	if !set {
		return "", "", false
	}
	namespace, name, both := strings.Cut(v, "/")
	if !both {
		namespace, name = r.in.Namespace, v
	}
	switch {
	case namespace != r.in.Namespace:
		r.report(Finding{Key: key, Verdict: Invalid, Reason: "SecretRefused",
			Message: fmt.Sprintf("Secret %s is of another namespace: only Secrets of namespace %s are used", rule.Shorten(v), r.in.Namespace)})
		return "", r.in.Namespace + "/" + rule.Shorten(v), true
	case name == "" || strings.Contains(name, "/"):
		r.invalid(key, v, "NAME, or "+r.in.Namespace+"/NAME", "the Secret counts as missing")
		return "", r.in.Namespace + "//", true
	}
	return name, namespace + "/" + name, true
}
