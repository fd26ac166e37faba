package folder

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/control/kube"
)

// BenchmarkChange: one file of many has changed.
func BenchmarkChange(b *testing.B) {
	f := folder{path: b.TempDir(), translator: kube.NewTranslator(kube.Options{Class: "kerngate", ClassOptional: true}), files: map[string]*file{}}
	for i := range 40 {
		var text strings.Builder
		for j := range 500 {
			text.WriteString(ingress(fmt.Sprintf("i%d", i*500+j), fmt.Sprintf("h%d.example.com", i*500+j), "/") + "---\n")
		}
		f.files[fmt.Sprintf("%03d.yaml", i)] = parse("x", []byte(text.String()), nil)
	}
	f.files["a.yaml"] = parse("a.yaml", []byte(service), nil)
	f.update()
	b.ResetTimer()
	for i := range b.N {
		f.files["new.yaml"] = parse("new.yaml", []byte(ingress("new", "new.example.com", fmt.Sprint("/", i))), nil)
		f.update()
	}
}
