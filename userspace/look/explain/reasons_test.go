package explain

import (
	"testing"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

// TestReasonsAreTheProxys keeps the tokens of an explanation those of log and metrics.
func TestReasonsAreTheProxys(t *testing.T) {
	for token, reason := range map[string]exchange.Reason{
		reasonForwarded: exchange.Forwarded, reasonNoRoute: exchange.NoRoute,
		reasonNoService: exchange.NoService, reasonNoEndpoint: exchange.NoEndpoint,
		reasonRedirect: exchange.RedirectHTTPS, reasonClientAuth: exchange.ClientCertificate,
		reasonClosed: exchange.AccessClosed, reasonRule: exchange.RuleAnswered, reasonRate: exchange.RateLimited,
		reasonConnections: exchange.ConnectionLimited, reasonSource: exchange.SourceDenied, reasonPassword: exchange.Unauthorized,
		reasonSignIn: exchange.SignIn, reasonExternal: exchange.ExternalDenied, reasonExternalFailed: exchange.ExternalFailed,
		reasonBody: exchange.BodyTooLarge, reasonBadPath: exchange.BadPath, reasonErrorPage: exchange.ErrorPage,
	} {
		if reason.String() != token {
			t.Errorf("explain says %q, the proxy %q", token, reason)
		}
	}
}

// TestReasonsAreTheKernels does the same for connections that no proxy sees.
func TestReasonsAreTheKernels(t *testing.T) {
	known := map[string]bool{}
	for reason := range abi.Reasons {
		program, name := abi.ReasonNames(reason)
		known[program+":"+name] = true
	}
	for _, token := range []string{reasonDenied, reasonNotPublished, reasonNoProxy, reasonNoWorker} {
		if !known[token] {
			t.Errorf("explain says %q, which no kernel counter is called", token)
		}
	}
}
