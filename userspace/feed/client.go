package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// Client is a proxy's side of the conversation. Receive may be called while Send is;
// each of them by one goroutine at a time.
type Client struct {
	conn  *conn
	send  sync.Mutex
	parts assembly

	listeners []int // that came with the last message
}

// Dial introduces a proxy to the agent at path. hello's versions are filled in unless
// they are set; fds are its listening sockets in the order that hello.Sockets says, and
// stay the caller's. The descriptors returned are the maps of Welcome.Maps in the same
// order, and become the caller's; a proxy that resumes gets none.
//
// A *RejectError says that trying again in the same way is of no use.
func Dial(ctx context.Context, path string, hello *feedpb.Hello, fds []int) (*Client, *feedpb.Welcome, []int, error) {
	if hello.MaxVersion == 0 {
		hello.MinVersion, hello.MaxVersion = MinVersion, Version
	}
	c, err := dial(ctx, path)
	if err != nil {
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.unix.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	welcome, err := c.greet(hello, fds)
	if err == nil && len(c.fds) != len(welcome.Maps) {
		err = fmt.Errorf("agent announced %d maps but passed %d descriptors", len(welcome.Maps), len(c.fds))
	}
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.close()
		return nil, nil, nil, fmt.Errorf("feed %s: %w", path, err)
	}
	c.unix.SetDeadline(time.Time{})
	return &Client{conn: c}, welcome, c.takeFDs(), nil
}

// Receive waits for the agent's next message. A configuration in parts is one message
// here. With Inherit come descriptors: see TakeListeners. io.EOF means that the agent is gone.
func (c *Client) Receive() (*feedpb.FromAgent, error) {
	for {
		m := &feedpb.FromAgent{}
		n, err := c.conn.read(m)
		if err != nil {
			return nil, clientError(err)
		}
		if _, ok := m.Message.(*feedpb.FromAgent_Inherit); ok {
			closeFDs(c.listeners)
			c.listeners = c.conn.takeFDs()
			return m, nil
		}
		if c.conn.stray() {
			closeFDs(c.conn.takeFDs())
			return nil, errors.New("feed: descriptors outside Welcome and Inherit")
		}
		part, ok := m.Message.(*feedpb.FromAgent_Config)
		if !ok {
			return m, nil
		}
		if part.Config, err = c.parts.add(part.Config, n); err != nil {
			return nil, clientError(err)
		}
		if part.Config != nil {
			return m, nil
		}
	}
}

// TakeListeners hands over the sockets that came with the Inherit just received.
func (c *Client) TakeListeners() []int {
	fds := c.listeners
	c.listeners = nil
	return fds
}

// Send sends a message to the agent, Listeners with descriptors, which stay the caller's.
func (c *Client) Send(m *feedpb.ToAgent, fds ...int) error {
	c.send.Lock()
	defer c.send.Unlock()
	c.conn.unix.SetWriteDeadline(time.Now().Add(writeTimeout))
	return clientError(c.conn.write(m, fds))
}

// Close ends the conversation; a Receive that waits returns ErrClosed.
func (c *Client) Close() error { return c.conn.unix.Close() }

// Ask sends one question to the agent and returns its answer as JSON.
func Ask(ctx context.Context, path, what string) ([]byte, error) {
	c, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	defer c.close()
	defer context.AfterFunc(ctx, func() { c.unix.SetDeadline(time.Unix(1, 0)) })()

	m := &feedpb.FromAgent{}
	query := &feedpb.ToAgent{Message: &feedpb.ToAgent_Query{Query: &feedpb.Query{What: what}}}
	if err := c.exchange(query, nil, m); err != nil {
		return nil, fmt.Errorf("feed %s: %w", path, err)
	}
	answer := m.GetAnswer()
	switch {
	case answer == nil:
		return nil, fmt.Errorf("feed %s: unexpected answer %T", path, m.Message)
	case answer.Error != "":
		return nil, errors.New(answer.Error)
	}
	return answer.Json, nil
}

func dial(ctx context.Context, path string) (*conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("feed: is kerngate-agent running with --socket %s? %w", path, err)
	}
	c.SetDeadline(time.Now().Add(2 * handshakeTimeout))
	return newConn(c.(*net.UnixConn), MaxFromAgent), nil
}

func (c *conn) greet(hello *feedpb.Hello, fds []int) (*feedpb.Welcome, error) {
	m := &feedpb.FromAgent{}
	err := c.exchange(&feedpb.ToAgent{Message: &feedpb.ToAgent_Hello{Hello: hello}}, fds, m)
	if err != nil {
		return nil, err
	}
	if m.GetWelcome() == nil {
		return nil, fmt.Errorf("unexpected answer %T to Hello", m.Message)
	}
	return m.GetWelcome(), nil
}

// exchange sends a first message and reads the first answer. An agent that rejects a
// peer for what it is does not wait for the message, so a failed write is only reported
// when no Reject can be read.
func (c *conn) exchange(request *feedpb.ToAgent, fds []int, answer *feedpb.FromAgent) error {
	writeErr := c.write(request, fds)
	if _, err := c.read(answer); err != nil {
		if writeErr != nil {
			err = writeErr
		}
		if err == io.EOF {
			return errors.New("agent closed the connection without an answer")
		}
		return err
	}
	if reject := answer.GetReject(); reject != nil {
		return &RejectError{Reason: reject.Reason}
	}
	return writeErr
}

func clientError(err error) error {
	switch {
	case err == nil, err == io.EOF:
		return err
	case errors.Is(err, net.ErrClosed):
		return ErrClosed
	}
	return fmt.Errorf("feed: %w", err)
}
