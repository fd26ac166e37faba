// Package manifests checks what is installed in a cluster: that the objects are what
// Kubernetes knows, and that rights are as few as the text beside them says.
package manifests

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
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
	secretsRole rbacv1.ClusterRole
	secretsBind rbacv1.ClusterRoleBinding
	mapsRole    rbacv1.ClusterRole
	mapsBind    rbacv1.ClusterRoleBinding
	role        rbacv1.Role
	bind        rbacv1.RoleBinding
	class       networkingv1.IngressClass
	config      corev1.ConfigMap
	service     corev1.Service
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
		"Namespace kerngate-system": &in.namespace, "ServiceAccount kerngate": &in.account,
		"ClusterRole kerngate": &in.clusterRole, "ClusterRoleBinding kerngate": &in.clusterBind,
		"ClusterRole kerngate-secrets": &in.secretsRole, "ClusterRoleBinding kerngate-secrets": &in.secretsBind,
		"ClusterRole kerngate-configmaps": &in.mapsRole, "ClusterRoleBinding kerngate-configmaps": &in.mapsBind,
		"Role kerngate": &in.role, "RoleBinding kerngate": &in.bind,
		"IngressClass kerngate": &in.class, "ConfigMap kerngate": &in.config, "Service kerngate": &in.service, "DaemonSet kerngate": &in.daemonSet,
	}
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		var head metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatal(err)
		}
		name := head.Kind + " " + head.Name
		object, ok := into[name]
		if !ok {
			t.Fatalf("a second, or an unexpected, %q", name)
		}
		delete(into, name)
		if err := yaml.UnmarshalStrict(doc, object); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name := range into {
		t.Errorf("no %s", name)
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

// TestSpool: the proxy has a folder for large request bodies, in a volume of its own that it cannot
// fill to the limit, at which the kubelet evicts the pod. The agent says nothing against that.
func TestSpool(t *testing.T) {
	in := install(t)
	proxy := in.container(t, "proxy")
	arg := func(flag string) string {
		t.Helper()
		for _, a := range proxy.Args {
			if value, ok := strings.CutPrefix(a, flag+"="); ok {
				return value
			}
		}
		t.Fatalf("the proxy has no %s", flag)
		return ""
	}
	dir := arg("--request-spool-dir")
	total, err := strconv.ParseInt(arg("--request-spool-total"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var volume string
	for _, m := range proxy.VolumeMounts {
		if m.MountPath == dir && !m.ReadOnly {
			volume = m.Name
		}
	}
	if volume == "" || mounts(in.container(t, "agent"), volume) {
		t.Errorf("%s must be a volume of the proxy alone, %q", dir, volume)
	}
	for _, v := range in.daemonSet.Spec.Template.Spec.Volumes {
		if v.Name != volume {
			continue
		}
		// On a disk: memory would be the pod's, and what is large is not to be in memory.
		if e := v.EmptyDir; e == nil || e.Medium != "" || e.SizeLimit == nil || e.SizeLimit.Value() <= total {
			t.Errorf("volume %+v, for %d bytes", v, total)
		}
	}
	if a := in.container(t, "agent").Args; slices.ContainsFunc(a, func(a string) bool { return strings.HasPrefix(a, "--large-requests") }) {
		t.Errorf("the agent has %q", a)
	}
}

// TestMemoryIsBounded: without a limit the proxy never sheds for memory and Go's collector has no
// goal, so that what one client makes it take is the node's.
func TestMemoryIsBounded(t *testing.T) {
	for _, c := range install(t).daemonSet.Spec.Template.Spec.Containers {
		asked, most := c.Resources.Requests.Memory().Value(), c.Resources.Limits.Memory().Value()
		if asked == 0 || most < asked {
			t.Errorf("container %s requests %d bytes of memory, and its limit is %d", c.Name, asked, most)
		}
		if !c.Resources.Limits.Cpu().IsZero() {
			t.Errorf("container %s has a limit of CPU: its workers would stop for a part of each period", c.Name)
		}
	}
}

// TestMetricsAtThePod: in the node's network namespace an address without a host is every address of
// the node, the ingress addresses among them. Probes ask where the metrics are.
func TestMetricsAtThePod(t *testing.T) {
	for _, c := range install(t).daemonSet.Spec.Template.Spec.Containers {
		var port string
		for _, a := range c.Args {
			if address, ok := strings.CutPrefix(a, "--metrics-address="); ok {
				port, ok = strings.CutPrefix(address, "[$(POD_IP)]:")
				if !ok {
					t.Errorf("container %s serves metrics on %q", c.Name, address)
				}
			}
		}
		named := slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return e.Name == "POD_IP" && e.ValueFrom != nil && e.ValueFrom.FieldRef.FieldPath == "status.podIP"
		})
		if port == "" || !named {
			t.Errorf("container %s: metrics port %q; POD_IP is set: %v", c.Name, port, named)
		}
		for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
			if p != nil && (p.HTTPGet.Host != "" || p.HTTPGet.Port.String() != port) {
				t.Errorf("container %s is probed at %+v", c.Name, p.HTTPGet)
			}
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
	for _, rule := range slices.Concat(in.clusterRole.Rules, in.secretsRole.Rules, in.mapsRole.Rules, in.role.Rules) {
		if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") || slices.Contains(rule.APIGroups, "*") {
			t.Errorf("a rule with a wildcard: %+v", rule)
		}
		if slices.Contains(rule.Resources, "pods") || slices.Contains(rule.Resources, "nodes") {
			t.Errorf("nothing reads %v", rule.Resources)
		}
	}
	checkSecretRights(t, in)
	if r := in.mapsRole.Rules; len(r) != 1 || !slices.Equal(r[0].Resources, []string{"configmaps"}) || !slices.Equal(r[0].Verbs, []string{"list", "watch"}) {
		t.Errorf("kerngate-configmaps allows %+v", r)
	}
	if b := in.mapsBind; b.RoleRef.Name != in.mapsRole.Name || b.Subjects[0].Name != in.account.Name {
		t.Errorf("kerngate-configmaps is bound to %+v", b.Subjects)
	}
	for _, r := range []string{"ingresses", "ingressclasses", "services", "endpointslices", "namespaces"} {
		found := slices.ContainsFunc(in.clusterRole.Rules, func(rule rbacv1.PolicyRule) bool {
			return slices.Contains(rule.Resources, r) && slices.Equal(rule.Verbs, []string{"get", "list", "watch"})
		})
		if !found {
			t.Errorf("%s are read, but not allowed to be", r)
		}
	}
}

// checkSecretRights: Secrets are read under a role of their own, which can be bound by
// namespace instead, and written in the agent's namespace alone, by name.
func checkSecretRights(t *testing.T, in installed) {
	t.Helper()
	aboutSecrets := func(rule rbacv1.PolicyRule) bool { return slices.Contains(rule.Resources, "secrets") }
	if slices.ContainsFunc(in.clusterRole.Rules, aboutSecrets) {
		t.Error("rights to Secrets cannot be left out without the others")
	}
	if r := in.secretsRole.Rules; len(r) != 1 || !aboutSecrets(r[0]) || !slices.Equal(r[0].Verbs, []string{"list", "watch"}) {
		t.Errorf("kerngate-secrets allows %+v", r)
	}
	if b := in.secretsBind; b.RoleRef.Name != in.secretsRole.Name || b.Subjects[0].Name != in.account.Name {
		t.Errorf("kerngate-secrets is bound to %+v", b.Subjects)
	}
	for _, rule := range in.role.Rules {
		if !aboutSecrets(rule) {
			continue
		}
		named := slices.Equal(rule.ResourceNames, []string{"kerngate-" + in.class.Name + "-tickets"}) && slices.Equal(rule.Verbs, []string{"get", "update"})
		if !named && !slices.Equal(rule.Verbs, []string{"create"}) {
			t.Errorf("in its own namespace the agent may %v Secrets %v", rule.Verbs, rule.ResourceNames)
		}
	}
}

// TestFabricService: the endpoints of the Service that --fabric-service names are the pods.
func TestFabricService(t *testing.T) {
	in := install(t)
	if s := in.service.Spec; s.ClusterIP != corev1.ClusterIPNone || !maps.Equal(s.Selector, in.daemonSet.Spec.Selector.MatchLabels) {
		t.Errorf("spec %+v", s)
	}
	want := "fabric-service: " + in.service.Namespace + "/" + in.service.Name
	if in.service.Namespace != in.daemonSet.Namespace || !strings.Contains(in.config.Data["config.yaml"], want) {
		t.Errorf("the settings do not say %q", want)
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
