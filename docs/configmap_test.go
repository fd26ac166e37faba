package docs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// TestConfigMap compares configmap.md with the tables of settings and flags.
func TestConfigMap(t *testing.T) {
	var table, flags strings.Builder
	counts := map[ingressnginx.SettingBy]int{}
	for _, s := range ingressnginx.Settings() {
		counts[s.By]++
		equal := ""
		if s.Equal != "" {
			equal = "`" + strings.ReplaceAll(s.Equal, ", ", "`, `") + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", s.Name, s.By, equal, s.Why)
	}
	none := 0
	for _, f := range ingressnginx.Flags() {
		equal := "none"
		if f.Equal != "" {
			equal = "`" + f.Equal + "`"
		} else {
			none++
		}
		fmt.Fprintf(&flags, "| `%s` | %s | %s |\n", f.Name, equal, f.Why)
	}
	want := wrap(fmt.Sprintf(`# The ConfigMap and the flags of ingress-nginx's controller

The agent reads the ConfigMap that ingress-nginx's controller has, if it is named:

    kerngate-agent --ingress-nginx-configmap ingress-nginx/ingress-nginx-controller ...

It is watched; with `+"`--manifests`"+` it stands in the folder. Of %d keys %d are honoured, %d more as
the values of annotations that an Ingress does not have, %d are flags of the agent, %d are about what
needs no setting here, and %d are not supported. A key of the last kind, one that is a flag, one that
cannot be read and one that ingress-nginx never had are problems of the ConfigMap
(`+"`kerngatectl problems`"+`, an event), which name the key. `+"`kerngatectl check`"+` judges the same without a
cluster. This page is written by `+"`go test ./docs -update`"+`.

- An annotation of an Ingress takes precedence over the ConfigMap.
- What keeps clients out fails closed: while the ConfigMap does not exist or cannot be read, and if
  `+"`global-auth-url`, `whitelist-source-range`"+` or a snippet that decides who gets in cannot be read,
  the requests that they would be asked about are refused with 503 (`+"`access_closed`"+`).
- The snippets are read as those of annotations are, and nothing of them is executed.
- Without a key its default in ingress-nginx holds for `+"`hsts`, `no-auth-locations` and\n`limit-req-status-code`"+`;
  of other keys Kerngate's own default, which `+"`kerngatectl check`"+` lists where they differ.

| key | how | equal | difference, or why not |
| --- | --- | --- | --- |
%s
## Flags

Of %d flags of the controller %d have an equal.

| ingress-nginx | agent | difference, or why there is none |
| --- | --- | --- |
%s`, len(ingressnginx.Settings()), counts[ingressnginx.Honoured], counts[ingressnginx.ByAnnotation], counts[ingressnginx.ByFlag],
		counts[ingressnginx.Needless], counts[ingressnginx.NotSupported], table.String(), len(ingressnginx.Flags()), len(ingressnginx.Flags())-none, flags.String()))
	const file = "configmap.md"
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
