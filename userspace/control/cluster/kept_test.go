package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

// memory returns a folder on a tmpfs.
func memory(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/dev/shm"); err != nil {
		t.Skip("needs a tmpfs at /dev/shm")
	}
	dir, err := os.MkdirTemp("/dev/shm", "kgt-kept-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "state")
}

// someObjects are an Ingress with TLS and what it refers to.
func someObjects() kube.Objects {
	class, port, ready := "kerngate", "http", true
	number, prefix := int32(8080), networkingv1.PathTypePrefix
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: "1", UID: types.UID(name)}
	}
	chain, key := certtest.NewAuthority("test").Pair(certtest.Ed25519, "shop.example.com")
	ingress := &networkingv1.Ingress{ObjectMeta: meta("web"), Spec: networkingv1.IngressSpec{
		IngressClassName: &class,
		TLS:              []networkingv1.IngressTLS{{Hosts: []string{"shop.example.com"}, SecretName: "tls"}},
		Rules: []networkingv1.IngressRule{{Host: "shop.example.com", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
			Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix, Backend: networkingv1.IngressBackend{
				Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Name: port}},
			}}},
		}}}},
	}}
	ingress.Annotations = map[string]string{"nginx.ingress.kubernetes.io/custom-headers": "headers"}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: meta("web-1"), AddressType: discoveryv1.AddressTypeIPv4,
		Ports:     []discoveryv1.EndpointPort{{Name: &port, Port: &number}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.1.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: "web"}
	return kube.Objects{
		Classes:    []*networkingv1.IngressClass{{ObjectMeta: metav1.ObjectMeta{Name: class}, Spec: networkingv1.IngressClassSpec{Controller: kube.Controller}}},
		Ingresses:  []*networkingv1.Ingress{ingress},
		Slices:     []*discoveryv1.EndpointSlice{slice},
		Services:   []*corev1.Service{{ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: port, Port: 80}}}}},
		Secrets:    []*corev1.Secret{{ObjectMeta: meta("tls"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": chain, "tls.key": key}}},
		ConfigMaps: []*corev1.ConfigMap{{ObjectMeta: meta("headers"), Data: map[string]string{"X-Shop": "1"}}},
	}
}

// started is a running source.
type started struct {
	*Source
	metrics *prometheus.Registry
	log     *bytes.Buffer
	stop    func()
}

func (a *apiServer) follow(t *testing.T, folder string) *started {
	t.Helper()
	return a.followWith(t, folder, kube.Options{Class: "kerngate", AllowedResponseHeaders: []string{"X-Shop"}})
}

func (a *apiServer) followWith(t *testing.T, folder string, options kube.Options) *started {
	t.Helper()
	s := &started{metrics: prometheus.NewRegistry(), log: new(bytes.Buffer)}
	var err error
	s.Source, err = New(a.client(t), &Connection{URL: a.address}, options, zerolog.New(zerolog.SyncWriter(s.log)))
	if err == nil {
		err = s.Keep(Keep{Folder: folder, Node: "node-1", Metrics: s.metrics})
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	s.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(s.stop)
	return s
}

// next returns the next update with a model, nil if none comes in time.
func (s *started) next(patience time.Duration) *model.Update {
	limit := time.After(patience)
	for {
		select {
		case u := <-s.Updates():
			if u.Model != nil {
				return &u
			}
		case <-limit:
			return nil
		}
	}
}

// keepSome has a source keep objects, stops their API server and returns the model that was made of them.
func keepSome(t *testing.T, folder string) (a *apiServer, dump string) {
	t.Helper()
	a = newAPIServer(t, someObjects())
	a.start(t)
	s := a.follow(t, folder)
	u := s.next(20 * time.Second)
	for u != nil && len(u.Problems) > 0 { // Services and EndpointSlices may come later
		u = s.next(20 * time.Second)
	}
	if u == nil || len(u.Model.Certificates) != 1 || len(u.Model.Services) != 1 || len(u.Model.Services[0].Backends) != 1 {
		t.Fatalf("the cluster's own update is not whole: %+v", u)
	}
	s.stop() // writes what is not written yet
	a.stop()
	return a, u.Model.Dump()
}

// TestKept: an agent that starts without the API server serves what the last one served, certificates
// and ConfigMaps included, and says of when it is.
func TestKept(t *testing.T) {
	folder := memory(t)
	a, want := keepSome(t, folder)
	for path, mode := range map[string]os.FileMode{folder: 0o700 | os.ModeDir, filepath.Join(folder, keptName): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, mode %v; want %v", path, err, info.Mode(), mode)
		}
	}
	s := a.follow(t, folder)
	began := time.Now()
	u := s.next(10 * time.Second)
	if u == nil {
		t.Fatalf("no update: %s", s.log)
	}
	t.Logf("update after %s", time.Since(began).Round(time.Millisecond))
	if got := u.Model.Dump(); got != want {
		t.Errorf("served\n%swant\n%s", got, want)
	}
	if len(u.Problems) != 1 || u.Problems[0].Reason != reasonServedKept {
		t.Errorf("problems %v, want one that says what is served", u.Problems)
	}
	d := s.Describe()
	if d.Kept == nil || time.Since(*d.Kept) > time.Minute || len(d.Waiting) == 0 {
		t.Errorf("described as %+v", d)
	}
	if got := s.kept.age(); got <= 0 || got > 60 {
		t.Errorf("age %v s", got)
	}
	if families, err := s.metrics.Gather(); err != nil || len(families) != 2 {
		t.Errorf("metrics %v, %v", families, err)
	}

	a.start(t)
	if u = s.next(20 * time.Second); u == nil || len(u.Problems) > 0 || u.Model.Dump() != want || u.Changed != nil {
		t.Fatalf("with the API server back: %+v", u)
	}
	for limit := time.Now().Add(10 * time.Second); len(a.seenEvents()) == 0 && time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		select {
		case <-s.Updates():
		default:
		}
	}
	events := a.seenEvents()
	if len(events) != 1 || events[0].InvolvedObject.Name != "node-1" || events[0].Reason != reasonServedKept {
		t.Errorf("events %+v, want one about the node; the log: %s", events, s.log)
	}
	if d, age := s.Describe(), s.kept.age(); d.Kept != nil || age != 0 {
		t.Errorf("with the API server back it is described as %+v, age %v", d, age)
	}
}

// TestKeptOfOthers: what is damaged, of a newer version or of another cluster is not served, and
// what cannot be read is set aside.
func TestKeptOfOthers(t *testing.T) {
	folder := memory(t)
	a, _ := keepSome(t, folder)
	other := newAPIServer(t, kube.Objects{})
	file := filepath.Join(folder, keptName)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for _, c := range []struct {
		name  string
		by    *apiServer
		raw   []byte
		log   string
		aside bool
	}{
		{"damaged", a, flipped, "checksum", true},
		{"cut off", a, good[:len(good)-10], "checksum", true},
		{"empty", a, nil, "ends too early", true},
		{"newer", a, bytes.Replace(good, []byte("objects 001"), []byte("objects 002"), 1), "has format 2", true},
		{"of another cluster", other, good, "another API server", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			os.Remove(filepath.Join(folder, keptAside))
			if err := os.WriteFile(file, c.raw, 0o600); err != nil {
				t.Fatal(err)
			}
			s := c.by.follow(t, folder)
			if u := s.next(300 * time.Millisecond); u != nil {
				t.Errorf("served %s", u.Model.Dump())
			}
			s.stop()
			if !strings.Contains(s.log.String(), c.log) {
				t.Errorf("the log does not say %q: %s", c.log, s.log)
			}
			if _, err := os.Stat(filepath.Join(folder, keptAside)); (err == nil) != c.aside {
				t.Errorf("set aside: %v, want %v", err, c.aside)
			}
		})
	}
}

// TestKeptEveryByte: no change of a byte is taken for a file of ours, and none is a panic.
func TestKeptEveryByte(t *testing.T) {
	folder := memory(t)
	keepSome(t, folder)
	raw, err := os.ReadFile(filepath.Join(folder, keptName))
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] ^= 0x15
		if _, err := parseKept(raw); !errors.Is(err, errKeptUnreadable) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		raw[i] ^= 0x15
	}
	if _, err := parseKept(raw); err != nil {
		t.Error(err)
	}
}

// TestKeptOnDisk: private keys are not written to a disk.
func TestKeptOnDisk(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	if prepareFolder(filepath.Dir(folder)) == nil {
		t.Skip("the folder for temporary files is on a tmpfs")
	}
	a := newAPIServer(t, someObjects())
	a.start(t)
	s := a.follow(t, folder)
	if s.next(20*time.Second) == nil {
		t.Fatal("no update")
	}
	s.stop()
	if found, _ := os.ReadDir(folder); len(found) > 0 || !strings.Contains(s.log.String(), "not on a tmpfs") {
		t.Errorf("%v was written; the log: %s", found, s.log)
	}
}

// TestRemoveKept: uninstalling leaves nothing, and nothing of others is removed.
func TestRemoveKept(t *testing.T) {
	folder := memory(t)
	keepSome(t, folder)
	other := filepath.Join(folder, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RemoveKept(folder); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(folder); len(left) != 1 || left[0].Name() != "other" {
		t.Errorf("left %v", left)
	}
	os.Remove(other)
	if err := RemoveKept(folder); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder stays: %v", err)
	}
}
