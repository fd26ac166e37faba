package kube_test

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

// FuzzTranslate: whatever objects say, translation ends in a model that keeps its
// promises, the same for every order of the objects.
func FuzzTranslate(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(expand(f, section(archive, "input.yaml")))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var objects kube.Objects
		seen := map[model.ObjectRef]bool{}
		for i, document := range strings.Split(text, "\n---\n") {
			decoded, _, err := kube.Decode([]byte(document))
			if err != nil {
				continue
			}
			for _, o := range decoded {
				if !seen[o.Ref] {
					seen[o.Ref] = true
					o.SetAge(i)
					objects.Add(o)
				}
			}
		}
		options := kube.Options{Class: "kerngate", ClassOptional: true, Node: "n1", AllowExternalName: true}
		m, problems := kube.Translate(objects, options)
		checkInvariants(t, m, problems)
		checkOrder(t, objects, options, m, problems)
	})
}
