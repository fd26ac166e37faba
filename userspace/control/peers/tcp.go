package peers

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// answer is what came of an attempt. The greater tells more.
type answer uint8

const (
	unknown  answer = iota // this node could not ask
	missed                 // nothing came in time
	answered               // the node's kernel did, whatever it said
	serves                 // its agent did, and does not drain any more
	drains                 // its agent did, and drains
)

func (a answer) String() string {
	switch a {
	case missed:
		return "missed"
	case answered, serves, drains:
		return "answered"
	}
	return "unknown"
}

// What the agent of a node that drains, or has drained, says to who connects.
const (
	draining = "kerngate: draining\n"
	serving  = "kerngate: serving \n" // as long
)

// askTCP connects, and listens to what is said.
func askTCP(ctx context.Context, to netip.AddrPort) answer {
	var dialer net.Dialer
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialContext(ctx, "tcp", to.String())
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return answered
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return missed
	case err != nil:
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return missed
		}
		return unknown
	}
	defer conn.Close()
	// Reset, so that neither end keeps the connection for a minute.
	_ = conn.(*net.TCPConn).SetLinger(0)
	deadline, _ := ctx.Deadline()
	_ = conn.SetReadDeadline(deadline)
	said := make([]byte, len(draining))
	if _, err := io.ReadFull(conn, said); err != nil {
		return answered
	}
	switch string(said) {
	case draining:
		return drains
	case serving:
		return serves
	}
	return answered
}

// listener tells whoever connects.
type listener struct {
	net.Listener
	draining atomic.Bool
	work     sync.WaitGroup
}

// atOnce bounds the connections that are served at a time; others wait.
const atOnce = 64

func listen(at netip.AddrPort) (*listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	in, err := config.Listen(context.Background(), "tcp", at.String())
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: in}
	l.work.Go(func() { // until close
		places := make(chan struct{}, atOnce)
		for {
			conn, err := in.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			} else if err != nil {
				time.Sleep(10 * time.Millisecond) // no descriptors, say
				continue
			}
			places <- struct{}{}
			l.work.Go(func() {
				defer func() { <-places }()
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				word := serving
				if l.draining.Load() {
					word = draining
				}
				if _, err := io.WriteString(conn, word); err == nil {
					_, _ = conn.Read(make([]byte, 1)) // who asks ends it
				}
			})
		}
	})
	return l, nil
}

// close waits for those that are being told.
func (l *listener) close() {
	l.Close()
	l.work.Wait()
}
