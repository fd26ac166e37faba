//go:build linux

package main

import (
	"strings"
	"testing"
)

// Aims are judged by the middle half of the rounds, and what is added by pairs of them.
func TestReport(t *testing.T) {
	ways := []*way{
		{name: plainRouting, perRequest: []float64{10, 20, 10, 20, 10}, perConnection: []float64{50, 50, 50, 50, 50}, perMiB: []float64{100, 100, 100, 100, 100}},
		{name: kerngate, perRequest: []float64{11, 21, 11, 21, 11}, perConnection: []float64{58, 62, 54, 62, 50}, perMiB: []float64{101, 99, 102, 100, 190}},
		{name: nftables, perRequest: []float64{12, 22, 12, 22, 12}, perConnection: []float64{60, 60, 60, 60, 60}, perMiB: []float64{100, 100, 100, 100, 100}},
		{name: haproxyTCP, perRequest: []float64{19, 29, 19, 29, 19}, perConnection: []float64{150, 150, 150, 150, 150}, perMiB: []float64{200, 200, 200, 200, 200}},
	}
	var out strings.Builder
	report(&out, ways)
	for _, want := range []string{
		"| Kerngate | 11.0 us | 1.0 us | 1.0 to 1.0 | 1.10 |",
		"| nftables DNAT | 100.0 us | nothing that shows | 0.0 to 0.0 | 1.00 |",
		"| per request, of what haproxy, TCP mode adds | 0.10 | 0.11 | 0.11 to 0.11 | not reached |",
		"| per request, of what nftables DNAT adds | 0.50 | 0.50 | 0.50 to 0.50 | reached |",
		"| per connection, of what nftables DNAT adds | 0.50 | 0.80 | 0.40 to 1.20 | within the noise |",
		"| bulk, relative to plain routing | 1.03 | 1.01 | 1.00 to 1.02 | reached |",
	} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no line %q in\n%s", want, out.String())
		}
	}
}
