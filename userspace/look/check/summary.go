package check

import (
	"fmt"
	"strings"
)

// Summary counts Ingresses by outcome and findings by level, as a sentence.
func (r Report) Summary() string {
	outcomes := map[string]int{}
	for _, i := range r.Ingresses {
		outcomes[i.Outcome]++
	}
	var parts []string
	for _, o := range []string{Served, ServedBut, Closed, NotServed} {
		if outcomes[o] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", outcomes[o], strings.ReplaceAll(o, ", but", " with findings")))
		}
	}
	levels := map[Level]int{}
	for _, f := range r.Findings {
		levels[f.Level]++
	}
	text := "no Ingress"
	if n := len(r.Ingresses); n > 0 {
		text = fmt.Sprintf("%s: %s", count(n, "Ingress", "Ingresses"), strings.Join(parts, ", "))
	}
	return fmt.Sprintf("%s; %s, %s", text, count(levels[Error], "error", "errors"), count(levels[Warning], "warning", "warnings"))
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
