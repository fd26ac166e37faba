package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kerngate/kerngate/userspace/control/cluster"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/control/report"
	"github.com/kerngate/kerngate/userspace/control/tickets"
	"github.com/kerngate/kerngate/userspace/model"
)

var plane *Plane // of all tests

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if err := Missing(); err != nil {
		if os.Getenv("KERNGATE_TEST_NO_SKIP") == "1" {
			fmt.Fprintln(os.Stderr, "controlplane:", err)
			return 1
		}
		fmt.Fprintln(os.Stderr, "controlplane: SKIPPED:", err)
		return 0
	}
	dir, err := os.MkdirTemp("", "kgt-controlplane-")
	if err == nil {
		defer os.RemoveAll(dir)
		// The processes are to die with this one, which the kernel ties to the thread
		// that started them: keep it.
		runtime.LockOSThread()
		plane, err = Start(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		return 1
	}
	defer plane.Stop()
	if err := createNode(); err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		return 1
	}
	cluster.LogTo(zerolog.Nop())
	return m.Run()
}

// createNode makes the node of the pods: endpoints of pods on unknown nodes are left out.
func createNode() error {
	client, err := kubernetes.NewForConfig(plane.Config)
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Nodes().Create(context.Background(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, create)
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scene is a namespace and a class of one test.
type scene struct {
	t         *testing.T
	client    kubernetes.Interface
	namespace string
	class     string
	now       func() time.Time // by which ticket keys are rotated; nil: the clock
	ticketsIn string           // namespace of the ticket keys; "": that of the Lease
	defence   string           // ConfigMap of the defence, NAMESPACE/NAME
}

var (
	create   metav1.CreateOptions
	replace  metav1.UpdateOptions
	get      metav1.GetOptions
	remove   metav1.DeleteOptions
	everyone metav1.ListOptions
)

func newScene(t *testing.T, name string) *scene {
	t.Helper()
	client, err := kubernetes.NewForConfig(plane.Config)
	must(t, err)
	s := &scene{t: t, client: client, namespace: "kgt-" + name, class: "kgt-" + name}
	ctx := t.Context()
	_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}, create)
	must(t, err)
	s.createClass(s.class, nil)
	wait(t, "the service account of the namespace", func() error {
		_, err := client.CoreV1().ServiceAccounts(s.namespace).Get(ctx, "default", get)
		return err
	})
	t.Cleanup(func() { // contexts of the test are over
		client.CoreV1().Namespaces().Delete(context.Background(), s.namespace, remove)
		client.NetworkingV1().Ingresses(s.namespace).DeleteCollection(context.Background(), remove, everyone)
		client.NetworkingV1().IngressClasses().Delete(context.Background(), s.class, remove)
	})
	return s
}

func (s *scene) createClass(name string, annotations map[string]string) {
	s.t.Helper()
	_, err := s.client.NetworkingV1().IngressClasses().Create(s.t.Context(), &networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
		Spec:       networkingv1.IngressClassSpec{Controller: kube.Controller},
	}, create)
	must(s.t, err)
}

// createService makes a Service that selects the pods of its name.
func (s *scene) createService(name string) {
	s.t.Helper()
	_, err := s.client.CoreV1().Services(s.namespace).Create(s.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, create)
	must(s.t, err)
}

// createPod makes a pod and says, as a kubelet would, that it runs at the address.
func (s *scene) createPod(app, name, address string) {
	s.t.Helper()
	pods := s.client.CoreV1().Pods(s.namespace)
	off := false
	_, err := pods.Create(s.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &off,
			NodeName:                     "node-1",
			Containers:                   []corev1.Container{{Name: "c", Image: "kt.test/none:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}},
		},
	}, create)
	must(s.t, err)
	s.setReady(name, address, true)
}

func (s *scene) setReady(pod, address string, ready bool) {
	s.t.Helper()
	pods := s.client.CoreV1().Pods(s.namespace)
	p, err := pods.Get(s.t.Context(), pod, get)
	must(s.t, err)
	condition := corev1.ConditionFalse
	if ready {
		condition = corev1.ConditionTrue
	}
	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: condition}},
	}
	_, err = pods.UpdateStatus(s.t.Context(), p, replace)
	must(s.t, err)
}

// ingress returns one rule for the host, to the port named http of the service.
func (s *scene) ingress(name, host, path, service string) *networkingv1.Ingress {
	prefix := networkingv1.PathTypePrefix
	return &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.namespace},
		Spec: networkingv1.IngressSpec{
			IngressClassName: &s.class,
			Rules: []networkingv1.IngressRule{{
				Host: host,
				IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
					Path: path, PathType: &prefix,
					Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
						Name: service, Port: networkingv1.ServiceBackendPort{Name: "http"},
					}},
				}}}},
			}},
		},
	}
}

func (s *scene) create(ingress *networkingv1.Ingress) {
	s.t.Helper()
	_, err := s.client.NetworkingV1().Ingresses(s.namespace).Create(s.t.Context(), ingress, create)
	must(s.t, err)
}

func (s *scene) addresses(ingress string) []string {
	s.t.Helper()
	i, err := s.client.NetworkingV1().Ingresses(s.namespace).Get(s.t.Context(), ingress, get)
	must(s.t, err)
	var out []string
	for _, a := range i.Status.LoadBalancer.Ingress {
		out = append(out, a.IP+a.Hostname)
	}
	return out
}

// follower is what the agent does with a cluster's updates, short of the kernel.
type follower struct {
	cluster *cluster.Source
	tickets *report.TicketSecret

	mu       sync.Mutex
	model    *model.Model
	problems []model.Problem
	updates  int
	last     model.Update
	rings    []tickets.Ring // each that came
	stop     func()
}

// ingressIP is written to status.
var ingressIP = netip.MustParseAddr("192.0.2.10")

// follow runs the source, and a reporter, as one agent of the class.
func (s *scene) follow(config *rest.Config, identity string) *follower {
	s.t.Helper()
	return s.followIn(config, identity, "kube-system")
}

// followIn is follow with the Lease in a namespace.
func (s *scene) followIn(config *rest.Config, identity, namespace string) *follower {
	s.t.Helper()
	log := zerolog.Nop()
	if testing.Verbose() {
		log = zerolog.New(os.Stderr).With().Str("test", s.t.Name()).Timestamp().Logger()
	}
	client, connection, err := cluster.Client(config, log)
	must(s.t, err)
	f := &follower{tickets: report.NewTicketSecret(client, report.TicketOptions{
		Namespace: cmp.Or(s.ticketsIn, namespace), Class: s.class, Now: s.now, Interval: 50 * time.Millisecond, Log: log,
	})}
	f.cluster, err = cluster.New(client, connection, kube.Options{Class: s.class, Node: "node-1", Addresses: []netip.Addr{ingressIP}, FabricService: s.namespace + "/fabric", Defence: s.defence}, log)
	must(s.t, err)
	reporter := report.New(client, f.cluster, report.Options{
		Addresses: []netip.Addr{ingressIP}, PublishStatus: true, Namespace: namespace,
		Class: s.class, Identity: identity, Tickets: f.tickets, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.cluster.Run(ctx) })
	running.Go(func() { reporter.Run(ctx) })
	running.Go(func() { f.tickets.Run(ctx) })
	running.Go(func() {
		for {
			select {
			case ring := <-f.tickets.Rings():
				f.mu.Lock()
				f.rings = append(f.rings, ring)
				f.mu.Unlock()
			case u := <-f.cluster.Updates():
				f.take(u)
				reporter.Report(u.Problems, u.Statuses)
			case <-ctx.Done():
				return
			}
		}
	})
	f.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	s.t.Cleanup(f.stop)
	return f
}

// untilQuiet waits until no update has come for some time: controllers still work on objects
// that were just made.
func (f *follower) untilQuiet() {
	for last := -1; ; time.Sleep(time.Second) {
		f.mu.Lock()
		now := f.updates
		f.mu.Unlock()
		if now == last {
			return
		}
		last = now
	}
}

func (f *follower) take(u model.Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updates++
	f.last = u
	f.problems = u.Problems
	if u.Model != nil {
		own := *u.Model
		own.Services = slices.Clone(u.Model.Services)
		f.model = &own
		return
	}
	for _, changed := range u.Services {
		for i := range f.model.Services {
			if f.model.Services[i].Key == changed.Key {
				f.model.Services[i] = changed
			}
		}
	}
}

// dump is the model and the problems as text, "" before the first update.
func (f *follower) dump() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.model == nil {
		return ""
	}
	out := f.model.Dump()
	for _, p := range f.problems {
		out += p.String() + "\n"
	}
	return out
}

// until waits for the model to be the text.
func (f *follower) until(t testing.TB, what, want string) {
	t.Helper()
	wait(t, what, func() error {
		if got := f.dump(); got != want {
			return fmt.Errorf("have\n%swant\n%s", got, want)
		}
		return nil
	})
}

func (f *follower) untilHas(t testing.TB, what, want string) {
	t.Helper()
	wait(t, what, func() error {
		if got := f.dump(); !strings.Contains(got, want) {
			return fmt.Errorf("have\n%swant in it\n%s", got, want)
		}
		return nil
	})
}

// wait tries until there is no error, for half a minute: two cores may be busy.
func wait(t testing.TB, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
