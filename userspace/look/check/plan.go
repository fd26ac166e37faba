package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// Plan is how to move from ingress-nginx: what the agent is to be told, what becomes of each
// Ingress, and what to apply in which order.
type Plan struct {
	Classes   []string  `json:"classes"`   // that Ingresses name
	ConfigMap string    `json:"configMap"` // of ingress-nginx's controller, "namespace/name"; "": none was found
	Flags     []FlagUse `json:"flags"`
	Report    Report    `json:"report"`
}

// FlagUse is a flag that the agent should have.
type FlagUse struct {
	Flag  string `json:"flag"`
	Value string `json:"value,omitempty"`
	For   string `json:"for"` // what it takes the place of
}

// Text is the flag as it is typed.
func (f FlagUse) Text() string {
	if f.Value == "" {
		return f.Flag
	}
	if strings.ContainsFunc(f.Value, func(c rune) bool { return c <= ' ' || strings.ContainsRune("'\"$`\\;&|<>()*?[]{}!#~", c) }) {
		return f.Flag + "='" + strings.ReplaceAll(f.Value, "'", `'\''`) + "'"
	}
	return f.Flag + "=" + f.Value
}

// controllerArgs are the flags of an ingress-nginx controller that manifests have.
type controllerArgs struct {
	namespace string
	args      []string
}

// controllers finds the containers of a document that run ingress-nginx's controller.
func (l lines) controllers() (out []controllerArgs) {
	if l.root == nil {
		return nil
	}
	namespace := "default"
	if _, meta := field(l.root, "metadata"); meta != nil {
		if _, n := field(meta, "namespace"); n != nil {
			namespace = n.Value
		}
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if _, args := field(n, "args"); args != nil && args.Kind == yaml.SequenceNode {
			c := controllerArgs{namespace: namespace}
			for _, a := range args.Content {
				c.args = append(c.args, strings.ReplaceAll(a.Value, "$(POD_NAMESPACE)", namespace))
			}
			if slices.Contains(c.args, "/nginx-ingress-controller") || slices.ContainsFunc(c.args, func(a string) bool { return strings.HasPrefix(a, "--controller-class=k8s.io/ingress-nginx") }) {
				out = append(out, c)
			}
		}
		for _, inner := range n.Content {
			walk(inner)
		}
	}
	walk(l.root)
	return out
}

// flag returns the value of a flag.
func (c controllerArgs) flag(name string) (value string, set bool) {
	for i, a := range c.args {
		if a == name && i+1 < len(c.args) && !strings.HasPrefix(c.args[i+1], "--") {
			return c.args[i+1], true
		}
		if rest, ok := strings.CutPrefix(a, name); ok && (rest == "" || rest[0] == '=') {
			return strings.TrimPrefix(rest, "="), true
		}
	}
	return "", false
}

// newClass is the class that a plan has the Ingresses move to.
const newClass = "kerngate"

// Plan judges all that was added, as the agent that it describes would.
func (c *Checker) Plan() Plan {
	p := Plan{ConfigMap: c.options.IngressNginx, Classes: []string{}}
	for _, args := range c.controllers {
		if name, ok := args.flag("--configmap"); ok && p.ConfigMap == "" {
			p.ConfigMap = name
		}
	}
	var data map[string]string
	for _, o := range c.placed {
		name := cmp.Or(o.Ref.Namespace, "default") + "/" + o.Ref.Name
		if class := o.Class(); class != "" && !slices.Contains(p.Classes, class) {
			p.Classes = append(p.Classes, class)
		}
		if values := o.ConfigData(); values != nil && (name == p.ConfigMap || p.ConfigMap == "" && isController(o.Ref.Name, values)) {
			p.ConfigMap, data = name, values
		}
	}
	slices.Sort(p.Classes)
	c.options.IngressNginx = p.ConfigMap
	p.Flags = append([]FlagUse{{Flag: "--ingress-class", Value: newClass, For: "a class beside the one that ingress-nginx serves"}}, c.flags(p.ConfigMap, data)...)
	p.Report = c.Report()
	return p
}

// isController reports whether a ConfigMap looks like that of the controller.
func isController(name string, data map[string]string) bool {
	if !strings.Contains(name, "nginx") {
		return false
	}
	for key := range data {
		if s, known := ingressnginx.LookupSetting(key); known && s.Name == key {
			return true
		}
	}
	return false
}

// flags are those that take the place of the controller's own and of its ConfigMap.
func (c *Checker) flags(configMap string, data map[string]string) (out []FlagUse) {
	add := func(flag, value, instead string) {
		use := FlagUse{flag, value, instead}
		if !slices.Contains(out, use) {
			out = append(out, use)
		}
	}
	if configMap != "" {
		add("--ingress-nginx-configmap", configMap, "--configmap")
	}
	for _, args := range c.controllers {
		for _, f := range ingressnginx.Flags() {
			value, set := args.flag(f.Name)
			switch {
			case !set || f.Equal == "":
			case f.Name == "--configmap" || f.Name == "--ingress-class":
			case f.Name == "--default-backend-service":
				add(f.Equal, value+":80", f.Name)
			case f.Name == "--watch-ingress-without-class" || f.Name == "--disable-catch-all":
				if value != "false" {
					add(f.Equal, "", f.Name)
				}
			case f.Name == "--watch-namespace":
				if value != "" {
					add(f.Equal, "kubernetes.io/metadata.name="+value, f.Name)
				}
			case f.Name == "--watch-namespace-selector" && value == "":
			case f.Name == "--watch-namespace-selector" || f.Name == "--default-ssl-certificate" || strings.HasSuffix(f.Name, "-services-configmap") || f.Name == "--http-port" || f.Name == "--https-port":
				add(f.Equal, value, f.Name)
			}
		}
	}
	if data == nil {
		return out
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		s, _ := ingressnginx.LookupSetting(key)
		if s.By != ingressnginx.ByFlag || !s.Asks(data[key]) {
			continue
		}
		for _, use := range flagsOf(key, strings.TrimSpace(data[key]), data) {
			add(use.Flag, use.Value, "ConfigMap key "+key)
		}
	}
	if _, off := data["disable-access-log"]; !off {
		add("--access-log", "on", "ingress-nginx's default")
	}
	return out
}

// flagsOf are the flags that a key of the ConfigMap comes to, none if people must choose.
func flagsOf(key, value string, data map[string]string) (out []FlagUse) {
	seconds := map[string]string{"keep-alive": "--idle-timeout", "client-header-timeout": "--head-timeout", "client-body-timeout": "--body-timeout"}
	if flag := seconds[key]; flag != "" {
		return []FlagUse{{Flag: flag, Value: strings.TrimSuffix(value, "s") + "s"}}
	}
	sources := func(flag string) {
		for _, p := range strings.Split(cmp.Or(data["proxy-real-ip-cidr"], "ADDRESS-OF-THE-LOAD-BALANCER"), ",") {
			out = append(out, FlagUse{Flag: flag, Value: strings.TrimSpace(p)})
		}
	}
	switch key {
	case "use-forwarded-headers", "enable-real-ip":
		sources("--trusted-proxy")
	case "use-proxy-protocol":
		sources("--proxy-protocol-from")
	case "use-gzip":
		out = append(out, FlagUse{Flag: "--compression", Value: "gzip"})
	case "enable-brotli":
		out = append(out, FlagUse{Flag: "--compression", Value: "br"})
	case "gzip-types", "brotli-types":
		if value != "*" {
			out = append(out, FlagUse{Flag: "--compression-types", Value: strings.Join(strings.Fields(value), ",")})
		}
	case "gzip-min-length", "brotli-min-length":
		out = append(out, FlagUse{Flag: "--compression-min-bytes", Value: value})
	case "ssl-protocols":
		if value == "TLSv1.3" {
			out = append(out, FlagUse{Flag: "--tls-min-version", Value: "1.3"})
		}
	case "worker-shutdown-timeout":
		out = append(out, FlagUse{Flag: "--drain-timeout", Value: value})
	case "http2-max-concurrent-streams":
		out = append(out, FlagUse{Flag: "--max-streams", Value: value})
	case "use-http2":
		out = append(out, FlagUse{Flag: "--disable-http2"})
	case "enable-ocsp":
		out = append(out, FlagUse{Flag: "--ocsp"})
	case "log-format-upstream":
		out = append(out, FlagUse{Flag: "--access-log-format", Value: "combined"})
	}
	return out
}

// Copies are manifests of the Ingresses for another class: those that have a rule for host, or all.
// Ingresses that are of that class already, such as earlier copies, are left out.
func (c *Checker) Copies(class, host string) (string, error) {
	var b strings.Builder
	for _, o := range c.placed {
		if o.field != "" || o.Class() == class || host != "" && !slices.Contains(o.Hosts(), host) {
			continue
		}
		text, err := o.CopyFor(class)
		if err != nil {
			return "", fmt.Errorf("%s: %w", o.object(), err)
		}
		if text != "" {
			b.WriteString("---\n" + text)
		}
	}
	return b.String(), nil
}

// Document returns the plan for people.
func (p Plan) Document() Document {
	d := Document{Title: "From ingress-nginx to Kerngate"}
	flags := Section{Heading: "Flags of the agent", Columns: []string{"Flag", "In place of"}}
	for _, f := range p.Flags {
		flags.Rows = append(flags.Rows, []string{f.Text(), f.For})
	}
	class := "nginx"
	if i := slices.IndexFunc(p.Classes, func(class string) bool { return class != newClass }); i >= 0 {
		class = p.Classes[i] // copies may be in the cluster already
	}
	d.Sections = append(d.Sections, p.Report.ingressSection(), flags,
		Section{Heading: "1. Install beside ingress-nginx", Text: []string{"A class of its own, on another address. Nothing that ingress-nginx serves changes."},
			Code: "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: kerngate}\nspec: {controller: kerngate.dev/ingress-controller}\n"},
		Section{Heading: "2. Serve copies of the Ingresses", Code: "kerngatectl migrate copy --cluster --to kerngate > copies.yaml\nkubectl apply -f copies.yaml\nkerngatectl problems\n"},
		Section{Heading: "3. Compare the answers of both", Text: []string{"Only GET and HEAD requests are sent, 5 per second. If a page changes with each request, --twice leaves out what differs anyway."},
			Code: "kerngatectl migrate shadow access.log --old https://ADDRESS-OF-INGRESS-NGINX --new https://ADDRESS-OF-KERNGATE --host HOST\n"},
		Section{Heading: "4. Move host by host", Text: []string{"Point the name of one host to Kerngate's address; when its requests have come over, switch its Ingress and remove the copy."},
			Code: "kubectl -n NAMESPACE patch ingress NAME --type merge -p '{\"spec\":{\"ingressClassName\":\"kerngate\"}}'\nkubectl -n NAMESPACE delete ingress NAME-kerngate\n"},
		Section{Heading: "5. Roll back", Text: []string{"Point the name to ingress-nginx's address again. An Ingress that was switched is switched back:"},
			Code: "kubectl -n NAMESPACE patch ingress NAME --type merge -p '{\"spec\":{\"ingressClassName\":\"" + class + "\"}}'\n"},
		p.Report.findingSection())
	if len(p.Report.Notes) > 0 {
		d.Sections = append(d.Sections, Section{Heading: "Where ingress-nginx's defaults differ, for every Ingress", Text: p.Report.Notes})
	}
	return d
}
