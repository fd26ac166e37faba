package feed

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// outboxSize is how many messages may wait for a proxy. The agent sends a Config only
// after the previous one was answered, so a full outbox means a proxy that hangs.
const outboxSize = 8

// Peer is a connected proxy as the agent sees it. Its methods may be called from any
// goroutine and never block.
type Peer struct {
	PID, UID int // by SO_PEERCRED; PID is 0 if the peer lives in a PID namespace that the agent cannot see

	conn    *conn
	version uint32

	mu       sync.Mutex
	process  *os.File // pidfd, nil if the kernel gave none or it was taken
	released bool     // nothing is sent any more

	once   sync.Once
	closed chan struct{}
	outbox chan outgoing
}

type outgoing struct {
	message *feedpb.FromAgent
	fds     []int
	owned   bool // fds are closed once they are written, or cannot be
	last    bool // close after it
}

func newPeer(c *net.UnixConn) (*Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &Peer{
		conn:   newConn(c, MaxToAgent),
		closed: make(chan struct{}),
		outbox: make(chan outgoing, outboxSize),
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		if cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr != nil {
			return
		}
		p.PID, p.UID = int(cred.Pid), int(cred.Uid)
		p.process = pidfdOf(int(fd), p.PID)
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return nil, fmt.Errorf("who is at the agent's socket: %w", err)
	}
	return p, nil
}

// pidfdOf returns the peer's pidfd. Linux 6.5 ties it to the socket; before that it is
// opened by number, which names another process if the peer has already ended and its
// number is in use again: a generation would then be kept until that process ends.
func pidfdOf(socket, pid int) *os.File {
	const soPeerPidfd = 77
	fd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, soPeerPidfd)
	if err != nil && pid > 0 {
		fd, err = unix.PidfdOpen(pid, 0)
	}
	if err != nil {
		return nil
	}
	unix.CloseOnExec(fd)
	unix.SetNonblock(fd, true) // so that Go's poller waits for it
	return os.NewFile(uintptr(fd), "pidfd")
}

// TakeProcess hands over the peer's pidfd, which becomes readable when the process has
// ended. It is nil if there is none, or if it was taken before.
func (p *Peer) TakeProcess() *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.process
	p.process = nil
	return f
}

// Version is the version of the conversation that both sides speak.
func (p *Peer) Version() uint32 { return p.version }

// Welcome answers Joined. The descriptors stay the caller's and must be open until the
// peer has left. w.Version is filled in.
func (p *Peer) Welcome(w *feedpb.Welcome, fds []int) {
	w.Version = p.version
	p.enqueue(outgoing{message: &feedpb.FromAgent{Message: &feedpb.FromAgent_Welcome{Welcome: w}}, fds: fds})
}

// Reject answers Joined, or ends the conversation later, with a reason that says what to do.
func (p *Peer) Reject(reason string) {
	p.enqueue(outgoing{message: rejectMessage(reason), last: true})
}

// Send sends a message; a large configuration goes in parts. A peer that does not read is
// disconnected.
func (p *Peer) Send(m *feedpb.FromAgent) { p.enqueue(outgoing{message: m}) }

// Bequeath passes listening sockets to a proxy that knows what to do with them, and closes them.
func (p *Peer) Bequeath(fds []int) {
	if p.version < ListenersVersion {
		closeFDs(fds)
		return
	}
	p.mu.Lock() // or they would be left in the outbox of one that has just gone
	defer p.mu.Unlock()
	if p.released {
		closeFDs(fds)
		return
	}
	p.enqueue(outgoing{message: &feedpb.FromAgent{Message: &feedpb.FromAgent_Inherit{Inherit: &feedpb.Inherit{}}}, fds: fds, owned: true})
}

func (p *Peer) enqueue(o outgoing) {
	select {
	case p.outbox <- o:
	default:
		o.done()
		p.Close()
	}
}

// done closes the descriptors that were to be sent and are the peer's own.
func (o *outgoing) done() {
	if o.owned {
		closeFDs(o.fds)
	}
}

// Close ends the conversation. The event Left follows.
func (p *Peer) Close() {
	p.once.Do(func() {
		close(p.closed)
		p.conn.unix.Close()
	})
}

// release closes what the peer holds once its goroutines have ended.
func (p *Peer) release() {
	p.Close()
	p.mu.Lock()
	p.released = true
	for len(p.outbox) > 0 {
		o := <-p.outbox
		o.done()
	}
	p.mu.Unlock()
	p.conn.close()
	if process := p.TakeProcess(); process != nil {
		process.Close()
	}
}

func (p *Peer) write(ctx context.Context) {
	defer p.Close()
	for {
		select {
		case o := <-p.outbox:
			if p.writeMessage(o) != nil {
				return
			}
		case <-p.closed:
			return
		case <-ctx.Done():
			return
		}
	}
}

// writeMessage returns ErrClosed after the last message of a conversation. It writes one
// message, or the parts of a configuration. A proxy that does not
// know parts and cannot take the whole is told so: its configuration would never change again.
func (p *Peer) writeMessage(o outgoing) error {
	defer o.done()
	messages := []*feedpb.FromAgent{o.message}
	if config := o.message.GetConfig(); config != nil {
		if p.version >= partsVersion {
			messages = messages[:0]
			for _, part := range split(config, partSize) {
				messages = append(messages, &feedpb.FromAgent{Message: &feedpb.FromAgent_Config{Config: part}})
			}
		} else if size := proto.Size(o.message); size > MaxFromAgent {
			messages[0] = rejectMessage(fmt.Sprintf("the configuration has %d bytes, more than the %d that a proxy of this version takes: run the proxy of the agent's release", size, MaxFromAgent))
			o.last = true
		}
	}
	for _, m := range messages {
		p.conn.unix.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err := p.conn.write(m, o.fds); err != nil {
			return err
		}
	}
	if o.last {
		return ErrClosed
	}
	return nil
}
