//go:build linux

package main

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// answeredAim is how many of the honest client's requests Kerngate has to answer in time.
const answeredAim = 0.95

func (v *visits) share() float64 {
	if v.Asked == 0 {
		return 0
	}
	return float64(v.Answered) / float64(v.Asked)
}

// slowest is the time that 99 % of the requests that were answered in time took at most, in ms.
func (v *visits) slowest() float64 {
	if len(v.Took) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(v.Took))[int(0.99*float64(len(v.Took)-1)+0.5)]
}

// missedAims says in which attacks Kerngate is not as it should be.
func missedAims(results []*result) (missed []string) {
	for _, r := range results {
		if r.product != kerngateName {
			continue
		}
		if lacks := r.lacks(); lacks != "" {
			missed = append(missed, fmt.Sprintf("%s: %s was not attacked as it should be: %s", r.attack.name, r.product, lacks))
		}
		if share := r.visits.share(); share < answeredAim {
			missed = append(missed, fmt.Sprintf("%s: %.1f %% of the honest client's requests were answered within %s, want %.0f %% (failed: %v)",
				r.attack.name, 100*share, patience, 100*answeredAim, r.visits.Failed))
		}
		if m := r.memory; m.back == 0 {
			missed = append(missed, fmt.Sprintf("%s: memory is %s after the attack, %s before", r.attack.name, mebibytes(m.after), mebibytes(m.before)))
		}
	}
	return missed
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// preamble says what was attacked, on what, and how.
func (s *site) preamble(o options) string {
	var text strings.Builder
	fmt.Fprintf(&text, "# Attacks\n\nWritten by `make attack` on %s; do not edit.\n\n", time.Now().UTC().Format("2 January 2006"))
	fmt.Fprintf(&text, "- Machine: %d CPUs, Linux %s, %s; load average %s before.\n", runtime.NumCPU(), fileWord("/proc/sys/kernel/osrelease"), runtime.Version(), fileWord("/proc/loadavg"))
	for _, p := range s.products {
		fmt.Fprintf(&text, "- %s: %s\n", p.name, p.version)
	}
	fmt.Fprintf(&text, `- All have CPU %d, one worker, room for %d connections of clients, 15 s for a request's head and 60 s for
  pauses. The honest client, the attackers and the pods share CPU(s) %v. Attackers have a lower
  priority than the client, and bounds for connections and rates.
- Each attack takes %s. The honest client asks %d times a second, in turn by HTTP and HTTPS, each
  time on a new connection from an address that no attacker has.
- Each product is started anew for each attack, so that nothing of the last one is left in it, and is
  first asked %d times a second for %s. The next one is attacked once the kernel has closed the
  connections of the attack before.
- Memory is that of the processes (RssAnon), before the attack, at its peak, and after it: at the
  moment at which it was back at %.1f times what it was before, or %s after the end. Sockets and
  pipes are the kernel's, and not in it.
- Aim for Kerngate: %.0f %% of the honest requests are answered within %s, and the memory comes back
  within %s. `+"`make attack`"+` fails otherwise.

`, proxyCPU, maxClients, s.rest, o.duration, clientRate, warmUpRate, warmUpTime, backTo, o.patience, 100*answeredAim, patience, o.patience)
	return text.String()
}

func fileWord(path string) string {
	text, _ := os.ReadFile(path)
	word, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	return word
}

// section is the report of one attack.
func section(a *attack, results []*result) string {
	var text strings.Builder
	fmt.Fprintf(&text, "## %s\n\n%s From %s.\n\n", a.title, a.text, a.from)
	fmt.Fprint(&text, "| | answered within 1 s | p99, ms | memory before, MiB | peak | after | back after | attackers did |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n")
	for _, r := range results {
		m, back := r.memory, "not"
		if m.back > 0 {
			back = fmt.Sprintf("%.1f s", m.back.Seconds())
		}
		p99 := "-"
		if len(r.visits.Took) > 0 {
			p99 = fmt.Sprintf("%.0f", r.visits.slowest())
		}
		fmt.Fprintf(&text, "| %s | %.1f %% | %s | %.1f | %.1f | %.1f | %s | %s |\n", r.product, 100*r.visits.share(), p99,
			float64(m.before)/(1<<20), float64(m.peak)/(1<<20), float64(m.after)/(1<<20), back, did(r.sent))
	}
	for _, r := range results {
		if lacks := r.lacks(); lacks != "" && r.product != kerngateName {
			fmt.Fprintf(&text, "\n%s took less of the attack than it was to get: %s.\n", r.product, lacks)
		}
		if list := reasons(r.counted); len(list) > 0 {
			fmt.Fprintf(&text, "\n%s counted: %s.\n", r.product, strings.Join(list, "; "))
		}
	}
	fmt.Fprintln(&text)
	return text.String()
}

// did lists what attackers counted.
func did(sent map[string]int64) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		list = append(list, fmt.Sprintf("%s %d", name, sent[name]))
	}
	return strings.Join(list, ", ")
}

// defences are the counters of Kerngate that say that it did something about an attack.
var defences = []string{
	"kerngate_proxy_client_connections_evicted_total", "kerngate_proxy_client_connections_refused_total",
	"kerngate_proxy_tls_handshakes_failed_total", "kerngate_proxy_http2_cut_total", "kerngate_proxy_http2_errors_total",
	"kerngate_proxy_http2_streams_refused_total", "kerngate_proxy_http3_refused_total", "kerngate_proxy_http3_retries_total",
	"kerngate_proxy_http3_handshakes_failed_total", "kerngate_proxy_requests_total", "kerngate_proxy_accept_errors_total",
}

// reasons lists what Kerngate's counters say, without requests that went well.
func reasons(counted map[string]float64) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		family, labels, _ := strings.Cut(name, "{")
		if !slices.Contains(defences, family) || strings.Contains(labels, `reason="forwarded"`) {
			continue
		}
		list = append(list, fmt.Sprintf("`%s` %.0f", strings.TrimPrefix(name, "kerngate_proxy_"), counted[name]))
	}
	return list
}

// verdict says whether the aims are reached.
func verdict(missed []string) string {
	if len(missed) == 0 {
		return "## Verdict\n\nKerngate reaches its aim in every attack above.\n"
	}
	return "## Verdict\n\nKerngate misses its aim:\n\n- " + strings.Join(missed, "\n- ") + "\n"
}
