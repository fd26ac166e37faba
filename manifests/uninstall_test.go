package manifests

import (
	"os"
	"reflect"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

// TestUninstallCleansTheSameNodes: wherever the DaemonSet has run, the other cleans up, with the same
// bpf file system and network namespace; its pods are ready only after that.
func TestUninstallCleansTheSameNodes(t *testing.T) {
	text, err := os.ReadFile("uninstall.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var clean appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(text, &clean); err != nil {
		t.Fatal(err)
	}
	serve := install(t).daemonSet
	a, b := serve.Spec.Template.Spec, clean.Spec.Template.Spec
	if !reflect.DeepEqual(a.NodeSelector, b.NodeSelector) || !reflect.DeepEqual(a.Tolerations, b.Tolerations) || !reflect.DeepEqual(a.Affinity, b.Affinity) {
		t.Errorf("they run on different nodes: %+v, %+v", a, b)
	}
	if reflect.DeepEqual(serve.Spec.Selector, clean.Spec.Selector) || clean.Namespace != serve.Namespace || !b.HostNetwork {
		t.Errorf("%s/%s selects %v", clean.Namespace, clean.Name, clean.Spec.Selector)
	}
	if len(b.InitContainers) != 1 || len(b.Containers) != 1 {
		t.Fatalf("%d containers", len(b.Containers))
	}
	// The old pod may take its whole grace period.
	if args := b.InitContainers[0].Args; !slices.Equal(args, []string{"--uninstall", "--uninstall-wait=10m"}) || *a.TerminationGracePeriodSeconds >= 600 {
		t.Errorf("%v, and a pod may take %d s to end", args, *a.TerminationGracePeriodSeconds)
	}
	if args := b.Containers[0].Args; !slices.Equal(args, []string{"--uninstall", "--uninstall-stay"}) {
		t.Errorf("the pod ends: %v", args)
	}
	for _, c := range append(b.InitContainers, b.Containers...) {
		if !mounts(c, "bpffs") || c.Image != install(t).container(t, "agent").Image {
			t.Errorf("container %s: %+v", c.Name, c)
		}
	}
}
