package controlplane

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

// TestLife follows an application through its life: the EndpointSlices are those that the
// real controller makes of the pods.
func TestLife(t *testing.T) {
	s := newScene(t, "life")
	f := s.follow(plane.Config, "one")
	s.create(s.ingress("web", "life.example.com", "/", "web"))
	f.until(t, "an Ingress without its Service", `host "life.example.com"
  Prefix / -> none (Ingress kgt-life/web)
Warning Ingress kgt-life/web ServiceNotFound: spec.rules[0].http.paths[0].backend.service: Service kgt-life/web does not exist; clients get 503 until it does
`)
	s.createService("web")
	empty := `host "life.example.com"
  Prefix / -> kgt-life/web:http (Ingress kgt-life/web)
service kgt-life/web:http p2c
`
	f.until(t, "a Service without pods", empty)
	s.createPod("web", "web-1", "10.1.0.1")
	s.createPod("web", "web-2", "10.1.0.2")
	two := empty + "  10.1.0.1:8080 pod=kgt-life/web-1 node=node-1 local\n  10.1.0.2:8080 pod=kgt-life/web-2 node=node-1 local\n"
	f.until(t, "two ready pods", two)

	s.setReady("web-1", "10.1.0.1", false)
	f.until(t, "one pod that is not ready", empty+"  10.1.0.2:8080 pod=kgt-life/web-2 node=node-1 local\n")
	s.setReady("web-1", "10.1.0.1", true)
	f.until(t, "two ready pods again", two)

	must(t, s.client.CoreV1().Services(s.namespace).Delete(t.Context(), "web", remove))
	f.untilHas(t, "the Service is gone", "ServiceNotFound")
	must(t, s.client.NetworkingV1().Ingresses(s.namespace).Delete(t.Context(), "web", remove))
	wait(t, "everything is gone", func() error {
		if got := f.dump(); got != "" {
			return fmt.Errorf("left:\n%s", got)
		}
		return nil
	})
}

// TestConflict: the younger Ingress gets an event that names the older one, once, from one
// of the two agents that see it.
func TestConflict(t *testing.T) {
	s := newScene(t, "conflict")
	one, two := s.follow(plane.Config, "one"), s.follow(plane.Config, "two")
	s.createService("web")
	s.create(s.ingress("winner", "conflict.example.com", "/", "web"))
	time.Sleep(1100 * time.Millisecond) // ages are told in seconds
	s.create(s.ingress("a-loser", "conflict.example.com", "/", "web"))
	const text = `spec.rules[0].http.paths[0]: path "/" (Prefix) of host "conflict.example.com" is already served by Ingress kgt-conflict/winner, which is older`
	one.untilHas(t, "the problem in one agent", "Warning Ingress kgt-conflict/a-loser RouteConflict: "+text)
	two.untilHas(t, "the problem in the other agent", "RouteConflict")
	wait(t, "the event", func() error {
		list, err := s.client.CoreV1().Events(s.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=a-loser"})
		if err != nil {
			return err
		}
		if len(list.Items) != 1 {
			return fmt.Errorf("%d events", len(list.Items))
		}
		e := list.Items[0]
		if e.Reason != "RouteConflict" || e.Message != text || e.Type != "Warning" || e.InvolvedObject.UID == "" || e.Count > 1 {
			t.Fatalf("event %+v", e)
		}
		return nil
	})
	must(t, s.client.NetworkingV1().Ingresses(s.namespace).Delete(t.Context(), "winner", remove))
	one.untilHas(t, "the loser's turn", "(Ingress kgt-conflict/a-loser)")
	if strings.Contains(one.dump(), "RouteConflict") {
		t.Error("the problem stays although the winner is gone")
	}
}

// TestStatus: served Ingresses get the address, those that leave the class lose it, and
// nobody else's status is touched.
func TestStatus(t *testing.T) {
	s := newScene(t, "status")
	ingresses := s.client.NetworkingV1().Ingresses(s.namespace)
	other := "kgt-other"
	foreign := s.ingress("foreign", "foreign.example.com", "/", "web")
	foreign.Spec.IngressClassName = &other
	s.create(foreign)
	i, err := ingresses.Get(t.Context(), "foreign", get)
	must(t, err)
	i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "198.51.100.1"}}
	_, err = ingresses.UpdateStatus(t.Context(), i, replace)
	must(t, err)

	f := s.follow(plane.Config, "one")
	s.create(s.ingress("web", "status.example.com", "/", "web"))
	untilAddresses(t, s, "web", ingressIP.String())

	i, err = ingresses.Get(t.Context(), "web", get)
	must(t, err)
	i.Status.LoadBalancer.Ingress = nil
	_, err = ingresses.UpdateStatus(t.Context(), i, replace)
	must(t, err)
	untilAddresses(t, s, "web", ingressIP.String()) // wiped by somebody, written again

	f.untilQuiet()
	f.mu.Lock()
	before := f.updates
	f.mu.Unlock()
	i, err = ingresses.Get(t.Context(), "web", get)
	must(t, err)
	i.Spec.IngressClassName = &other
	_, err = ingresses.Update(t.Context(), i, replace)
	must(t, err)
	untilAddresses(t, s, "web")
	wait(t, "not served any more", func() error {
		if strings.Contains(f.dump(), "status.example.com") {
			return fmt.Errorf("still served")
		}
		return nil
	})
	f.mu.Lock()
	if f.updates != before+1 {
		t.Errorf("%d updates for one change of spec: writing status must not cause any", f.updates-before)
	}
	f.mu.Unlock()
	if got := s.addresses("foreign"); !slices.Equal(got, []string{"198.51.100.1"}) {
		t.Errorf("status of a foreign Ingress is now %v", got)
	}
}

// TestStatusOfOthers: of an Ingress of another class only what an agent of this class wrote
// is taken away, even where another controller has written exactly our address; an agent of
// an older version wrote under another name. What others add to our entry stays.
func TestStatusOfOthers(t *testing.T) {
	s := newScene(t, "status-others")
	ingresses := s.client.NetworkingV1().Ingresses(s.namespace)
	other := "kgt-others-nginx"
	ours := networkingv1.IngressLoadBalancerIngress{IP: ingressIP.String()}
	setStatus := func(name, manager string, entries ...networkingv1.IngressLoadBalancerIngress) {
		t.Helper()
		i, err := ingresses.Get(t.Context(), name, get)
		must(t, err)
		i.Status.LoadBalancer.Ingress = entries
		_, err = ingresses.UpdateStatus(t.Context(), i, metav1.UpdateOptions{FieldManager: manager})
		must(t, err)
	}
	for name, manager := range map[string]string{"theirs": "nginx-ingress-controller", "older": "kerngate"} {
		i := s.ingress(name, name+".example.com", "/", "web")
		i.Spec.IngressClassName = &other
		s.create(i)
		setStatus(name, manager, ours)
	}
	s.follow(plane.Config, "one")
	untilAddresses(t, s, "older") // the agent has looked at all of them by now
	s.create(s.ingress("web", "others.example.com", "/", "web"))
	untilAddresses(t, s, "web", ingressIP.String())
	if got := s.addresses("theirs"); !slices.Equal(got, []string{ingressIP.String()}) {
		t.Errorf("the status that another controller wrote is now %v", got)
	}
	i, err := ingresses.Get(t.Context(), "web", get)
	must(t, err)
	if !slices.ContainsFunc(i.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == "kerngate-"+s.class && f.Subresource == "status"
	}) {
		t.Errorf("managedFields do not name the writer: %+v", i.ManagedFields)
	}

	// Somebody adds a hostname and ports to our entry; another Ingress shows that the agent
	// has looked again.
	decorated := networkingv1.IngressLoadBalancerIngress{IP: ours.IP, Hostname: "lb.example.com", Ports: []networkingv1.IngressPortStatus{{Port: 443, Protocol: "TCP"}}}
	setStatus("web", "external", decorated)
	s.create(s.ingress("second", "second.example.com", "/", "web"))
	untilAddresses(t, s, "second", ingressIP.String())
	i, err = ingresses.Get(t.Context(), "web", get)
	must(t, err)
	if got := i.Status.LoadBalancer.Ingress; len(got) != 1 || got[0].Hostname != decorated.Hostname || len(got[0].Ports) != 1 {
		t.Errorf("what somebody added to our entry is gone: %+v", got)
	}
	// Now the list is theirs: it stays when the Ingress goes to another class.
	i.Spec.IngressClassName = &other
	_, err = ingresses.Update(t.Context(), i, replace)
	must(t, err)
	second, err := ingresses.Get(t.Context(), "second", get)
	must(t, err)
	second.Spec.IngressClassName = &other
	_, err = ingresses.Update(t.Context(), second, replace)
	must(t, err)
	untilAddresses(t, s, "second") // ours is taken away
	if got := s.addresses("web"); len(got) != 1 {
		t.Errorf("a list that somebody else wrote is now %v", got)
	}
}

// TestProblemEnds: the event of a missing Secret is followed by one that says it is there.
func TestProblemEnds(t *testing.T) {
	s := newScene(t, "problem-ends")
	s.follow(plane.Config, "one")
	s.createService("web")
	i := s.ingress("web", "ends.example.com", "/", "web")
	i.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"ends.example.com"}, SecretName: "ends"}}
	s.create(i)
	event := func(reason, kind, text string) {
		t.Helper()
		wait(t, "event "+reason, func() error {
			list, err := s.client.CoreV1().Events(s.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=web"})
			if err != nil {
				return err
			}
			for _, e := range list.Items {
				if e.Reason == reason && e.Type == kind && strings.Contains(e.Message, text) {
					return nil
				}
			}
			return fmt.Errorf("not among %d events", len(list.Items))
		})
	}
	event("SecretNotFound", "Warning", "Secret "+s.namespace+"/ends does not exist")
	chain, key := certtest.NewAuthority("Ends CA").Pair("ecdsa", "ends.example.com")
	_, err := s.client.CoreV1().Secrets(s.namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "ends"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key},
	}, create)
	must(t, err)
	event("Resolved", "Normal", "SecretNotFound is over; it was: ")
}

func untilAddresses(t *testing.T, s *scene, ingress string, want ...string) {
	t.Helper()
	wait(t, fmt.Sprintf("status %v of %s", want, ingress), func() error {
		if got := s.addresses(ingress); !slices.Equal(got, want) {
			return fmt.Errorf("have %v", got)
		}
		return nil
	})
}

// TestClass: the class object decides, in all of its ways, as the API server sees it.
func TestClass(t *testing.T) {
	s := newScene(t, "class")
	f := s.follow(plane.Config, "one")
	classes := s.client.NetworkingV1().IngressClasses()
	s.create(s.ingress("web", "class.example.com", "/", "web"))
	f.untilHas(t, "served", `host "class.example.com"`)

	must(t, classes.Delete(t.Context(), s.class, remove))
	f.until(t, "without the class", "Refused Ingress kgt-class/web IngressClassNotServed: IngressClass kgt-class does not exist: create it with spec.controller: kerngate.dev/ingress-controller\n")

	// As the default class, it is what admission gives to an Ingress without one.
	s.createClass(s.class, map[string]string{"ingressclass.kubernetes.io/is-default-class": "true"})
	f.untilHas(t, "served again", `host "class.example.com"`)
	classless := s.ingress("classless", "classless.example.com", "/", "web")
	classless.Spec.IngressClassName = nil
	wait(t, "admission knows the default class", func() error {
		s.client.NetworkingV1().Ingresses(s.namespace).Delete(t.Context(), "classless", remove)
		i, err := s.client.NetworkingV1().Ingresses(s.namespace).Create(t.Context(), classless, create)
		if err == nil && i.Spec.IngressClassName == nil {
			err = fmt.Errorf("no class was given")
		}
		return err
	})
	f.untilHas(t, "the Ingress without class", `host "classless.example.com"`)

	// The annotation from before classes.
	old := s.ingress("old", "old.example.com", "/", "web")
	old.Spec.IngressClassName = nil
	old.Annotations = map[string]string{"kubernetes.io/ingress.class": s.class}
	s.create(old)
	f.untilHas(t, "the annotation", `host "old.example.com"`)
}

// TestAPIServerRestart: while the API server is away the last state stays and the source
// says what is wrong; afterwards changes are seen again within seconds, however long it was away,
// those made in between included. The informers' own waits would have grown to 6 to 25 s by then.
func TestAPIServerRestart(t *testing.T) {
	s := newScene(t, "restart")
	f := s.follow(plane.Config, "one")
	s.create(s.ingress("web", "restart.example.com", "/", "web"))
	f.untilHas(t, "served", `host "restart.example.com"`)
	before := f.dump()

	plane.Kill("kube-controller-manager")
	plane.Kill("kube-apiserver")
	wait(t, "the source notices", func() error {
		if f.cluster.Describe().Error == "" {
			return fmt.Errorf("no error in %+v", f.cluster.Describe())
		}
		return nil
	})
	if got := f.dump(); got != before {
		t.Errorf("without the API server the state is\n%swas\n%s", got, before)
	}
	time.Sleep(20 * time.Second)
	must(t, plane.StartAPIServer())
	began := time.Now()
	s.create(s.ingress("later", "later.example.com", "/", "web"))
	f.untilHas(t, "a change after the restart", `host "later.example.com"`)
	t.Logf("a change is seen %v after the API server is ready", time.Since(began).Round(time.Millisecond))
	if late := time.Since(began); late > 8*time.Second { // 5 are promised, of a machine that is not busy
		t.Errorf("the first change was seen after %v", late)
	}
	f.untilHas(t, "what was there before", `host "restart.example.com"`)
	untilAddresses(t, s, "later", ingressIP.String()) // the Lease was kept or taken again
	must(t, plane.StartControllerManager())
}

// TestNotAllowed: without the right to watch one resource the first update does not come,
// and the source says what it waits for.
func TestNotAllowed(t *testing.T) {
	s := newScene(t, "notallowed")
	config := rest.CopyConfig(plane.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + s.namespace + ":default"}
	f := s.follow(config, "one")
	wait(t, "the source says what it waits for", func() error {
		d := f.cluster.Describe()
		if len(d.Waiting) != 4 || !strings.Contains(d.Error, "forbidden") {
			return fmt.Errorf("%+v", d)
		}
		return nil
	})
	if f.dump() != "" {
		t.Error("an update although nothing could be listed")
	}
}

// TestSameRules: what the API server refuses of a host or path is refused here too, so that
// a folder of manifests accepts no more than a cluster. (It may accept less: paths that no
// request can ever have.)
func TestSameRules(t *testing.T) {
	s := newScene(t, "rules")
	hosts := []string{"", "a.example.com", "*.example.com", "A.example.com", "a_b.example.com", "-a.example.com", "a..example.com",
		"*", "*.*.example.com", "a.*.example.com", "a*.example.com", "192.0.2.1", "a.example.com.", "a.example.com:80", "example", "xn--bcher-kva.example", "bücher.example",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 130) + "example"}
	paths := []string{"/", "/a", "/a/", "", "a", "/a//b", "/a/./b", "/a/../b", "/a/..", "/a/.", "/a%2fb", "/a%2Fb", "/.a", "/a.b", "/...", "/a b", "/é", "/(a)"}
	try := func(what string, i *networkingv1.Ingress, accepts func(bool) bool) {
		t.Helper()
		_, err := s.client.NetworkingV1().Ingresses(s.namespace).Create(t.Context(), i, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		options := kube.Options{Class: s.class, ClassOptional: true}
		_, problems := kube.Translate(kube.Objects{Ingresses: []*networkingv1.Ingress{i}}, options)
		ours := !slices.ContainsFunc(problems, func(p model.Problem) bool { return p.Reason == "HostInvalid" || p.Reason == "PathInvalid" })
		if theirs := err == nil; theirs != ours && !(accepts != nil && accepts(ours)) {
			t.Errorf("%s: the API server accepts %t (%v), the translation %t (%v)", what, theirs, err, ours, problems)
		}
	}
	for _, host := range hosts {
		try(fmt.Sprintf("host %q", host), s.ingress("x", host, "/", "web"), nil)
	}
	for _, path := range paths {
		for _, pathType := range []networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypePrefix, networkingv1.PathTypeImplementationSpecific} {
			i := s.ingress("x", "a.example.com", path, "web")
			i.Spec.Rules[0].HTTP.Paths[0].PathType = &pathType
			try(fmt.Sprintf("%s path %q", pathType, path), i, func(ours bool) bool { return !ours })
		}
	}
}

// TestUnnamedService: Services that no Ingress names are nobody's business: neither their
// coming nor their going reaches proxies. (Namespaces that end take theirs away at any time.)
func TestUnnamedService(t *testing.T) {
	s := newScene(t, "unnamed")
	s.createService("web")
	f := s.follow(plane.Config, "one")
	s.create(s.ingress("web", "unnamed.example.com", "/", "web"))
	f.untilHas(t, "the route", "unnamed.example.com")
	f.untilQuiet()

	f.mu.Lock()
	before := f.updates
	f.mu.Unlock()
	s.createService("nobodys")
	services := s.client.CoreV1().Services(s.namespace)
	nobodys, err := services.Get(t.Context(), "nobodys", get)
	must(t, err)
	nobodys.Spec.Ports[0].Port = 81
	_, err = services.Update(t.Context(), nobodys, replace)
	must(t, err)
	must(t, services.Delete(t.Context(), "nobodys", remove))
	time.Sleep(200 * time.Millisecond)
	f.mu.Lock()
	if f.updates != before {
		t.Errorf("%d updates for a Service that nobody names; the last: %+v, services %+v", f.updates-before, f.last.Changed, f.last.Services)
	}
	f.mu.Unlock()

	must(t, services.Delete(t.Context(), "web", remove))
	f.untilHas(t, "the Service that is named is gone", "ServiceNotFound")
}
