package policies

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// A manifest is an Ingress with annotations, and what else its translation looks at.
type manifest struct {
	annotations map[string]string // of the Ingress, or, those of serviceKeys, of its Service
	path        string
	form        uint32
}

// Bits of manifest.form.
const (
	formPathType = 1<<2 - 1 // 0 Exact, 1 Prefix, 2 ImplementationSpecific, 3 none
	formStrict   = 1 << 2   // the class reads paths as the API says
	formDefault  = 1 << 3   // there is a default backend
	formTLS      = 1 << 4
	formSecond   = 1 << 5 // there is another path
	formLong     = 1 << 6 // names are as long as Kubernetes lets them be
	formAnyHost  = 1 << 7 // the rule has no host
	formBits     = 8
)

func (m manifest) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "path %q, form %#x, annotations:", m.path, m.form)
	for _, key := range slices.Sorted(maps.Keys(m.annotations)) {
		fmt.Fprintf(&b, "\n\t%s: %q", key, m.annotations[key])
	}
	return b.String()
}

// trust is a Secret that has everything which annotations ask of one.
var trust = sync.OnceValue(func() map[string][]byte {
	a := certtest.NewAuthority("ca")
	chain, key := a.Pair(certtest.ECDSA, "shop.example.com")
	return map[string][]byte{"ca.crt": a.PEM(), "tls.crt": chain, "tls.key": key, "auth": []byte("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")}
})

// objects returns what the manifest is made of: the Ingress in question, an older one of
// another namespace that has the same path if the former is a canary, Services and Secrets.
func (m manifest) objects() kube.Objects {
	name, ingressName := "web", "web"
	if m.form&formLong != 0 {
		name, ingressName = strings.Repeat("w", 63), strings.Repeat("i", 253)
	}
	pathType := []*networkingv1.PathType{
		new(networkingv1.PathTypeExact), new(networkingv1.PathTypePrefix), new(networkingv1.PathTypeImplementationSpecific), nil,
	}[m.form&formPathType]
	backend := func(name string) networkingv1.IngressBackend {
		return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: name, Port: networkingv1.ServiceBackendPort{Number: 80}}}
	}
	host := "shop.example.com"
	if m.form&formAnyHost != 0 {
		host = ""
	}
	rule := func(paths ...networkingv1.HTTPIngressPath) []networkingv1.IngressRule {
		return []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: paths}}}}
	}
	path := networkingv1.HTTPIngressPath{Path: m.path, PathType: pathType, Backend: backend(name)}
	of := func(name string, age int64, annotations map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: "default", CreationTimestamp: metav1.Unix(age, 0), Annotations: annotations}
	}
	ingress := &networkingv1.Ingress{ObjectMeta: of(ingressName, 2, nil), Spec: networkingv1.IngressSpec{IngressClassName: new("kerngate"), Rules: rule(path)}}
	if m.form&formSecond != 0 {
		second := path
		second.Path = "/second"
		ingress.Spec.Rules = rule(path, second)
	}
	if m.form&formDefault != 0 {
		ingress.Spec.DefaultBackend = new(backend("helper"))
	}
	if m.form&formTLS != 0 {
		ingress.Spec.TLS = []networkingv1.IngressTLS{{SecretName: "trust"}}
	}
	service := func(name string, annotations map[string]string) *corev1.Service {
		return &corev1.Service{ObjectMeta: of(name, 0, annotations), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}, {Port: 8080, Name: "more"}}}}
	}
	o := kube.Objects{
		Ingresses: []*networkingv1.Ingress{ingress},
		Secrets:   []*corev1.Secret{{ObjectMeta: of("trust", 0, nil), Data: trust()}},
		ConfigMaps: []*corev1.ConfigMap{
			{ObjectMeta: of("fields", 0, nil), Data: map[string]string{"X-A": "a b", "X-B": "$host"}},
			// What stands in it is for annotations to choose, as all else is.
			{ObjectMeta: of("chosen", 0, nil), Data: map[string]string{"X-A": m.annotations[chosenValue], m.annotations[chosenName]: "b", "X-C": "c"}},
		},
	}
	onIngress, onService := map[string]string{}, map[string]string{}
	for key, v := range m.annotations {
		if slices.Contains(serviceKeys, key) {
			onService[key] = v
		} else {
			onIngress[key] = v
		}
	}
	ingress.Annotations = onIngress
	o.Services = []*corev1.Service{service(name, onService), service("helper", nil)}
	if onIngress["nginx.ingress.kubernetes.io/canary"] != "" {
		main := &networkingv1.Ingress{ObjectMeta: of("main", 1, map[string]string{"nginx.ingress.kubernetes.io/app-root": "/app"}), Spec: networkingv1.IngressSpec{IngressClassName: new("kerngate"), Rules: rule(path)}}
		o.Ingresses = append(o.Ingresses, main)
	}
	if m.form&formStrict != 0 {
		o.Classes = []*networkingv1.IngressClass{{ObjectMeta: metav1.ObjectMeta{Name: "kerngate", Annotations: map[string]string{"kerngate.dev/compat": "strict"}}, Spec: networkingv1.IngressClassSpec{Controller: kube.Controller}}}
	}
	return o
}

// empty is a proxy's configuration before the first. Each manifest is applied to it anew.
var empty = sync.OnceValue(config.Empty)

// refusal sends a manifest through the whole chain, and returns the translation's problems.
// The error is why the proxy would not take what the translation has made of it.
func (m manifest) refusal() ([]model.Problem, error) {
	translated, problems := kube.Translate(m.objects(), kube.Options{Class: "kerngate", ClassOptional: true})
	ids := map[string]state.ServiceID{}
	id := func(name string) (state.ServiceID, bool) {
		if ids[name] == 0 {
			ids[name] = state.ServiceID(len(ids) + 1)
		}
		return ids[name], true
	}
	raw, err := proto.Marshal(compile.Route(&translated, id, compile.Common{Settings: &feedpb.Settings{}}, nil, nil, nil).Snapshot(1))
	if err != nil {
		return problems, fmt.Errorf("the feed: %w", err)
	}
	received := new(feedpb.Config)
	if err := proto.Unmarshal(raw, received); err != nil {
		return problems, fmt.Errorf("the feed: %w", err)
	}
	_, err = empty().Apply(received)
	return problems, err
}

// minimal returns a manifest that is refused too, and has as little as possible.
func (m manifest) minimal() manifest {
	refused := func(m manifest) bool { _, err := m.refusal(); return err != nil }
	for changed := true; changed; {
		changed = false
		try := func(less manifest) bool {
			if !refused(less) {
				return false
			}
			m, changed = less, true
			return true
		}
		with := func(key string, value *string) manifest {
			less := m
			less.annotations = maps.Clone(m.annotations)
			if delete(less.annotations, key); value != nil {
				less.annotations[key] = *value
			}
			return less
		}
		for _, key := range slices.Sorted(maps.Keys(m.annotations)) {
			if try(with(key, nil)) {
				continue
			}
			for cut := len(m.annotations[key]) / 2; cut > 0; cut /= 2 {
				for at := 0; at+cut <= len(m.annotations[key]); {
					v := m.annotations[key]
					if less := strings.ToValidUTF8(v[:at]+v[at+cut:], ""); len(less) >= len(v) || !try(with(key, &less)) {
						at += cut
					}
				}
			}
		}
		for bit := uint32(1); bit < 1<<formBits; bit <<= 1 {
			if less := m; m.form&bit != 0 {
				less.form &^= bit
				try(less)
			}
		}
		if less := m; m.path != "/" {
			less.path = "/"
			try(less)
		}
	}
	return m
}

// check fails the test if what is served of the manifest is not what the proxy takes.
func (m manifest) check(t *testing.T, what string) {
	t.Helper()
	if _, err := m.refusal(); err == nil {
		return
	}
	m = m.minimal()
	problems, err := m.refusal()
	t.Errorf("%s: the translation lets through what the proxy refuses: %v\n%s", what, err, m)
	for _, p := range problems {
		t.Logf("problem: %s", p)
	}
}

// cases is how many manifests TestWhatIsServedCompiles tries, and which is the first.
// KERNGATE_TEST_CASES=COUNT or FIRST+COUNT tries others.
func cases(t *testing.T) (first, count uint64) {
	text := cmp.Or(os.Getenv("KERNGATE_TEST_CASES"), "0+5000")
	before, after, both := strings.Cut(text, "+")
	var err error
	if both {
		if first, err = strconv.ParseUint(before, 10, 64); err != nil {
			t.Fatal(err)
		}
		before = after
	}
	if count, err = strconv.ParseUint(before, 10, 64); err != nil {
		t.Fatal(err)
	}
	return first, count
}

// TestWhatIsServedCompiles: whatever stands in the annotations of an Ingress, the proxy takes
// what the translation makes of it. Else the Ingress would be closed at run time by a refusal
// that `kerngatectl check` cannot foresee.
func TestWhatIsServedCompiles(t *testing.T) {
	first, count := cases(t)
	for n := first; n < first+count; n++ {
		generate(rand.New(rand.NewPCG(1, n))).check(t, fmt.Sprintf("case %d (KERNGATE_TEST_CASES=%d+1)", n, n))
		if t.Failed() && count <= 10_000 {
			return
		}
	}
}

// TestValuesThatTheProxyRefused: each of these was once let through by the translation and
// refused by the proxy. Now the translation says what is wrong, and serves the rest.
func TestValuesThatTheProxyRefused(t *testing.T) {
	const snippets = "AnnotationInvalid: annotation nginx.ingress.kubernetes.io/configuration-snippet: "
	for _, c := range []struct {
		name        string
		annotations string // "key: value" lines
		path        string
		form        uint32
		want        string // of a problem; "": there is none
	}{
		{name: "a part of a SameSite", annotations: "session-cookie-samesite: stric", want: "Warning Ingress default/web AnnotationInvalid: annotation nginx.ingress.kubernetes.io/session-cookie-samesite: invalid value \"stric\""},
		{name: "the end of a SameSite", annotations: "session-cookie-samesite: one", want: "session-cookie-samesite: invalid value \"one\""},
		{name: "the middle of a SameSite", annotations: "session-cookie-samesite: non", want: "session-cookie-samesite: invalid value \"non\""},
		{name: "a canary by Host", annotations: "canary-by-header: Host", want: "Warning Ingress default/web AnnotationUnsupported: annotation nginx.ingress.kubernetes.io/canary-by-header: header Host is managed by the proxy and cannot be used here; it selects no request"},
		{name: "a canary by Connection", annotations: "canary-by-header: Connection\ncanary-weight: 5", want: "canary-by-header: header Connection is managed by the proxy"},
		{name: "a canary by te", annotations: "canary-by-header: te\ncanary-by-header-value: trailers", want: "canary-by-header: header te is managed by the proxy"},
		{name: "an answer's header that frames", annotations: "auth-response-headers: X-User, Content_Length", want: "Refused Ingress default/web AccessClosed: annotation nginx.ingress.kubernetes.io/auth-response-headers: header Content_Length is managed by the proxy"},
		{name: "a tab in a header", annotations: chosenValue + ": a\tb", want: "AnnotationInvalid: annotation nginx.ingress.kubernetes.io/custom-headers: control character '\\t' is not allowed; responses do not carry it"},
		{name: "a status that neither redirects nor answers", annotations: "configuration-snippet: return 305;", want: "Refused Ingress default/web AccessClosed: annotation nginx.ingress.kubernetes.io/configuration-snippet: line 1: the directive \"return 305\": status 305 needs a URL"},
		{name: "a status of several choices", annotations: "server-snippet: return 300 https://a.example;", want: "server-snippet: line 1: the directive \"return 300 https://a.example\": status 300 needs a URL"},
		{name: "a status that does not exist", annotations: "configuration-snippet: location /x { return 399; }", want: snippets + "line 1: the directive \"return 399\": status 399 needs a URL; requests of this location"},
		{name: "a path that has no room for its host", annotations: "app-root: /" + strings.Repeat("a", template.MaxLength-5), want: "app-root: "},
		{name: "a path of as many values as there may be", annotations: "app-root: /" + strings.Repeat("$host", 30), want: "app-root: "},
		{name: "a domain that grows when it is quoted", annotations: "proxy-cookie-domain: " + strings.Repeat(".", 600) + " a.example", want: "proxy-cookie-domain: "},
		{name: "an expression with a quotation that does not end", annotations: `proxy-cookie-path: ~\Qabc /x`, want: `AnnotationInvalid: annotation nginx.ingress.kubernetes.io/proxy-cookie-path: "~\\Qabc": `},
		{name: "the same for Location", annotations: `proxy-redirect-from: ~*^\Qabc` + "\nproxy-redirect-to: /x", want: "proxy-redirect-from: "},
		{name: "an expression that is too long with its flags", annotations: "configuration-snippet: location ~* /(" + strings.Repeat("a", 1018) + ") { return 301 /$1; }", want: snippets + "line 1: the directive \"return 301 /$1\": "},
		{name: "names as long as they may be", annotations: "upstream-vhost: " + strings.Repeat("$service_name$ingress_name", 16), form: formLong, want: "upstream-vhost: "},
		{name: "the same in an answer", annotations: "configuration-snippet: return 301 https://" + strings.Repeat("$ingress_name$service_name", 15) + ";", form: formLong, want: "AccessClosed: "},
		{name: "a path that is no expression", annotations: "rewrite-target: https://a.example/$1", path: "/(", form: formStrict | 1},
		{name: "a long path that no expression replaces", annotations: "rewrite-target: /$1", path: "/" + strings.Repeat("a", 1100), form: formStrict | 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := manifest{annotations: map[string]string{}, path: cmp.Or(c.path, "/"), form: c.form}
			for line := range strings.SplitSeq(c.annotations, "\n") {
				key, v, _ := strings.Cut(line, ": ")
				if key != chosenValue {
					key = ingressnginx.Prefix + key
				}
				m.add(key, v)
			}
			problems, err := m.refusal()
			if err != nil {
				t.Errorf("the proxy refuses it: %v", err)
			}
			said := slices.ContainsFunc(problems, func(p model.Problem) bool { return c.want != "" && strings.Contains(p.String(), c.want) })
			if said != (c.want != "") {
				t.Errorf("problems %q, want %q", problems, c.want)
			}
		})
	}
}

// TestCanaryByHost: a canary whose header cannot be used keeps what else it says, and the
// Ingress that it belongs to is served.
func TestCanaryByHost(t *testing.T) {
	m := manifest{annotations: map[string]string{}, path: "/", form: 1}
	m.add(ingressnginx.Prefix+"canary-by-header", "Host")
	m.add(ingressnginx.Prefix+"canary-weight", "30")
	translated, _ := kube.Translate(m.objects(), kube.Options{Class: "kerngate", ClassOptional: true})
	route := translated.Hosts[0].Routes[0]
	if len(route.Splits) != 1 || route.Splits[0].Weight != 30 || route.Splits[0].Header != "" || route.Source.Name != "main" {
		t.Errorf("%+v of %s", route.Splits, route.Source)
	}
}

// TestMappedPrefix: IPv4 that is written in IPv6 is the same in an annotation as in the proxy.
func TestMappedPrefix(t *testing.T) {
	m := manifest{annotations: map[string]string{ingressnginx.Prefix + "allowlist-source-range": "::ffff:192.0.2.0/120"}, path: "/", form: 1}
	translated, problems := kube.Translate(m.objects(), kube.Options{Class: "kerngate", ClassOptional: true})
	if access := translated.Hosts[0].Routes[0].Policy.Access; len(problems) > 0 || fmt.Sprint(access.Allow) != "[192.0.2.0/24]" {
		t.Errorf("%v, problems %v", access, problems)
	}
}

// FuzzWhatIsServedCompiles is the same for manifests that a fuzzer makes up.
func FuzzWhatIsServedCompiles(f *testing.F) {
	for n := range uint64(len(keys) * 2) {
		r := rand.New(rand.NewPCG(2, n))
		one, two, three := keys[n%uint64(len(keys))], pick(r, keys), pick(r, keys)
		f.Add(r.Uint32(), pick(r, paths), uint8(slices.Index(keys, one)), value(r, one), uint8(slices.Index(keys, two)), value(r, two), uint8(slices.Index(keys, three)), value(r, three))
	}
	f.Fuzz(func(t *testing.T, form uint32, path string, k1 uint8, v1 string, k2 uint8, v2 string, k3 uint8, v3 string) {
		m := manifest{form: form, path: strings.ToValidUTF8(path, ""), annotations: map[string]string{}}
		for _, a := range []struct {
			key   uint8
			value string
		}{{k1, v1}, {k2, v2}, {k3, v3}} {
			key := keys[int(a.key)%len(keys)]
			m.add(key, strings.ToValidUTF8(a.value, "")) // as it is in JSON
		}
		m.check(t, "fuzz")
	})
}
