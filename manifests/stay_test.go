package manifests

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"testing"

	"sigs.k8s.io/yaml"
)

// parts of each object that an upgrade must find as they were. A DaemonSet's selector and a
// binding's roleRef cannot be changed: the API server refuses it, and whoever then deletes the object
// and creates it again ends the pods of all nodes at once, or takes the agents' rights away in
// between. An object with another name is a new one beside the old, with the same effect.
func parts(t *testing.T, file string) map[string][]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]any{}
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		var o struct {
			APIVersion, Kind string
			Metadata         struct{ Name, Namespace string }
			RoleRef          any
			Spec             struct {
				Selector   any
				Controller any
				ClusterIP  any
				Template   struct {
					Metadata struct{ Labels map[string]string }
				}
			}
		}
		if err := yaml.Unmarshal(document, &o); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		key := fmt.Sprintf("%s %s %s/%s", o.APIVersion, o.Kind, o.Metadata.Namespace, o.Metadata.Name)
		found[key] = []any{o.Spec.Selector, o.RoleRef, o.Spec.Controller, o.Spec.ClusterIP}
		if o.Kind == "DaemonSet" {
			labels := o.Spec.Template.Metadata.Labels
			found[key] = append(found[key], labels["app.kubernetes.io/name"])
		}
	}
	if len(found) < 10 {
		t.Fatalf("%d objects in %s", len(found), file)
	}
	return found
}

// TestNamesAndSelectorsStay compares what is rendered now with the last release; test/controlplane
// upgrades from the one to the other on an API server.
func TestNamesAndSelectorsStay(t *testing.T) {
	now := parts(t, "install.yaml")
	for key, was := range parts(t, "testdata/released.yaml") {
		is, ok := now[key]
		if !ok {
			t.Errorf("%s of the last release is gone: an upgrade would delete it", key)
		} else if !reflect.DeepEqual(is, was) {
			t.Errorf("%s: %v, was %v: this cannot be changed without deleting the object", key, is, was)
		}
	}
}
