package kube

import (
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
)

// readController reads the ConfigMap of --ingress-nginx-configmap. If it cannot be had, every
// Ingress is closed: it may be what keeps clients out (global-auth-url, block-cidrs).
func (t *translation) readController() *ingressnginx.Controller {
	n, ok := cutName(t.options.IngressNginx)
	if !ok {
		return nil
	}
	ref := model.ObjectRef{Kind: "ConfigMap", Namespace: n.namespace, Name: n.name}
	data, err := t.lookup.configMap(n)
	if err != nil {
		t.found.add(ref, model.Refused, "AccessClosed", err.Error()+"; as nobody knows whom it keeps out, every request is refused until it can be read (--ingress-nginx-configmap)")
		return ingressnginx.ClosedController(n.String(), err.Error())
	}
	c, found := ingressnginx.ReadController(n.String(), data, func(namespace, config string) (map[string]string, error) {
		fields, err := t.lookup.configMap(name{namespace, config})
		if err != nil && t.options.assume {
			t.found.add(ref, model.Warning, ReasonAbsent, "ConfigMap "+namespace+"/"+config+" is not in these manifests; it must be in the cluster")
			err = nil
		}
		return fields, err
	})
	for _, f := range found {
		message := "data[" + f.Key + "]: " + f.Message
		switch f.Verdict {
		case ingressnginx.Unknown:
			t.found.add(ref, model.Warning, "SettingUnknown", message)
		case ingressnginx.Unsupported:
			t.found.add(ref, model.Warning, "SettingUnsupported", message)
		case ingressnginx.Difference:
			t.found.add(ref, model.Warning, "SettingElsewhere", message)
		case ingressnginx.Closed:
			t.found.add(ref, model.Refused, "AccessClosed", message)
		default:
			t.found.add(ref, model.Warning, "SettingInvalid", message)
		}
	}
	if strings.TrimSpace(data["custom-http-errors"]) != "" && t.options.DefaultBackend == (model.ServiceKey{}) && !t.options.assume {
		t.found.add(ref, model.Warning, "SettingInvalid", "data[custom-http-errors]: there is no service that could answer for Ingresses without default-backend: name one by the agent's --default-backend")
	}
	return c
}

// renewController reads the ConfigMap of the controller again if it may have changed. A change can
// concern every Ingress.
func (t *routeTranslator) renewController() {
	if !t.controllerStale {
		return
	}
	t.controllerStale = false
	part := newPartOf(Objects{}, t.options, newLookup(t.store), t.read)
	now := part.readController()
	own := reference{"ConfigMap", name{}} // which is watched, as the options name it
	own.name, _ = cutName(t.options.IngressNginx)
	for r := range t.controllerUses {
		if r != own {
			t.wants.drop(r)
		}
	}
	t.controllerUses = part.lookup.used
	for r := range t.controllerUses {
		if r != own {
			t.wants.add(r, struct{}{})
		}
	}
	t.changed.problems = t.changed.problems || !slices.Equal(part.found, t.controllerProblems)
	t.controllerProblems = part.found
	if now.Equal(t.controller) {
		return
	}
	t.controller = now
	for _, e := range t.entries {
		if e.served() {
			t.dissolve(e.group)
			t.dirty[e] = struct{}{}
		}
	}
	t.dissolve(t.unnamed)
	t.unnamed = nil
}

// exempts reports whether a route, whose Ingress has written path, has no paths but those that
// begin with one of a list of the ConfigMap's. An expression is one path if it is literal.
func exempts(list []string, r *model.Route, path string) bool {
	return slices.ContainsFunc(list, func(begin string) bool { return strings.HasPrefix(path, begin) }) &&
		(r.Match != model.Regexp || isLiteral(r.Path))
}

// leftOut reports whether a route is left out of authentication, and of redirects to https.
func (t *translation) leftOut(r *model.Route, path string) (ofAuth, ofHTTPS bool) {
	challenge := isChallenge(r)
	c := t.controller
	if c == nil {
		return challenge, challenge
	}
	ofAuth = challenge
	if len(c.NoAuth) > 0 {
		ofAuth = exempts(c.NoAuth, r, path)
	}
	return ofAuth, challenge || exempts(c.NoTLSRedirect, r, path)
}

func hstsOf(c *ingressnginx.Controller) string {
	if c == nil {
		return ""
	}
	return c.HSTS
}

func forwardedForOf(c *ingressnginx.Controller) string {
	if c == nil {
		return ""
	}
	return c.ForwardedFor
}
