package exchange

import (
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
)

// TestPasswordShares: somebody who tries passwords at one namespace's hosts keeps nobody of another
// namespace waiting for more than one of them, takes no more than half of the room, and what he
// has given up is not verified.
func TestPasswordShares(t *testing.T) {
	p := &verifiers{shares: limit.Shares{Most: 100}, most: 1}
	begun, held := make(chan struct{}), make(chan struct{})
	first := &verification{by: "attacked", run: func() bool { close(begun); <-held; return false }, tell: func(bool) {}}
	if !p.add(first) {
		t.Fatal("there is no room for the first")
	}
	<-begun
	var order []string
	add := func(by string) *verification {
		v := &verification{by: by, run: func() bool { order = append(order, by); return true }, tell: func(bool) {}}
		if !p.add(v) {
			return nil
		}
		return v
	}
	attacks := 0
	var last *verification
	for v := add("attacked"); v != nil; v = add("attacked") {
		last = v
		attacks++
	}
	if attacks != 49 {
		t.Errorf("%d wait for one namespace, want 49 beside the one that runs", attacks)
	}
	if add("honest") == nil {
		t.Fatal("there is no room for another namespace")
	}
	last.abandon()
	if !p.add(&verification{by: "end", run: func() bool { return true }, tell: func(bool) {}}) {
		t.Fatal("there is no room for a third namespace")
	}
	close(held)
	for end, running := time.Now().Add(time.Minute), 1; running > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not all are verified")
		}
		p.mu.Lock()
		running = p.running
		p.mu.Unlock()
	}
	if len(order) != attacks || order[1] != "honest" { // one of them was abandoned
		t.Errorf("%d were verified, the second for %q", len(order), order[1])
	}
}
