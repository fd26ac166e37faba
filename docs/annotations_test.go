package docs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// TestAnnotations compares annotations.md with the registry of keys.
func TestAnnotations(t *testing.T) {
	var table strings.Builder
	counts := map[ingressnginx.Verdict]int{}
	for _, k := range ingressnginx.Keys() {
		counts[k.Verdict]++
		verdict := map[ingressnginx.Verdict]string{
			ingressnginx.Supported: "yes", ingressnginx.Difference: "with a difference", ingressnginx.Unsupported: "no",
		}[k.Verdict]
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", k.Name, k.Group, verdict, k.Why)
	}
	want := wrap(fmt.Sprintf(`# Annotations of ingress-nginx

Kerngate reads the annotations `+"`%s*`"+` of ingress-nginx 1.15 as they stand: %d of %d keys as they
were, %d with a difference that is named, %d not at all. This page is written by
`+"`go test ./docs -update`"+` from the registry that `+"`kerngatectl check`"+` uses; check tells what it means for your
manifests, without a cluster:

    kubectl get ingress -A -o yaml | kerngatectl check -

Three rules hold for all of them:

- A value that cannot be read changes nothing, and is an event on the Ingress, a row of
  `+"`kerngatectl problems`"+` and of check. So is an annotation that is not supported, and one that
  ingress-nginx never had.
- What decides who gets in fails closed. If it cannot be read, is not supported, or needs a Secret
  that is not there, every request of the Ingress is refused with 503 (`+"`access_closed`"+`).
- Nothing of an annotation is ever executed or pasted into a configuration. Snippets are parsed for
  the directives that have an equal.

The agent's `+"`--strict-annotations`"+` serves no Ingress that has an annotation which is not honoured. The
annotation `+"`kerngate.dev/compat: strict`"+` on the IngressClass leaves out what surprises in ingress-nginx: with
it, `+"`use-regex` and `rewrite-target`"+` make expressions of the ImplementationSpecific paths of their own Ingress alone,
not of every path of the host, a path that ends with a slash redirects nobody, and nor does TLS unless
`+"`ssl-redirect`"+` says so.

Texts may name values of the request (`+"`$host`, `$request_uri`, `$http_NAME`"+` and others); the message about one that
cannot be used lists those that can.

| annotation | group | honoured | difference, or why not |
| --- | --- | --- | --- |
%s`, ingressnginx.Prefix, counts[ingressnginx.Supported], len(ingressnginx.Keys()), counts[ingressnginx.Difference], counts[ingressnginx.Unsupported], table.String()))
	const file = "annotations.md"
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%s is not what the code says (%v); go test ./docs -update mends it", file, err)
	}
}
