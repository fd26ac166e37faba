package exchange

import (
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/state"
)

// TestTLSLog: the first failure of each pod is logged, then one every 30 s with the number of
// those between.
func TestTLSLog(t *testing.T) {
	var l tlsLog
	for _, c := range []struct {
		pod    uint32
		at     time.Duration
		logged bool
		left   int
	}{
		{1, 0, true, 0}, {2, 0, true, 0}, {1, time.Second, false, 0}, {1, 29 * time.Second, false, 0},
		{1, 30 * time.Second, true, 2}, {2, 31 * time.Second, true, 0}, {1, 61 * time.Second, true, 0},
	} {
		if left, ok := l.take(state.BackendID(c.pod), int64(c.at)); ok != c.logged || left != c.left {
			t.Errorf("pod %d after %v: logged %v, %d left out; want %v, %d", c.pod, c.at, ok, left, c.logged, c.left)
		}
	}
	for pod := range uint32(10 * tlsLogPods) {
		l.take(state.BackendID(pod), 0)
	}
	if len(l.pods) > tlsLogPods {
		t.Errorf("%d pods are kept", len(l.pods))
	}
}
