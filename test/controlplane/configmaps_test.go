package controlplane

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

func (s *scene) configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.namespace}, Data: data}
}

// createNaming makes an Ingress with one annotation of ingress-nginx.
func (s *scene) createNaming(name, host, key, value string) {
	s.t.Helper()
	i := s.ingress(name, host, "/", "web")
	i.Annotations = map[string]string{ingressnginx.Prefix + key: value}
	s.create(i)
}

// TestConfigMaps: a ConfigMap that is made, changed and removed reaches what proxies are
// told, each time without any other object changing; the author gets an event, and nobody
// notices ConfigMaps that no Ingress names.
func TestConfigMaps(t *testing.T) {
	s := newScene(t, "maps")
	f := s.follow(plane.Config, "one")
	s.createNaming("web", "maps.example.com", "custom-headers", "kgt-maps/fields")
	const missing = "Warning Ingress kgt-maps/web AnnotationInvalid: annotation nginx.ingress.kubernetes.io/custom-headers: ConfigMap kgt-maps/fields does not exist; responses do not carry its headers"
	f.untilHas(t, "no ConfigMap", missing)

	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	_, err := maps.Create(t.Context(), s.configMap("fields", map[string]string{"X-Team": "shop"}), create)
	must(t, err)
	f.untilHas(t, "the ConfigMap", `response: set X-Team "shop"`)
	if strings.Contains(f.dump(), missing) {
		t.Error("the problem stays although the ConfigMap is there")
	}
	_, err = maps.Update(t.Context(), s.configMap("fields", map[string]string{"X-Team": "garden"}), replace)
	must(t, err)
	f.untilHas(t, "the changed ConfigMap", `response: set X-Team "garden"`)

	f.untilQuiet()
	f.mu.Lock()
	before := f.updates
	f.mu.Unlock()
	_, err = maps.Create(t.Context(), s.configMap("nobodys", map[string]string{"X-Team": "none"}), create)
	must(t, err)
	labelled := s.configMap("fields", map[string]string{"X-Team": "garden"})
	labelled.Labels = map[string]string{"what": "ever"}
	_, err = maps.Update(t.Context(), labelled, replace)
	must(t, err)
	time.Sleep(200 * time.Millisecond)
	f.mu.Lock()
	if f.updates != before {
		t.Errorf("%d updates for a ConfigMap that nobody names, and a label", f.updates-before)
	}
	f.mu.Unlock()

	must(t, maps.Delete(t.Context(), "fields", remove))
	f.untilHas(t, "no ConfigMap any more", missing)
	wait(t, "the event", func() error {
		list, err := s.client.CoreV1().Events(s.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=web"})
		if err == nil && !strings.Contains(fmt.Sprint(list.Items), "ConfigMap kgt-maps/fields does not exist") {
			err = fmt.Errorf("not among %d events", len(list.Items))
		}
		return err
	})
}

// TestConfigMapRights: without rights to a ConfigMap that keeps somebody out nobody gets in,
// and the author learns what is missing.
func TestConfigMapRights(t *testing.T) {
	s := newScene(t, "no-maps")
	must(t, Install(t.Context(), plane.Config, "../../manifests/install.yaml"))
	config := s.accountConfig("kerngate-system", "kerngate")
	must(t, s.client.RbacV1().ClusterRoleBindings().Delete(t.Context(), "kerngate-configmaps", remove))
	t.Cleanup(func() { // as install.yaml has it
		s.client.RbacV1().ClusterRoleBindings().Create(context.Background(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "kerngate-configmaps"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "kerngate-configmaps"},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "kerngate-system", Name: "kerngate"}},
		}, create)
	})
	_, err := s.client.CoreV1().ConfigMaps(s.namespace).Create(t.Context(), s.configMap("fields", map[string]string{"X-A": "b"}), create)
	must(t, err)
	s.createNaming("web", "no-maps.example.com", "auth-proxy-set-headers", "fields")
	f := s.followIn(config, "one", "kerngate-system")
	f.untilHas(t, "the closed Ingress", "access: closed, as auth-proxy-set-headers: ConfigMap kgt-no-maps/fields cannot be read: the agent's account has no right to: bind ClusterRole kerngate-configmaps in namespace kgt-no-maps")

	_, err = s.client.RbacV1().RoleBindings(s.namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "kerngate-configmaps"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "one-map"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "kerngate-system", Name: "kerngate"}},
	}, create)
	must(t, err)
	// A right to this one ConfigMap, by its name, is enough.
	_, err = s.client.RbacV1().Roles(s.namespace).Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "one-map"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"fields"}, Verbs: []string{"list", "watch"}}},
	}, create)
	must(t, err)
	wait(t, "the open Ingress", func() error {
		if text := f.dump(); !strings.Contains(text, "no-maps.example.com") || strings.Contains(text, "closed") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
}

// TestDefenceConfigMap: whom a ConfigMap denies follows it, as it is made, changed and removed,
// and a prefix that cannot be read is an event on it and keeps no other out.
func TestDefenceConfigMap(t *testing.T) {
	s := newScene(t, "defence")
	s.defence = s.namespace + "/defence"
	f := s.follow(plane.Config, "one")
	s.create(s.ingress("web", "defence.example.com", "/", "web"))
	f.untilHas(t, "the Ingress", "defence.example.com")
	has := func(what string, want ...string) {
		t.Helper()
		wait(t, what, func() error {
			var have []string
			for line := range strings.Lines(f.dump()) {
				if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, "deny ") || strings.HasPrefix(line, "allow ") || strings.HasPrefix(line, "source ") {
					have = append(have, line)
				}
			}
			if !slices.Equal(have, want) {
				return fmt.Errorf("have %q, want %q", have, want)
			}
			return nil
		})
	}
	has("no ConfigMap")

	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	_, err := maps.Create(t.Context(), s.configMap("defence", map[string]string{"deny": "198.51.100.0/24 # a feed\n", "allow": "198.51.100.7"}), create)
	must(t, err)
	has("the ConfigMap", "deny 198.51.100.0/24", "allow 198.51.100.7/32")
	_, err = maps.Update(t.Context(), s.configMap("defence", map[string]string{
		"deny": "2001:db8:bad::/48\nnonsense", "block-cidrs": "203.0.113.0/24", "source-packets-per-second": "1000",
	}), replace)
	must(t, err)
	has("the changed ConfigMap", "deny 203.0.113.0/24", "deny 2001:db8:bad::/48", "source packets per-second=1000 burst=0")
	wait(t, "the event", func() error {
		list, err := s.client.CoreV1().Events(s.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=defence"})
		if err == nil && !strings.Contains(fmt.Sprint(list.Items), "nonsense") {
			err = fmt.Errorf("not among %d events", len(list.Items))
		}
		return err
	})
	must(t, maps.Delete(t.Context(), "defence", remove))
	has("no ConfigMap any more")
}

// TestPasswordSecret: a Secret that basic authentication alone names is found.
func TestPasswordSecret(t *testing.T) {
	s := newScene(t, "passwords")
	f := s.follow(plane.Config, "one")
	i := s.ingress("web", "passwords.example.com", "/", "web")
	i.Annotations = map[string]string{ingressnginx.Prefix + "auth-type": "basic", ingressnginx.Prefix + "auth-secret": "staff"}
	s.create(i)
	f.untilHas(t, "no Secret", "access: closed, as auth-secret: Secret kgt-passwords/staff does not exist")
	_, err := s.client.CoreV1().Secrets(s.namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "staff"}, Data: map[string][]byte{"auth": []byte("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")},
	}, create)
	must(t, err)
	f.untilHas(t, "the Secret", `access: basic "" (credentials)`)
}
