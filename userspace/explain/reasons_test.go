package explain

import (
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

// TestReasonsAreTheProxys keeps the tokens of an explanation those of log and metrics.
func TestReasonsAreTheProxys(t *testing.T) {
	for token, reason := range map[string]exchange.Reason{
		reasonForwarded: exchange.Forwarded, reasonNoRoute: exchange.NoRoute,
		reasonNoService: exchange.NoService, reasonNoEndpoint: exchange.NoEndpoint,
	} {
		if reason.String() != token {
			t.Errorf("explain says %q, the proxy %q", token, reason)
		}
	}
}
