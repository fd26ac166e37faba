// Package manifests checks what is installed in a cluster: that the objects are what
// Kubernetes knows, and that rights are as few as the text beside them says.
package manifests

import (
	"bytes"
	"os"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// installed is install.yaml, decoded.
type installed struct {
	namespace   corev1.Namespace
	account     corev1.ServiceAccount
	clusterRole rbacv1.ClusterRole
	clusterBind rbacv1.ClusterRoleBinding
	role        rbacv1.Role
	bind        rbacv1.RoleBinding
	class       networkingv1.IngressClass
	config      corev1.ConfigMap
	daemonSet   appsv1.DaemonSet
}

// install reads install.yaml, refusing fields that the types do not have: a field that is
// misspelt is a right or a limit that silently is not there.
func install(t *testing.T) installed {
	t.Helper()
	text, err := os.ReadFile("install.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var in installed
	into := map[string]any{
		"Namespace": &in.namespace, "ServiceAccount": &in.account, "ClusterRole": &in.clusterRole,
		"ClusterRoleBinding": &in.clusterBind, "Role": &in.role, "RoleBinding": &in.bind,
		"IngressClass": &in.class, "ConfigMap": &in.config, "DaemonSet": &in.daemonSet,
	}
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			t.Fatal(err)
		}
		object, ok := into[kind.Kind]
		if !ok {
			t.Fatalf("a second, or an unexpected, %q", kind.Kind)
		}
		delete(into, kind.Kind)
		if err := yaml.UnmarshalStrict(doc, object); err != nil {
			t.Fatalf("%s: %v", kind.Kind, err)
		}
	}
	for kind := range into {
		t.Errorf("no %s", kind)
	}
	return in
}

func (in installed) container(t *testing.T, name string) corev1.Container {
	t.Helper()
	for _, c := range in.daemonSet.Spec.Template.Spec.Containers {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no container %q", name)
	return corev1.Container{}
}

func mounts(c corev1.Container, volume string) bool {
	return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume })
}

func TestProxyHasNoRights(t *testing.T) {
	in := install(t)
	proxy := in.container(t, "proxy")
	s := proxy.SecurityContext
	switch {
	case s == nil || len(s.Capabilities.Add) != 0 || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}):
		t.Error("the proxy must drop ALL capabilities and add none")
	case !*s.RunAsNonRoot || *s.RunAsUser != 65532 || *s.RunAsGroup != 65532:
		t.Error("the proxy must run as 65532, which the agent admits to its socket")
	case !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || s.Privileged != nil:
		t.Error("the proxy must not write, nor gain rights")
	case s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Error("the proxy must run under the runtime's seccomp profile")
	}
	for _, volume := range []string{"token", "bpffs", "config"} {
		if mounts(proxy, volume) {
			t.Errorf("the proxy mounts %q", volume)
		}
	}
}

func TestTokenIsTheAgentsAlone(t *testing.T) {
	in := install(t)
	pod := in.daemonSet.Spec.Template.Spec
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || in.account.AutomountServiceAccountToken == nil || *in.account.AutomountServiceAccountToken {
		t.Error("a token would be mounted in every container")
	}
	if !mounts(in.container(t, "agent"), "token") {
		t.Error("the agent has no token")
	}
	if pod.ServiceAccountName != in.account.Name || in.clusterBind.Subjects[0].Name != in.account.Name || in.bind.Subjects[0].Name != in.account.Name {
		t.Error("pod, account and bindings do not name the same account")
	}
}

func TestAgentIsNotPrivileged(t *testing.T) {
	s := install(t).container(t, "agent").SecurityContext
	if s.Privileged != nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Error("the agent must name its capabilities instead of being privileged")
	}
	if !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation {
		t.Error("the agent must not write to its image, nor gain rights")
	}
}

// TestTwoPodsFitOnANode guards maxSurge: anything of which a node has one stops the update.
func TestTwoPodsFitOnANode(t *testing.T) {
	in := install(t)
	u := in.daemonSet.Spec.UpdateStrategy.RollingUpdate
	if u == nil || u.MaxSurge.IntValue() != 1 || u.MaxUnavailable.IntValue() != 0 {
		t.Errorf("update strategy %+v", u)
	}
	pod := in.daemonSet.Spec.Template.Spec
	if !pod.HostNetwork || pod.DNSPolicy != corev1.DNSClusterFirstWithHostNet {
		t.Error("sk_lookup steers to sockets of the node's network namespace: hostNetwork is needed, and its DNS policy")
	}
	for _, c := range pod.Containers {
		// With hostNetwork a pod's containerPort becomes its hostPort, and the scheduler lets
		// one pod have it.
		if len(c.Ports) != 0 {
			t.Errorf("container %s declares ports: the second pod could not be scheduled", c.Name)
		}
	}
}

func TestRolesAskForNoMoreThanIsUsed(t *testing.T) {
	in := install(t)
	for _, rule := range append(slices.Clone(in.clusterRole.Rules), in.role.Rules...) {
		if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") || slices.Contains(rule.APIGroups, "*") {
			t.Errorf("a rule with a wildcard: %+v", rule)
		}
		if slices.Contains(rule.Resources, "secrets") || slices.Contains(rule.Resources, "pods") || slices.Contains(rule.Resources, "nodes") {
			t.Errorf("nothing reads %v", rule.Resources)
		}
	}
	for _, r := range []string{"ingresses", "ingressclasses", "services", "endpointslices"} {
		found := slices.ContainsFunc(in.clusterRole.Rules, func(rule rbacv1.PolicyRule) bool {
			return slices.Contains(rule.Resources, r) && slices.Equal(rule.Verbs, []string{"get", "list", "watch"})
		})
		if !found {
			t.Errorf("%s are read, but not allowed to be", r)
		}
	}
}

func TestClassNamesTheController(t *testing.T) {
	if c := install(t).class; c.Spec.Controller != "kerngate.dev/ingress-controller" || c.Name != "kerngate" {
		t.Errorf("class %s of controller %s", c.Name, c.Spec.Controller)
	}
}

// TestKustomization checks that the base names files that are there.
func TestKustomization(t *testing.T) {
	text, err := os.ReadFile("kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var base struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Resources  []string `json:"resources"`
	}
	if err := yaml.UnmarshalStrict(text, &base); err != nil {
		t.Fatal(err)
	}
	if base.Kind != "Kustomization" || !slices.Contains(base.Resources, "install.yaml") {
		t.Errorf("%+v", base)
	}
	for _, r := range base.Resources {
		if _, err := os.Stat(r); err != nil {
			t.Error(err)
		}
	}
}
