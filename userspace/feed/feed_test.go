package feed_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

const mapABI = 7

// serve starts a server whose events arrive on the channel returned.
func serve(t *testing.T, options feed.Options) (*feed.Server, string, <-chan feed.Event) {
	t.Helper()
	noLeaks(t)
	if options.Path == "" {
		options.Path = filepath.Join(t.TempDir(), "run", "agent.sock")
	}
	options.MapABI = mapABI
	s, err := feed.Listen(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, options.Path, s.Events()
}

// noLeaks fails the test if it ends with more descriptors open than it began with.
func noLeaks(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	t.Cleanup(func() {
		deadline := time.Now().Add(2 * time.Second)
		for count() > before {
			if time.Now().After(deadline) {
				t.Errorf("%d descriptors open, %d before the test", count(), before)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

func next[T feed.Event](t *testing.T, events <-chan feed.Event) T {
	t.Helper()
	select {
	case e := <-events:
		want, ok := e.(T)
		if !ok {
			t.Fatalf("event %T %+v, want %T", e, e, want)
		}
		return want
	case <-time.After(5 * time.Second):
		var want T
		t.Fatalf("no event, want %T", want)
		panic("unreachable")
	}
}

func hello(workers int, sockets ...uint32) *feedpb.Hello {
	return &feedpb.Hello{Build: "test", Workers: uint32(workers), Sockets: sockets, MapAbi: mapABI}
}

// memfds returns n descriptors whose contents are their index.
func memfds(t *testing.T, n int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		fd, err := unix.MemfdCreate("kgt", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if _, err := unix.Write(fd, []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		fds[i] = fd
	}
	return fds
}

func checkMemfds(t *testing.T, fds []int) {
	t.Helper()
	for i, fd := range fds {
		var b [16]byte
		n, err := unix.Pread(fd, b[:], 0)
		if err != nil || string(b[:n]) != fmt.Sprint(i) {
			t.Errorf("descriptor %d holds %q, %v", i, b[:n], err)
		}
		unix.Close(fd)
	}
}

type dialed struct {
	client  *feed.Client
	welcome *feedpb.Welcome
	maps    []int
	err     error
}

func dial(path string, h *feedpb.Hello, fds []int) <-chan dialed {
	result := make(chan dialed, 1)
	go func() {
		var d dialed
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		d.client, d.welcome, d.maps, d.err = feed.Dial(ctx, path, h, fds)
		result <- d
	}()
	return result
}

// TestConversation goes through a proxy's whole life, with as many sockets as the
// largest generation has: more than one sendmsg can carry.
func TestConversation(t *testing.T) {
	_, path, events := serve(t, feed.Options{})
	sockets := memfds(t, 256)
	maps := memfds(t, 6)
	result := dial(path, hello(64, 0, 1, 2, 3), sockets)

	joined := next[feed.Joined](t, events)
	if joined.Peer.PID != os.Getpid() || joined.Peer.UID != os.Geteuid() {
		t.Errorf("peer is process %d of user %d", joined.Peer.PID, joined.Peer.UID)
	}
	if len(joined.FDs) != len(sockets) {
		t.Fatalf("%d sockets arrived, want %d", len(joined.FDs), len(sockets))
	}
	checkMemfds(t, joined.FDs)
	welcome := &feedpb.Welcome{Generation: 3, Epoch: "e1"}
	for i := range maps {
		welcome.Maps = append(welcome.Maps, &feedpb.Map{Name: fmt.Sprint("kg_", i), MaxEntries: uint32(i)})
	}
	joined.Peer.Welcome(welcome, maps)

	d := <-result
	if d.err != nil {
		t.Fatal(d.err)
	}
	if d.welcome.Version != feed.Version || d.welcome.Generation != 3 || d.welcome.Epoch != "e1" {
		t.Errorf("welcome %v", d.welcome)
	}
	if len(d.maps) != len(maps) {
		t.Fatalf("%d maps arrived, want %d", len(d.maps), len(maps))
	}
	checkMemfds(t, d.maps)

	config := &feedpb.Config{Version: 9, Snapshot: true}
	for i := range 20_000 { // about 1 MiB: more than a socket buffer
		config.Hosts = append(config.Hosts, &feedpb.Host{Name: fmt.Sprintf("host-%d.example.com", i), Routes: []*feedpb.Route{{Path: "/", Service: uint32(i)}}})
	}
	joined.Peer.Send(&feedpb.FromAgent{Message: &feedpb.FromAgent_Config{Config: config}})
	m, err := d.client.Receive()
	if err != nil || !proto.Equal(m.GetConfig(), config) {
		t.Fatalf("config did not arrive as sent: %v", err)
	}
	d.client.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Refuse{Refuse: &feedpb.Refuse{Version: 9, Source: "ns/a", Reason: "no"}}})
	if r := next[feed.Refused](t, events); r.Peer != joined.Peer || r.Version != 9 || r.Source != "ns/a" || r.Reason != "no" {
		t.Errorf("refused %+v", r)
	}
	d.client.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Ack{Ack: &feedpb.Ack{Version: 10}}})
	if a := next[feed.Acked](t, events); a.Version != 10 {
		t.Errorf("acked %+v", a)
	}
	joined.Peer.Send(&feedpb.FromAgent{Message: &feedpb.FromAgent_Drain{Drain: &feedpb.Drain{TimeoutMs: 5}}})
	if m, err := d.client.Receive(); err != nil || m.GetDrain().GetTimeoutMs() != 5 {
		t.Errorf("drain: %v, %v", m, err)
	}
	if f := joined.Peer.TakeProcess(); f == nil {
		t.Error("no pidfd")
	} else {
		f.Close()
	}
	d.client.Close()
	if _, err := d.client.Receive(); !errors.Is(err, feed.ErrClosed) {
		t.Errorf("Receive after Close: %v", err)
	}
	if left := next[feed.Left](t, events); left.Err != io.EOF {
		t.Errorf("left: %v", left.Err)
	}
}

func TestResume(t *testing.T) {
	_, path, events := serve(t, feed.Options{})
	h := hello(2, 0, 1)
	h.ResumeGeneration, h.Epoch = 4, "e1"
	result := dial(path, h, nil)
	joined := next[feed.Joined](t, events)
	if len(joined.FDs) != 0 || joined.Hello.ResumeGeneration != 4 || joined.Hello.Epoch != "e1" {
		t.Errorf("joined %+v", joined)
	}
	joined.Peer.Reject("these are other maps: start anew")
	var reject *feed.RejectError
	if d := <-result; !errors.As(d.err, &reject) || reject.Reason != "these are other maps: start anew" {
		t.Errorf("dial: %v", d.err)
	}
	next[feed.Left](t, events)
}

// TestNeighbouringVersions: one version apart must work, also with fields and messages
// that this build does not know; further apart is refused in words.
func TestNeighbouringVersions(t *testing.T) {
	unknown := binary.AppendUvarint(nil, 1000<<3|2) // field 1000, bytes
	unknown = append(binary.AppendUvarint(unknown, 5), "later"...)

	tests := []struct {
		name     string
		min, max uint32
		reject   string
	}{
		{name: "same", min: feed.Version, max: feed.Version},
		{name: "newer proxy", min: feed.Version, max: feed.Version + 1},
		{name: "too new", min: feed.Version + 1, max: feed.Version + 2, reject: "upgrade the older of the two"},
		{name: "too old", min: 0, max: feed.MinVersion - 1, reject: "upgrade the older of the two"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, path, events := serve(t, feed.Options{})
			h := hello(1, 0)
			h.MinVersion, h.MaxVersion = test.min, test.max
			h.ProtoReflect().SetUnknown(unknown)
			if test.max == 0 {
				h.MinVersion = feed.MinVersion // else Dial fills both in
				h.ProtoReflect().SetUnknown(nil)
				rejected(t, path, &feedpb.ToAgent{Message: &feedpb.ToAgent_Hello{Hello: h}}, test.reject)
				return
			}
			result := dial(path, h, memfds(t, 1))
			if test.reject != "" {
				var reject *feed.RejectError
				if d := <-result; !errors.As(d.err, &reject) || !strings.Contains(reject.Reason, test.reject) {
					t.Errorf("dial: %v", d.err)
				}
				return
			}
			joined := next[feed.Joined](t, events)
			checkMemfds(t, joined.FDs)
			w := &feedpb.Welcome{Generation: 1}
			w.ProtoReflect().SetUnknown(unknown)
			joined.Peer.Welcome(w, nil)
			d := <-result
			if d.err != nil || d.welcome.Version != feed.Version {
				t.Fatalf("dial: %v, %v", d.welcome, d.err)
			}
			later := &feedpb.ToAgent{}
			later.ProtoReflect().SetUnknown(unknown)
			d.client.Send(later)
			d.client.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Ack{Ack: &feedpb.Ack{Version: 1}}})
			next[feed.Acked](t, events)
			d.client.Close()
			next[feed.Left](t, events)
		})
	}
}

// rejected sends a first message by hand and expects a Reject.
func rejected(t *testing.T, path string, m *feedpb.ToAgent, want string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, _ := proto.Marshal(m)
	c.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...))
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	all, err := io.ReadAll(c)
	if err != nil || !bytes.Contains(all, []byte(want)) {
		t.Errorf("answer %q, %v; want %q", all, err, want)
	}
}

func TestHelloIsChecked(t *testing.T) {
	_, path, _ := serve(t, feed.Options{})
	for name, test := range map[string]struct {
		change func(*feedpb.Hello)
		want   string
	}{
		"map ABI":              {func(h *feedpb.Hello) { h.MapAbi++ }, "run the proxy of the agent's release"},
		"missing sockets":      {func(h *feedpb.Hello) { h.Workers = 2 }, "2 workers of 1 sockets announced, 1 descriptors passed"},
		"no workers":           {func(h *feedpb.Hello) { h.Workers = 0 }, "0 workers"},
		"resumes with sockets": {func(h *feedpb.Hello) { h.ResumeGeneration = 1 }, "must not pass sockets"},
	} {
		t.Run(name, func(t *testing.T) {
			h := hello(1, 0)
			test.change(h)
			var reject *feed.RejectError
			if d := <-dial(path, h, memfds(t, 1)); !errors.As(d.err, &reject) || !strings.Contains(reject.Reason, test.want) {
				t.Errorf("dial: %v", d.err)
			}
		})
	}
	t.Run("neither hello nor query", func(t *testing.T) {
		rejected(t, path, &feedpb.ToAgent{Message: &feedpb.ToAgent_Ack{Ack: &feedpb.Ack{}}}, "first message")
	})
}

// TestPeerCredentials connects as a user who passes the file mode by his group but is
// neither root nor the proxy's user.
func TestPeerCredentials(t *testing.T) {
	if os.Geteuid() != 0 {
		skip(t, "needs root to become another user")
	}
	dir, err := os.MkdirTemp("", "kgt-feed-") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	exe := filepath.Join(dir, "test")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}

	log := &safeBuffer{}
	const uid, gid = 64101, 64102
	_, path, events := serve(t, feed.Options{
		Path: filepath.Join(dir, "agent.sock"), ProxyUID: uid, ProxyGID: gid,
		Log: zerolog.New(log),
	})
	ask := func(uid, gid uint32) string {
		cmd := exec.Command(exe, "-test.run=^TestAskHelper$", "-test.v")
		cmd.Env = append(os.Environ(), "KGT_ASK="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	go func() {
		for e := range events {
			if asked, ok := e.(feed.Asked); ok {
				asked.Answer(fmt.Appendf(nil, `{"trusted":%v}`, asked.Trusted), nil)
			}
		}
	}()
	if out := ask(uid, gid); !strings.Contains(out, `{"trusted":false}`) {
		t.Errorf("the proxy's user: %s", out)
	}
	if out := ask(0, 0); !strings.Contains(out, `{"trusted":true}`) {
		t.Errorf("root: %s", out)
	}
	if out := ask(uid+5, gid); !strings.Contains(out, "only root and the proxy's user 64101 may") {
		t.Errorf("another user: %s", out)
	}
	if out := ask(uid+5, gid+5); !strings.Contains(out, "permission denied") {
		t.Errorf("another user and group: %s", out)
	}
	if !strings.Contains(log.String(), "user 64106") {
		t.Errorf("the log does not name the user: %s", log)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestAskHelper is the other process of TestPeerCredentials.
func TestAskHelper(t *testing.T) {
	path := os.Getenv("KGT_ASK")
	if path == "" {
		return // not a test of its own
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	answer, err := feed.Ask(ctx, path, "status")
	fmt.Println(string(answer), err)
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("KERNGATE_TEST_NO_SKIP") == "1" {
		t.Fatal("may not skip: " + why)
	}
	t.Skip(why)
}

func TestAsk(t *testing.T) {
	_, path, events := serve(t, feed.Options{})
	go func() {
		for e := range events {
			asked := e.(feed.Asked)
			if asked.What == "status" {
				asked.Answer([]byte(`{"a":1}`), nil)
			} else {
				asked.Answer(nil, fmt.Errorf("no such thing as %q", asked.What))
			}
		}
	}()
	if b, err := feed.Ask(t.Context(), path, "status"); err != nil || string(b) != `{"a":1}` {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := feed.Ask(t.Context(), path, "weather"); err == nil || err.Error() != `no such thing as "weather"` {
		t.Errorf("%v", err)
	}
	if _, err := feed.Ask(t.Context(), path+"x", "status"); err == nil || !strings.Contains(err.Error(), "is kerngate-agent running") {
		t.Errorf("%v", err)
	}
}

// TestOversized: what a peer announces is not believed.
func TestOversized(t *testing.T) {
	_, path, events := serve(t, feed.Options{})
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(binary.AppendUvarint(nil, feed.MaxToAgent+1))
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v; want the connection closed", n, err)
	}
	select {
	case e := <-events:
		t.Errorf("event %+v", e)
	default:
	}
}

// TestHangingProxy: a proxy that does not read is disconnected, and nobody waits for it.
func TestHangingProxy(t *testing.T) {
	_, path, events := serve(t, feed.Options{})
	result := dial(path, hello(1, 0), memfds(t, 1))
	joined := next[feed.Joined](t, events)
	checkMemfds(t, joined.FDs)
	joined.Peer.Welcome(&feedpb.Welcome{Generation: 1}, nil)
	d := <-result
	if d.err != nil {
		t.Fatal(d.err)
	}
	defer d.client.Close()
	big := &feedpb.FromAgent{Message: &feedpb.FromAgent_Config{Config: &feedpb.Config{RemovedHosts: []string{strings.Repeat("x", 1<<20)}}}}
	start := time.Now()
	for range 50 {
		joined.Peer.Send(big)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Send blocked for %v", took)
	}
	next[feed.Left](t, events)
}

// TestTakeOver: an agent that ends does not remove the socket of the one that followed.
func TestTakeOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	old, err := feed.Listen(feed.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- old.Run(ctx) }()
	_, _, events := serve(t, feed.Options{Path: path})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	go func() {
		if asked, ok := (<-events).(feed.Asked); ok {
			asked.Answer([]byte(`"second"`), nil)
		}
	}()
	if b, err := feed.Ask(t.Context(), path, "status"); err != nil || string(b) != `"second"` {
		t.Errorf("%q, %v", b, err)
	}
}

// TestShutdown: Run ends although a peer is connected, and removes its socket.
func TestShutdown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	s, err := feed.Listen(feed.Options{Path: path, MapABI: mapABI})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	result := dial(path, hello(1, 0), memfds(t, 1))
	joined := next[feed.Joined](t, s.Events())
	checkMemfds(t, joined.FDs)
	joined.Peer.Welcome(&feedpb.Welcome{}, nil)
	d := <-result
	if d.err != nil {
		t.Fatal(d.err)
	}
	defer d.client.Close()
	cancel()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Run did not end")
	}
	if _, err := d.client.Receive(); err != io.EOF {
		t.Errorf("Receive: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("socket is left: %v", err)
	}
}

// large returns a configuration of more bytes than one message may have.
func large() *feedpb.Config {
	c := &feedpb.Config{Version: 7, Snapshot: true}
	closed := strings.Repeat("x", 1<<20)
	for i := range feed.MaxFromAgent>>20 + 8 {
		c.Hosts = append(c.Hosts, &feedpb.Host{
			Name:     fmt.Sprintf("%d.example.com", i),
			Policies: []*feedpb.Policy{{Access: &feedpb.Access{Closed: closed}}},
		})
	}
	return c
}

// TestLargeConfiguration: a configuration larger than one message arrives whole, as one.
// A proxy that knows no parts is told why it gets nothing.
func TestLargeConfiguration(t *testing.T) {
	_, path, events := serve(t, feed.Options{})
	sent := large()
	result := dial(path, hello(1, 0), memfds(t, 1))
	joined := next[feed.Joined](t, events)
	checkMemfds(t, joined.FDs)
	joined.Peer.Welcome(&feedpb.Welcome{Generation: 1}, nil)
	d := <-result
	if d.err != nil {
		t.Fatal(d.err)
	}
	joined.Peer.Send(&feedpb.FromAgent{Message: &feedpb.FromAgent_Config{Config: sent}})
	joined.Peer.Send(&feedpb.FromAgent{Message: &feedpb.FromAgent_Serving{Serving: &feedpb.Serving{}}})
	m, err := d.client.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(m.GetConfig(), sent) {
		t.Errorf("%d hosts arrived of %d", len(m.GetConfig().GetHosts()), len(sent.Hosts))
	}
	if m, err = d.client.Receive(); err != nil || m.GetServing() == nil {
		t.Errorf("what followed: %v, %v", m, err)
	}
	d.client.Close()
	next[feed.Left](t, events)

	older := hello(1, 0)
	older.MinVersion, older.MaxVersion = 1, 1
	result = dial(path, older, memfds(t, 1))
	joined = next[feed.Joined](t, events)
	checkMemfds(t, joined.FDs)
	joined.Peer.Welcome(&feedpb.Welcome{Generation: 2}, nil)
	if d = <-result; d.err != nil {
		t.Fatal(d.err)
	}
	joined.Peer.Send(&feedpb.FromAgent{Message: &feedpb.FromAgent_Config{Config: sent}})
	if m, err = d.client.Receive(); err != nil || !strings.Contains(m.GetReject().GetReason(), "run the proxy of the agent's release") {
		t.Errorf("a proxy that knows no parts got %.200v, %v", m, err)
	}
	next[feed.Left](t, events)
	d.client.Close()
}
