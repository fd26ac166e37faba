package overload

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRefusedGrowsWithUse(t *testing.T) {
	for _, tc := range []struct {
		r         Resource
		use, want uint32
	}{
		{Connections, 0, 0}, {Connections, 900, 0}, {Connections, 950, 500}, {Connections, 1000, 1000}, {Connections, 5000, 1000},
		{Memory, 900, 0}, {Memory, 940, 500}, {Memory, 980, 1000}, {AcceptQueue, 500, 0}, {AcceptQueue, 700, 500}, {AcceptQueue, 950, 1000},
	} {
		if got := refusedAt(tc.r, tc.use); got != tc.want {
			t.Errorf("%v at %d: %d, want %d", tc.r, tc.use, got, tc.want)
		}
	}
}

func TestMonitorGoesByTheWorstResource(t *testing.T) {
	use, limit := uint64(0), uint64(1000)
	m := Monitor{MemoryOf: func() (uint64, uint64) { return use, limit }}
	m.SetConnections(100)
	for _, tc := range []struct {
		use, limit  uint64
		connections int64
		refused     float64
	}{{500, 1000, 10, 0}, {940, 1000, 10, 0.5}, {940, 1000, 99, 0.9}, {1000, 1000, 10, 1}, {1000, 0, 10, 0}, {1000, 1000, 10, 1}} {
		use, limit = tc.use, tc.limit
		m.connections.Store(tc.connections)
		m.look()
		if m.Refused() != tc.refused {
			t.Errorf("%+v: %v is refused", tc, m.Refused())
		}
		for _, random := range []uint64{0, 499, 500, 899, 999} {
			if got := m.Sheds(func() uint64 { return random }); got != (float64(random)/all < tc.refused) {
				t.Errorf("%+v: %d is shed: %v", tc, random, got)
			}
		}
	}
	if m.Use(Memory) != 1 {
		t.Errorf("memory is used by %v", m.Use(Memory))
	}
}

func TestConnections(t *testing.T) {
	var m Monitor
	if m.Enter() != Roomy {
		t.Error("without a bound there is no room")
	}
	m.Leave()
	m.SetConnections(20)
	var got [3]int
	for range 25 {
		got[m.Enter()]++
	}
	if got != [3]int{18, 2, 5} {
		t.Errorf("roomy, crowded and full were %v of 25", got)
	}
	m.Leave()
	if m.Enter() != Crowded || m.Enter() != Full {
		t.Error("a connection that leaves makes room for one")
	}
	if n := DefaultConnections(); n < 16 {
		t.Errorf("by default %d", n)
	}
}

// TestAcceptQueue reads a real socket's queue.
func TestAcceptQueue(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 10); err != nil {
		t.Fatal(err)
	}
	m := Monitor{Listeners: []int{fd}}
	m.look()
	if m.Use(AcceptQueue) != 0 || m.Refused() != 0 {
		t.Fatalf("an empty queue is used by %v", m.Use(AcceptQueue))
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
	for range 10 {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	m.look()
	if m.Use(AcceptQueue) != 1 || m.Refused() != 1 {
		t.Errorf("a full queue is used by %v, %v is refused", m.Use(AcceptQueue), m.Refused())
	}
	for range 10 {
		c, _, err := unix.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(c)
	}
	m.look()
	if m.Refused() != 0 {
		t.Errorf("%v is refused when the queue is empty again", m.Refused())
	}
}
