package controlplane

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/control/cluster"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/control/tickets"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

var authority = certtest.NewAuthority("Controlplane CA")

// secret returns a Secret with a certificate for the host that ends after so many years.
func secret(name, host string, years int) (*corev1.Secret, []byte) {
	chain, key := authority.Make(certtest.ECDSA, func(c *x509.Certificate) {
		c.DNSNames, c.NotAfter = []string{host}, certtest.NotAfter.AddDate(years, 0, 0)
	})
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key},
	}, key
}

func (s *scene) createSecret(name, host string) (key []byte) {
	s.t.Helper()
	made, key := secret(name, host, 0)
	_, err := s.client.CoreV1().Secrets(s.namespace).Create(s.t.Context(), made, create)
	must(s.t, err)
	return key
}

// createTLS makes an Ingress that has nothing but TLS for the host.
func (s *scene) createTLS(name, host, secret string) {
	s.t.Helper()
	i := s.ingress(name, host, "/"+name, "web")
	i.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{host}, SecretName: secret}}
	s.create(i)
}

// untilRings waits for so many rings of ticket keys, and returns them.
func (f *follower) untilRings(t *testing.T, n int) []tickets.Ring {
	t.Helper()
	var rings []tickets.Ring
	wait(t, fmt.Sprintf("%d rings of ticket keys", n), func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if rings = f.rings; len(rings) < n {
			return fmt.Errorf("have %d", len(rings))
		}
		return nil
	})
	return rings
}

// TestSecrets: a Secret that is made, renewed, broken and removed reaches what proxies are
// told, each time without any other object changing; the author gets an event.
func TestSecrets(t *testing.T) {
	s := newScene(t, "secrets")
	f := s.follow(plane.Config, "one")
	s.createTLS("web", "secrets.example.com", "web-tls")
	f.untilHas(t, "no Secret", "Warning Ingress kgt-secrets/web SecretNotFound: spec.tls[0].secretName: Secret kgt-secrets/web-tls does not exist; clients get the default certificate")
	f.untilHas(t, "no Secret", "  tls default certificate (Ingress kgt-secrets/web)")

	key := s.createSecret("web-tls", "secrets.example.com")
	f.untilHas(t, "the Secret", "certificate kgt-secrets/web-tls: ECDSA P-256 for secrets.example.com until 2070-01-01")
	if strings.Contains(f.dump(), "SecretNotFound") {
		t.Error("the problem stays although the Secret is there")
	}
	if got := f.config(); len(got.Certificates) != 1 || !bytes.Equal(got.Certificates[0].Key, key) || got.Hosts[0].Tls.GetCertificates()[0] != "kgt-secrets/web-tls" {
		t.Error("the certificate is not what proxies are told")
	}

	secrets := s.client.CoreV1().Secrets(s.namespace)
	renewed, newKey := secret("web-tls", "secrets.example.com", 1)
	_, err := secrets.Update(t.Context(), renewed, replace)
	must(t, err)
	f.untilHas(t, "the renewed Secret", "for secrets.example.com until 2071-01-01")

	f.untilQuiet()
	f.mu.Lock()
	before := f.updates
	f.mu.Unlock()
	s.createSecret("nobodys", "other.example.com")
	renewed.Labels = map[string]string{"what": "ever"}
	_, err = secrets.Update(t.Context(), renewed, replace)
	must(t, err)
	time.Sleep(200 * time.Millisecond)
	f.mu.Lock()
	if f.updates != before {
		t.Errorf("%d updates for a Secret that nobody names, and a label", f.updates-before)
	}
	f.mu.Unlock()

	renewed.Data[corev1.TLSPrivateKeyKey] = key
	_, err = secrets.Update(t.Context(), renewed, replace)
	must(t, err)
	f.untilHas(t, "a Secret with another's key", "SecretInvalid: spec.tls[0].secretName: Secret kgt-secrets/web-tls: tls.key is not the key of the first certificate")
	must(t, secrets.Delete(t.Context(), "web-tls", remove))
	f.untilHas(t, "no Secret any more", "SecretNotFound")

	wait(t, "the events", func() error {
		list, err := s.client.CoreV1().Events(s.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=web"})
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%v", list.Items)
		for _, k := range [][]byte{key, newKey} {
			if part := certtest.Leaks(text, k); part != "" {
				t.Fatalf("%q of a key is in an event", part)
			}
		}
		for _, reason := range []string{"SecretNotFound", "SecretInvalid"} {
			if !strings.Contains(text, reason) {
				return fmt.Errorf("no %s", reason)
			}
		}
		return nil
	})
}

// config is the snapshot that a proxy would get.
func (f *follower) config() *feedpb.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	return compile.Route(f.model, func(string) (state.ServiceID, bool) { return 0, false }, compile.Common{Settings: &feedpb.Settings{}}, nil, nil, nil).Snapshot(1)
}

// TestSecretRights: with rights to the Secrets of one namespace alone, that one is served,
// and the other's author learns what is missing.
func TestSecretRights(t *testing.T) {
	s, other := newScene(t, "rights"), newScene(t, "no-rights")
	other.class = s.class
	must(t, Install(t.Context(), plane.Config, "../../manifests/install.yaml"))
	config := s.accountConfig("kerngate-system", "kerngate")
	must(t, s.client.RbacV1().ClusterRoleBindings().Delete(t.Context(), "kerngate-secrets", remove))
	t.Cleanup(func() { // as install.yaml has it
		s.client.RbacV1().ClusterRoleBindings().Create(context.Background(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "kerngate-secrets"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "kerngate-secrets"},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "kerngate-system", Name: "kerngate"}},
		}, create)
	})
	_, err := s.client.RbacV1().RoleBindings(s.namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "kerngate-secrets"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "kerngate-secrets"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "kerngate-system", Name: "kerngate"}},
	}, create)
	must(t, err)
	for _, in := range []*scene{s, other} {
		in.createSecret("web-tls", "rights.example.com")
		in.createTLS("web", in.namespace+".example.com", "web-tls")
	}
	f := s.followIn(config, "one", "kerngate-system")
	f.untilHas(t, "the namespace with rights", "certificate kgt-rights/web-tls: ")
	f.untilHas(t, "the namespace without", "Warning Ingress kgt-no-rights/web SecretUnreadable: spec.tls[0].secretName: Secret kgt-no-rights/web-tls cannot be read: the agent's account has no right to: bind ClusterRole kerngate-secrets in namespace kgt-no-rights; clients get the default certificate")
}

// TestTicketKeys: two agents that both believe to hold the Lease make one ring of keys and
// rotate it once; both know each ring, and each overlaps with the one before.
func TestTicketKeys(t *testing.T) {
	s := newScene(t, "tickets")
	var ahead atomic.Int64
	s.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	s.ticketsIn = s.namespace
	one, two := s.followIn(plane.Config, "one", "kube-system"), s.followIn(plane.Config, "two", s.namespace)
	const rotations = 3
	for n := 1; n <= rotations; n++ {
		a, b := one.untilRings(t, n), two.untilRings(t, n)
		if a[n-1] != b[n-1] {
			t.Fatalf("ring %d is not the same for both", n)
		}
		if n > 1 && (a[n-1].Current != a[n-2].Next || a[n-1].Previous != a[n-2].Current) {
			t.Fatalf("ring %d does not overlap with the one before", n)
		}
		ahead.Add(int64(tickets.Interval))
	}
	a := one.untilRings(t, rotations+1)
	time.Sleep(300 * time.Millisecond) // several looks of both
	one.mu.Lock()
	if len(one.rings) != rotations+1 {
		t.Errorf("%d rings, of which %d were due", len(one.rings), rotations+1)
	}
	one.mu.Unlock()

	made, err := s.client.CoreV1().Secrets(s.namespace).Get(t.Context(), "kerngate-"+s.class+"-tickets", get)
	must(t, err)
	if made.Type != "kerngate.dev/ticket-keys" || !bytes.Equal(made.Data["current"], a[rotations].Current[:]) {
		t.Errorf("Secret of type %s does not hold the ring in use", made.Type)
	}
	made.Data["next"] = []byte("broken")
	_, err = s.client.CoreV1().Secrets(s.namespace).Update(t.Context(), made, replace)
	must(t, err)
	if r := one.untilRings(t, rotations+2); r[rotations+1] == r[rotations] {
		t.Error("a broken Secret is not made anew")
	}
}

// TestSecretLatency reports how long a renewed certificate takes until it is in the update
// that the agent gets, with 500 Ingresses that have a Secret each.
func TestSecretLatency(t *testing.T) {
	const objects, changes = 500, 50
	s := newScene(t, "secret-latency")
	var group sync.WaitGroup
	numbers := make(chan int)
	for range 8 {
		group.Go(func() {
			for n := range numbers {
				name := fmt.Sprintf("s%04d", n)
				s.createSecret(name, name+".example.com")
				s.createTLS(name, name+".example.com", name)
			}
		})
	}
	for n := range objects {
		numbers <- n
	}
	close(numbers)
	group.Wait()

	config, err := cluster.Config(plane.Kubeconfig(), "test")
	must(t, err)
	client, connection, err := cluster.Client(config, zerolog.Nop())
	must(t, err)
	source, err := cluster.New(client, connection, kube.Options{Class: s.class}, zerolog.Nop())
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()
	t.Cleanup(func() { cancel(); must(t, <-done) })

	next := func() (*model.Model, time.Time) {
		select {
		case u := <-source.Updates():
			return u.Model, time.Now()
		case <-time.After(30 * time.Second):
			t.Fatal("no update")
		}
		return nil, time.Time{}
	}
	m, _ := next()
	if len(m.Certificates) != objects {
		t.Fatalf("the first update has %d certificates of %d: hosts would have got the default one for a moment", len(m.Certificates), objects)
	}
	var took []time.Duration
	for n := range changes {
		name := fmt.Sprintf("s%04d", n)
		renewed, _ := secret(name, name+".example.com", 1)
		start := time.Now()
		_, err := s.client.CoreV1().Secrets(s.namespace).Update(t.Context(), renewed, replace)
		must(t, err)
		for { // an update may still be due to what came before
			m, at := next()
			leaf, err := m.Certificates[n].Leaf()
			must(t, err)
			if leaf.NotAfter.Year() == 2071 {
				took = append(took, at.Sub(start))
				break
			}
		}
	}
	t.Logf("Secret to update of the agent, from the write to the API, %d Ingresses with TLS, %d changes: p50 %v  p99 %v", objects, changes, quantile(took, 0.5), quantile(took, 0.99))
	if p90 := quantile(took, 0.9); p90 > time.Second { // it takes 30 ms; a busy machine is no fault
		t.Errorf("p90 %v: changes of Secrets wait for something", p90)
	}
}
