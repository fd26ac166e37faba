package feed

import (
	"encoding/binary"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// pair returns the two ends of a stream socket.
func pair(t testing.TB) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.UnixConn)
	}
	return end(fds[0]), end(fds[1])
}

// TestSlowAnnouncement: a peer that announces 60 MiB and sends nothing costs no memory.
func TestSlowAnnouncement(t *testing.T) {
	a, b := pair(t)
	c := newConn(a, MaxFromAgent)
	b.Write(binary.AppendUvarint(nil, 60<<20))
	a.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := c.read(&feedpb.FromAgent{})
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Fatal("message out of nothing")
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes allocated for a message that did not come", grown)
	}
}

// TestOneByteAtATime: messages are found however the stream is cut.
func TestOneByteAtATime(t *testing.T) {
	a, b := pair(t)
	c := newConn(a, MaxFromAgent)
	want := &feedpb.FromAgent{Message: &feedpb.FromAgent_Reject{Reject: &feedpb.Reject{Reason: string(make([]byte, 300))}}}
	body, _ := proto.Marshal(want)
	stream := append(binary.AppendUvarint(nil, uint64(len(body))), body...)
	stream = append(stream, stream...)
	go func() {
		for i := range stream {
			b.Write(stream[i : i+1])
		}
	}()
	for range 2 {
		got := &feedpb.FromAgent{}
		if _, err := c.read(got); err != nil || !proto.Equal(got, want) {
			t.Fatalf("%v, %v", got, err)
		}
	}
}

// FuzzRead: whatever a peer sends ends in a message or an error, and never in more
// memory than the limit allows.
func FuzzRead(f *testing.F) {
	body, _ := proto.Marshal(&feedpb.ToAgent{Message: &feedpb.ToAgent_Hello{Hello: &feedpb.Hello{Workers: 2, Sockets: []uint32{0, 1}}}})
	f.Add(append(binary.AppendUvarint(nil, uint64(len(body))), body...))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		a, b := pair(t)
		c := newConn(a, MaxToAgent)
		go func() {
			b.Write(stream)
			b.Close()
		}()
		for messages := 0; ; messages++ {
			if _, err := c.read(&feedpb.ToAgent{}); err != nil {
				break
			}
			if messages > len(stream) {
				t.Fatal("more messages than bytes")
			}
		}
	})
}
