package reactor

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// On a joined connection a short read says nothing about what else there is, for bytes come
// by two queues: the one event that told of both may be past.
func TestJoinedShortRead(t *testing.T) {
	for _, joined := range []bool{false, true} {
		l := start(t)
		near, far := pair(t)
		var c Conn
		on(l, func() {
			if err := l.Add(&c, far, nil); err != nil {
				t.Error(err)
			}
			if joined {
				c.SetJoined()
			}
		})
		if _, err := unix.Write(near, []byte("abc")); err != nil {
			t.Fatal(err)
		}
		readable := func() (yes bool) {
			on(l, func() { yes = c.Ready()&Readable != 0 })
			return yes
		}
		for deadline := time.Now().Add(time.Second); !readable() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		on(l, func() {
			buffer := make([]byte, 100)
			if n, err := c.TryRead(buffer); n != 3 || err != nil {
				t.Errorf("joined %t: read %d, %v", joined, n, err)
			}
			if still := c.Ready()&Readable != 0; still != joined {
				t.Errorf("joined %t: after a short read it is taken for readable: %t", joined, still)
			}
			if _, err := c.TryRead(buffer); err != ErrWouldBlock {
				t.Errorf("joined %t: then %v", joined, err)
			}
			if c.Ready()&Readable != 0 || !c.Quiet() {
				t.Errorf("joined %t: empty, and not known to be", joined)
			}
		})
		unix.Close(near)
		on(l, func() { c.Close() })
	}
}
