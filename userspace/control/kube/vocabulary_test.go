package kube

import (
	"os"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// TestScenarioOfEachAnnotation: what becomes of an annotation, whether it is honoured or
// not, stands in a scenario of its own.
func TestScenarioOfEachAnnotation(t *testing.T) {
	for _, k := range ingressnginx.Keys() {
		text, err := os.ReadFile("testdata/nginx-" + k.Name + ".txtar")
		if err != nil {
			t.Error(err)
			continue
		}
		input, _, _ := strings.Cut(string(text), "-- model --")
		if !strings.Contains(input, ingressnginx.Prefix+k.Name+":") {
			t.Errorf("the scenario of %s does not have it", k.Name)
		}
	}
}
