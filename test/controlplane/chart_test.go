package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// helm is the program of scripts/helm-build, with a home of its own and the rights of an admin.
type helm struct {
	t          *testing.T
	path, home string
	kubeconfig string
}

func newHelm(t *testing.T, kubeconfig string) helm {
	t.Helper()
	out, err := exec.Command("../../scripts/helm-build").Output()
	if err != nil {
		t.Fatalf("scripts/helm-build: %v", err)
	}
	return helm{t, strings.TrimSpace(string(out)), t.TempDir(), kubeconfig}
}

func (h helm) try(args ...string) (string, error) {
	cmd := exec.Command(h.path, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+h.kubeconfig, "HELM_CACHE_HOME="+h.home, "HELM_CONFIG_HOME="+h.home, "HELM_DATA_HOME="+h.home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h helm) run(args ...string) string {
	h.t.Helper()
	out, err := h.try(args...)
	if err != nil {
		h.t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// released makes a chart of the last released manifests: what `helm upgrade` finds in a cluster that
// runs them. Their Namespace is not the chart's unless it is asked to render it.
func released(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../manifests/testdata/released.yaml")
	must(t, err)
	var kept [][]byte
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		if !bytes.Contains(document, []byte("\nkind: Namespace\n")) {
			kept = append(kept, document)
		}
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "templates"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte("apiVersion: v2\nname: kerngate\nversion: 0.0.1\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "templates", "all.yaml"), bytes.Join(kept, []byte("\n---\n")), 0o644))
	return dir
}

// TestChart installs the last release by helm on an API server, upgrades it to the chart of this
// tree with every switch on, and uninstalls it.
func TestChart(t *testing.T) {
	// Their parent's thread must live as long as the processes.
	runtime.LockOSThread()
	plane, err := Start(t.TempDir())
	must(t, err)
	defer plane.Stop()
	client, err := kubernetes.NewForConfig(plane.Config)
	must(t, err)
	h := newHelm(t, plane.Kubeconfig())
	const namespace, chart = "kerngate-system", "../../manifests/chart"
	flags := []string{"--namespace", namespace}

	h.run(append(flags, "install", "--create-namespace", "kerngate", released(t))...)
	before, err := client.AppsV1().DaemonSets(namespace).Get(t.Context(), "kerngate", get)
	must(t, err)

	if out, err := h.try(append(flags, "upgrade", "kerngate", chart)...); err == nil || !strings.Contains(out, "config.ingress-ip") {
		t.Errorf("without an address: %v\n%s", err, out)
	}
	if out, err := h.try(append(flags, "upgrade", "kerngate", chart, "--set", "config.ingress-ip={192.0.2.10}", "--set", "proxy.resource.limits.memory=1Gi")...); err == nil {
		t.Errorf("a misspelt value was accepted:\n%s", out)
	}
	h.run(append(flags, "upgrade", "kerngate", chart, "--set", "config.ingress-ip={192.0.2.10}", "--set", "image.tag=v2", "--set", "podLabels.team=edge",
		"--set", "podDisruptionBudget.enabled=true", "--set", "dashboards.enabled=true", "--set", "admissionPolicy.enabled=true")...)
	after, err := client.AppsV1().DaemonSets(namespace).Get(t.Context(), "kerngate", get)
	must(t, err)
	// Deleted and created again, it would end the pods of all nodes at once.
	if before.UID != after.UID {
		t.Error("the upgrade made another DaemonSet")
	}
	if !maps.Equal(before.Spec.Selector.MatchLabels, after.Spec.Selector.MatchLabels) {
		t.Errorf("selector %v, was %v", after.Spec.Selector.MatchLabels, before.Spec.Selector.MatchLabels)
	}
	if image := after.Spec.Template.Spec.Containers[0].Image; image != "kerngate-agent:v2" {
		t.Errorf("the agent's image is %s", image)
	}
	_, err = client.PolicyV1().PodDisruptionBudgets(namespace).Get(t.Context(), "kerngate", get)
	must(t, err)
	boards, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), "kerngate-dashboards", get)
	must(t, err)
	if len(boards.Data) != 3 {
		t.Errorf("%d dashboards", len(boards.Data))
	}
	t.Run("admission policy", func(t *testing.T) { admissionPolicy(t, client) })

	h.run(append(flags, "uninstall", "kerngate")...)
	left(t, client, namespace)
}

// admissionPolicy: what the policy refuses, what it lets in, and whom it concerns.
func admissionPolicy(t *testing.T, client kubernetes.Interface) {
	make := func(class string, annotations map[string]string) error {
		prefixed := map[string]string{}
		for key, value := range annotations {
			prefixed["nginx.ingress.kubernetes.io/"+key] = value
		}
		path := networkingv1.PathTypePrefix
		_, err := client.NetworkingV1().Ingresses("default").Create(t.Context(), &networkingv1.Ingress{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "judged-", Annotations: prefixed},
			Spec: networkingv1.IngressSpec{IngressClassName: &class, Rules: []networkingv1.IngressRule{{Host: "a.example.com", IngressRuleValue: networkingv1.IngressRuleValue{
				HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &path,
					Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}}}}}}}}},
		}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	wait(t, "the policy", func() error {
		if make("kerngate", map[string]string{"ssl-redirect": "yes"}) == nil {
			return fmt.Errorf("ssl-redirect: yes is accepted")
		}
		return nil
	})
	refused := []map[string]string{
		{"ssl-redirect": "yes"}, {"enable-cors": "on"}, {"canary-weight": "half"}, {"limit-connections": "-1"},
		{"whitelist-source-range": "10.0.0.0/33"}, {"denylist-source-range": "10.0.0.0/8, office"},
		{"auth-secret": "other/users"}, {"auth-tls-secret": "other/ca"}, {"proxy-ssl-secret": "other/pods"},
	}
	for _, annotations := range refused {
		err := make("kerngate", annotations)
		var key string
		for key = range annotations {
		}
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "kerngate: nginx.ingress.kubernetes.io/"+key) {
			t.Errorf("%v: %v, want it refused by name", annotations, err)
		}
		if err := make("nginx", annotations); err != nil {
			t.Errorf("%v of another class: %v", annotations, err)
		}
	}
	if err := make("kerngate", nil); err != nil {
		t.Error(err)
	}
	if err := make("kerngate", map[string]string{"ssl-redirect": "false", "use-regex": "1", "canary-weight": " 20 ", "limit-connections": "100",
		"whitelist-source-range": "10.0.0.0/8, 192.0.2.1,2001:db8::/32", "auth-secret": "default/users", "auth-tls-secret": "ca", "unknown": "x"}); err != nil {
		t.Error(err)
	}
}

// left checks that no object of the release is left, in the cluster or in its namespace.
func left(t *testing.T, client kubernetes.Interface, namespace string) {
	t.Helper()
	ctx := context.Background()
	daemonSets, err := client.AppsV1().DaemonSets("").List(ctx, everyone)
	must(t, err)
	services, err := client.CoreV1().Services(namespace).List(ctx, everyone)
	must(t, err)
	accounts, err := client.CoreV1().ServiceAccounts(namespace).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=kerngate"})
	must(t, err)
	secrets, err := client.CoreV1().Secrets(namespace).List(ctx, everyone)
	must(t, err)
	classes, err := client.NetworkingV1().IngressClasses().List(ctx, everyone)
	must(t, err)
	policies, err := client.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, everyone)
	must(t, err)
	budgets, err := client.PolicyV1().PodDisruptionBudgets("").List(ctx, everyone)
	must(t, err)
	for what, n := range map[string]int{"DaemonSets": len(daemonSets.Items), "Services": len(services.Items), "ServiceAccounts": len(accounts.Items),
		"Secrets": len(secrets.Items), "IngressClasses": len(classes.Items), "policies": len(policies.Items), "PodDisruptionBudgets": len(budgets.Items)} {
		if n != 0 {
			t.Errorf("%d %s are left", n, what)
		}
	}
	roles, err := client.RbacV1().ClusterRoles().List(ctx, everyone)
	must(t, err)
	for _, r := range roles.Items {
		if strings.HasPrefix(r.Name, "kerngate") {
			t.Errorf("ClusterRole %s is left", r.Name)
		}
	}
	bindings, err := client.RbacV1().ClusterRoleBindings().List(ctx, everyone)
	must(t, err)
	for _, b := range bindings.Items {
		if strings.HasPrefix(b.Name, "kerngate") {
			t.Errorf("ClusterRoleBinding %s is left", b.Name)
		}
	}
}
