package agent

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// listener opens what a proxy would, and returns its address and descriptor.
func listener(t *testing.T) (address string, fd int) {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false) // as proxies do
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if fd, err = unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), fd
}

func pass(t *testing.T, c *feed.Client, fds ...int) {
	t.Helper()
	if err := c.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Listeners{Listeners: &feedpb.Listeners{}}}, fds...); err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// serveFirst joins as a proxy that serves and whose listening socket the agent keeps.
func (s *stage) serveFirst() (client *feed.Client, number uint32, address string) {
	s.t.Helper()
	client, welcome := s.mustJoin()
	address, fd := listener(s.t)
	pass(s.t, client, fd)
	ack(client, config(s.t, client).Version)
	receive(s.t, client, (*feedpb.FromAgent).GetServing)
	return client, welcome.Generation, address
}

// TestListenersOutliveProxy: who connects after the end of a proxy's process waits in its socket,
// and the next proxy gets the socket when it serves. The kernel is switched without a gap.
func TestListenersOutliveProxy(t *testing.T) {
	s := newStage(t, nil)
	s.source.updates <- update("x")
	client, number, address := s.serveFirst()
	client.Close()
	s.agent.exited <- number
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("after the end of the proxy: %v", err)
	}
	defer conn.Close()

	// One that does not come to serve leaves them to the next one.
	failing, welcome := s.mustJoin()
	config(t, failing)
	failing.Close()
	s.agent.exited <- welcome.Generation

	heir, _ := s.mustJoin()
	ack(heir, config(t, heir).Version)
	receive(t, heir, (*feedpb.FromAgent).GetServing)
	receive(t, heir, (*feedpb.FromAgent).GetInherit)
	fds := heir.TakeListeners()
	if len(fds) != 1 {
		t.Fatalf("%d sockets are passed on, want 1", len(fds))
	}
	defer unix.Close(fds[0])
	unix.SetNonblock(fds[0], false)
	accepted, _, err := unix.Accept(fds[0])
	if err != nil {
		t.Fatalf("the next proxy accepts: %v", err)
	}
	unix.Close(accepted)
	calls := s.datapath.calls
	for i, call := range calls {
		if call == "end 1" && calls[i-1] != "serve 3" {
			t.Errorf("calls %v: want generation 1 ended right after 3 serves", calls)
		}
	}
	if s.datapath.count("end 1") != 1 || s.datapath.count("end 2") != 1 {
		t.Errorf("calls %v: want generations 1 and 2 ended once", calls)
	}
}

// TestLeaving: a proxy that was told to end leaves what waits for it to the next one as well, and
// counts as none from the moment that it says so.
func TestLeaving(t *testing.T) {
	s := newStage(t, nil)
	s.source.updates <- update("x")
	client, _, _ := s.serveFirst()
	client.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Leaving{Leaving: &feedpb.Leaving{}}})
	heir, _ := s.mustJoin()
	ack(heir, config(t, heir).Version)
	receive(t, heir, (*feedpb.FromAgent).GetServing)
	receive(t, heir, (*feedpb.FromAgent).GetInherit)
	for _, fd := range heir.TakeListeners() {
		unix.Close(fd)
	}
	receive(t, client, (*feedpb.FromAgent).GetDrain)
}

// TestNoHeir: connections do not wait for ever.
func TestNoHeir(t *testing.T) {
	d := &faultyDatapath{services: map[string]state.ServiceID{}, generations: map[uint32]uint16{1: abi.GenerationServing}}
	a := New(Options{Datapath: d, Source: hand{}, Log: zerolog.New(zerolog.NewTestWriter(t))})
	address, fd := listener(t)
	p := a.proxies[1]
	p.watched, p.listeners = true, []int{fd}
	a.processEnded(1)
	if a.hasProxy() || a.hasServing() {
		t.Error("a proxy whose process has ended counts")
	}
	a.lookAfterProxies(time.Now().Add(heirWait / 2))
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("while another proxy may come: %v", err)
	}
	defer conn.Close()
	a.lookAfterProxies(time.Now().Add(2 * heirWait))
	if d.count("end 1") != 1 {
		t.Errorf("calls %v, want generation 1 ended", d.calls)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection that waited too long: %v, want it reset", err)
	}
}

// TestPassedByStranger: only listening TCP sockets are kept.
func TestPassedByStranger(t *testing.T) {
	s := newStage(t, nil)
	s.source.updates <- update("x")
	client, _ := s.mustJoin()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, _ := unix.FcntlInt(null.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	udp, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	idle, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, good := listener(t)
	pass(t, client, file, udp, good, idle)
	ack(client, config(t, client).Version)
	receive(t, client, (*feedpb.FromAgent).GetServing)
	client.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Leaving{Leaving: &feedpb.Leaving{}}})
	heir, _ := s.mustJoin()
	ack(heir, config(t, heir).Version)
	receive(t, heir, (*feedpb.FromAgent).GetServing)
	receive(t, heir, (*feedpb.FromAgent).GetInherit)
	fds := heir.TakeListeners()
	if len(fds) != 1 || !isTCPListener(fds[0]) {
		t.Errorf("%d descriptors passed on, want the one that listens", len(fds))
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}
