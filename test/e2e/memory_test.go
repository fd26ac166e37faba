//go:build linux

package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// TestMemoryOfManyIngresses: a proxy that serves 5,000 Ingresses, each with a host of its own
// and every fifth with rules, stays within 33 MB of resident memory of its own: 40 MB less the 7 MB
// of maps that were counted while kg_backends and kg_slots had half of their entries.
func TestMemoryOfManyIngresses(t *testing.T) {
	const many, most = 5000, 33_000_000
	s := prepareSite(t, 1, []app{{"web", 1}})
	var all []lab.Object
	for i := range many {
		ingress := lab.Ingress(fmt.Sprintf("many-%d", i), lab.Path{Host: fmt.Sprintf("host-%d.example.com", i), Path: "/app", Service: "web"})
		if i%5 == 0 {
			for key, value := range map[string]string{"enable-cors": "true", "limit-rps": "100", "proxy-body-size": fmt.Sprint(1000 + i), "allowlist-source-range": "192.0.2.0/24"} {
				ingress = lab.Annotate(ingress, "nginx.ingress.kubernetes.io/"+key, value)
			}
		}
		all = append(all, ingress)
	}
	must(t, s.Manifests.Write("many.yaml", all...))
	s.start()
	for _, i := range []int{0, many / 2, many - 1} {
		s.eventually(fmt.Sprintf("http://host-%d.example.com/app", i), "the Ingress", func(r *reply) bool { return r.Status == 200 })
	}
	pids, err := s.ProxyPIDs()
	must(t, err)
	if len(pids) != 1 {
		t.Fatalf("proxies %v", pids)
	}
	// What the start took is given back a second later.
	got := 0
	err = lab.Until(10*time.Second, "resident memory", func() error {
		if got = resident(t, pids[0]); got > most {
			return lab.ErrNotYet
		}
		return nil
	})
	report(t, "%d Ingresses: %.1f MB resident", many, float64(got)/1e6)
	if err != nil {
		t.Errorf("%d bytes are resident, want at most %d", got, most)
	}
}

// resident is what a process has of memory of its own, in bytes: the maps, which all
// processes share, do not count.
func resident(t *testing.T, pid int) int {
	t.Helper()
	mappings, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	must(t, err)
	total, maps, shared := 0, 0, false
	for line := range strings.Lines(string(mappings)) {
		if mapping.MatchString(line) {
			shared = strings.Contains(line, "anon_inode:bpf-map")
		} else if found := resting.FindStringSubmatch(line); found != nil {
			n, err := strconv.Atoi(found[1])
			must(t, err)
			if shared {
				maps += n << 10
			} else {
				total += n << 10
			}
		}
	}
	if total == 0 || maps == 0 {
		t.Fatalf("%d bytes and %d of maps in\n%s", total, maps, mappings)
	}
	return total
}

var (
	mapping = regexp.MustCompile(`^[0-9a-f]+-[0-9a-f]+ `)
	resting = regexp.MustCompile(`^Rss:\s+(\d+) kB`)
)
