package overload

import (
	"testing"
	"time"
)

var spare []byte

// TestAllocated: what the process allocates is seen, per second.
func TestAllocated(t *testing.T) {
	var a allocation
	at := time.Unix(1000, 0)
	if n := a.perSecond(at); n != 0 {
		t.Errorf("%d bytes a second before there was one", n)
	}
	const size = 64 << 20
	spare = make([]byte, size)
	if n := a.perSecond(at.Add(time.Second / 2)); n != 0 {
		t.Errorf("%d bytes a second within the first", n)
	}
	if n := a.perSecond(at.Add(2 * time.Second)); n < size/2 || n > size {
		t.Errorf("%d bytes a second after %d in two", n, size)
	}
	spare = nil
	if n := a.perSecond(at.Add(4 * time.Second)); n > size/8 {
		t.Errorf("%d bytes a second in two in which little was allocated", n)
	}
}
