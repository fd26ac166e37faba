package feed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// maxPeers bounds the conversations at once: a few proxy generations and some kerngatectl.
const maxPeers = 64

// Options of a Server.
type Options struct {
	Path     string // of the socket; its folder is made if it is missing
	ProxyUID int    // the user that, beside root and the agent's own, may connect
	ProxyGID int    // the group that owns the socket
	MapABI   uint32 // proxies built for other maps are turned away
	Log      zerolog.Logger
}

// Server is the agent's side: it accepts peers, checks who they are, and turns what they
// say into Events for one goroutine to handle.
type Server struct {
	options  Options
	listener *net.UnixListener
	inode    uint64
	events   chan Event

	mu    sync.Mutex
	peers map[*Peer]struct{}
}

// Event is one of Joined, Acked, Refused, Passed, Leaves, Left, Asked.
type Event interface{ event() }

// Joined: a proxy has introduced itself. Its receiver owns FDs, and answers with
// Peer.Welcome or Peer.Reject.
type Joined struct {
	Peer  *Peer
	Hello *feedpb.Hello
	FDs   []int
}

// Acked: a proxy has applied a Config.
type Acked struct {
	Peer    *Peer
	Version uint64
}

// Refused: a proxy has not applied a Config.
type Refused struct {
	Peer    *Peer
	Version uint64
	// SourceKind and Source name the object that is to blame, as the feed does.
	SourceKind, Source string
	Reason             string
}

// Passed: a proxy passes its listening sockets for the agent to keep. Its receiver owns FDs.
type Passed struct {
	Peer *Peer
	FDs  []int
}

// Leaves: a proxy drains for a reason of its own.
type Leaves struct{ Peer *Peer }

// Left: a proxy that had Joined is no longer connected; its process may live.
type Left struct {
	Peer *Peer
	Err  error
}

// Asked: kerngatectl wants to know something. Answer may be called once, from any goroutine.
type Asked struct {
	What string
	// Trusted: root or the agent's own user asks, and not the proxy's, which faces the clients.
	Trusted bool
	Answer  func(json []byte, err error)
}

func (Joined) event()  {}
func (Acked) event()   {}
func (Refused) event() {}
func (Passed) event()  {}
func (Leaves) event()  {}
func (Left) event()    {}
func (Asked) event()   {}

// Listen makes the socket. It takes the place of an older agent's at once, by a rename,
// so that a connecting proxy always finds one. Only root and the proxy's group can
// connect (mode 0660); who does is checked again by SO_PEERCRED.
func Listen(options Options) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(options.Path), 0o755); err != nil {
		return nil, fmt.Errorf("folder of the agent's socket: %w", err)
	}
	temporary := fmt.Sprintf("%s.%d", options.Path, os.Getpid())
	os.Remove(temporary)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("agent's socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	s := &Server{options: options, listener: l, events: make(chan Event), peers: map[*Peer]struct{}{}}
	if err := s.publish(temporary); err != nil {
		l.Close()
		os.Remove(temporary)
		return nil, fmt.Errorf("agent's socket: %w", err)
	}
	return s, nil
}

func (s *Server) publish(temporary string) error {
	if err := os.Chmod(temporary, 0o660); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(temporary, 0, s.options.ProxyGID); err != nil {
			return err
		}
	}
	inode, err := inodeOf(temporary)
	if err != nil {
		return err
	}
	s.inode = inode
	return os.Rename(temporary, s.options.Path)
}

// Events is where Run delivers. Whoever reads it must do so until Run has returned.
func (s *Server) Events() <-chan Event { return s.events }

// Run accepts peers until ctx ends, then disconnects them, removes the socket unless
// another agent has taken its place, and waits for its goroutines.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if inode, err := inodeOf(s.options.Path); err == nil && inode == s.inode {
			os.Remove(s.options.Path)
		}
		s.listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for p := range s.peers {
			p.Close()
		}
	})()

	for {
		c, err := s.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
				s.options.Log.Error().Err(err).Msg("agent's socket: raise the limit of open files")
				time.Sleep(100 * time.Millisecond)
				continue
			}
			return fmt.Errorf("agent's socket: %w", err)
		}
		p, err := s.admit(ctx, c)
		if err != nil {
			s.options.Log.Warn().Err(err).Msg("connection to the agent's socket refused")
			continue
		}
		running.Go(func() {
			defer s.forget(p)
			s.serve(ctx, p)
		})
	}
}

// admit decides by what the kernel says of the peer whether it is listened to at all.
func (s *Server) admit(ctx context.Context, c *net.UnixConn) (*Peer, error) {
	p, err := newPeer(c)
	if err != nil {
		c.Close()
		return nil, err
	}
	if allowed := []int{0, os.Geteuid(), s.options.ProxyUID}; !slices.Contains(allowed, p.UID) {
		err = fmt.Errorf("user %d (process %d) may not connect: only root and the proxy's user %d may", p.UID, p.PID, s.options.ProxyUID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
	case len(s.peers) >= maxPeers:
		err = fmt.Errorf("more than %d connections at once", maxPeers)
	case ctx.Err() != nil:
		err = ErrClosed
	}
	if err != nil {
		c.SetWriteDeadline(time.Now().Add(time.Second))
		p.conn.write(rejectMessage(err.Error()), nil)
		p.release()
		return nil, err
	}
	s.peers[p] = struct{}{}
	return p, nil
}

func (s *Server) forget(p *Peer) {
	p.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

// serve reads one peer's messages until the conversation ends.
func (s *Server) serve(ctx context.Context, p *Peer) {
	first := &feedpb.ToAgent{}
	p.conn.unix.SetReadDeadline(time.Now().Add(handshakeTimeout))
	if _, err := p.conn.read(first); err != nil {
		s.options.Log.Debug().Err(err).Int("peer_pid", p.PID).Msg("no introduction on the agent's socket")
		return
	}
	p.conn.unix.SetReadDeadline(time.Time{})

	switch m := first.Message.(type) {
	case *feedpb.ToAgent_Query:
		s.answer(ctx, p, m.Query)
	case *feedpb.ToAgent_Hello:
		version, err := s.check(m.Hello, len(p.conn.fds))
		if err != nil {
			s.options.Log.Warn().Err(err).Int("peer_pid", p.PID).Msg("proxy refused")
			p.conn.write(rejectMessage(err.Error()), nil)
			return
		}
		p.version = version
		s.converse(ctx, p, m.Hello)
	default:
		p.conn.write(rejectMessage("the first message must be Hello or Query"), nil)
	}
}

func (s *Server) check(hello *feedpb.Hello, descriptors int) (uint32, error) {
	version, err := negotiate(hello)
	if err != nil {
		return 0, err
	}
	if hello.MapAbi != s.options.MapABI {
		return 0, fmt.Errorf("the proxy (build %q) reads maps of ABI %d, the agent writes ABI %d: run the proxy of the agent's release",
			hello.Build, hello.MapAbi, s.options.MapABI)
	}
	if hello.ResumeGeneration != 0 {
		if descriptors != 0 {
			return 0, errors.New("a proxy that resumes must not pass sockets")
		}
		return version, nil
	}
	if want := uint64(hello.Workers) * uint64(len(hello.Sockets)); want == 0 || want != uint64(descriptors) {
		return 0, fmt.Errorf("%d workers of %d sockets announced, %d descriptors passed", hello.Workers, len(hello.Sockets), descriptors)
	}
	return version, nil
}

// converse delivers a proxy's messages as events until it leaves.
func (s *Server) converse(ctx context.Context, p *Peer, hello *feedpb.Hello) {
	fds := p.conn.takeFDs()
	if !s.deliver(ctx, Joined{Peer: p, Hello: hello, FDs: fds}) {
		closeFDs(fds)
		return
	}
	var writing sync.WaitGroup
	writing.Go(func() { p.write(ctx) })
	err := s.receive(ctx, p)
	p.Close()
	writing.Wait()
	s.deliver(ctx, Left{Peer: p, Err: err})
}

func (s *Server) receive(ctx context.Context, p *Peer) error {
	for {
		m := &feedpb.ToAgent{}
		if _, err := p.conn.read(m); err != nil {
			return err
		}
		if _, ok := m.Message.(*feedpb.ToAgent_Listeners); ok {
			fds := p.conn.takeFDs()
			if !s.deliver(ctx, Passed{Peer: p, FDs: fds}) {
				closeFDs(fds)
			}
			continue
		}
		if p.conn.stray() {
			return errors.New("descriptors outside Hello and Listeners")
		}
		switch m := m.Message.(type) {
		case *feedpb.ToAgent_Ack:
			s.deliver(ctx, Acked{Peer: p, Version: m.Ack.Version})
		case *feedpb.ToAgent_Refuse:
			s.deliver(ctx, Refused{Peer: p, Version: m.Refuse.Version, SourceKind: m.Refuse.SourceKind, Source: m.Refuse.Source, Reason: m.Refuse.Reason})
		case *feedpb.ToAgent_Leaving:
			s.deliver(ctx, Leaves{Peer: p})
		default: // of a later version: ignored
		}
	}
}

// answer waits for the one answer to a query; its conversation ends with it.
func (s *Server) answer(ctx context.Context, p *Peer, query *feedpb.Query) {
	answers := make(chan *feedpb.Answer, 1)
	asked := Asked{What: query.What, Trusted: p.UID == 0 || p.UID == os.Geteuid(), Answer: func(json []byte, err error) {
		a := &feedpb.Answer{Json: json}
		if err != nil {
			a = &feedpb.Answer{Error: err.Error()}
		}
		answers <- a
	}}
	if !s.deliver(ctx, asked) {
		return
	}
	select {
	case a := <-answers:
		p.conn.unix.SetWriteDeadline(time.Now().Add(writeTimeout))
		p.conn.write(&feedpb.FromAgent{Message: &feedpb.FromAgent_Answer{Answer: a}}, nil)
	case <-ctx.Done():
	case <-time.After(writeTimeout):
	}
}

func (s *Server) deliver(ctx context.Context, e Event) bool {
	select {
	case s.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

func rejectMessage(reason string) *feedpb.FromAgent {
	return &feedpb.FromAgent{Message: &feedpb.FromAgent_Reject{Reject: &feedpb.Reject{Reason: reason}}}
}

func inodeOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return st.Ino, nil
}
