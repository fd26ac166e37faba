package overload

import "testing"

// TestPods: connections to pods are bounded, and the fewer are left, the fewer requests each
// client's connection may have.
func TestPods(t *testing.T) {
	var m Monitor
	if !m.EnterPod() || m.Requests(128) != 128 {
		t.Error("without a bound there is no room")
	}
	m.LeavePod()
	m.SetPods(100)
	last, in := 128, 0
	for ; m.EnterPod(); in++ {
		n := m.Requests(128)
		if n > last || n < 1 {
			t.Fatalf("with %d connections each client may have %d requests, before %d", in+1, n, last)
		}
		switch last = n; {
		case in+1 == 50 && n != 128, in+1 == 70 && n != 64, in+1 >= 90 && n != 1:
			t.Errorf("with %d connections each client may have %d requests", in+1, n)
		}
	}
	if in != 100 || m.Requests(1) != 1 {
		t.Errorf("there are %d connections", in)
	}
	m.look()
	if m.Use(Pods) != 1 || m.Refused() != 0 {
		t.Errorf("use is %v, %v of all requests is refused", m.Use(Pods), m.Refused())
	}
	m.LeavePod()
	if !m.EnterPod() {
		t.Error("a connection that ends makes no room")
	}
	if DefaultPods(0) < DefaultPods(1<<30) || DefaultPods(1<<30) < 16 {
		t.Errorf("by default %d, and %d", DefaultPods(0), DefaultPods(1<<30))
	}
}
