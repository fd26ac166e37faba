package proxytest

import (
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

// Counted waits until at least so many requests have ended for a reason: that is counted when a
// request has ended, which is after its answer.
func Counted(t testing.TB, m *exchange.Metrics, reason exchange.Reason, least uint64) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); m.Ended[reason].Load() < least; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d requests are counted as %s, want at least %d", m.Ended[reason].Load(), reason, least)
			return
		}
	}
}
