package tlsconn_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/io/tlsconn"
)

// serve does a handshake on a coroutine, then runs f.
func serve(t *testing.T, loop *reactor.Loop, fd int, f func(co *reactor.Coroutine, c *reactor.Conn) error) <-chan error {
	config := &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, DynamicRecordSizingDisabled: true}
	result := make(chan error, 1)
	loop.Submit(func() {
		c := new(reactor.Conn)
		if err := loop.Add(c, fd, nil); err != nil {
			result <- err
			return
		}
		loop.Go(&task{t, func(co *reactor.Coroutine) {
			c.Own(co)
			_, err := tlsconn.Server(co, c, config, loop.Now()+int64(10*time.Second))
			if err == nil {
				err = f(co, c)
			}
			c.Close()
			result <- err
		}})
	})
	return result
}

// await reads once, parking until something is there.
func await(co *reactor.Coroutine, c *reactor.Conn, p []byte) (int, error) {
	for {
		n, err := c.TryRead(p)
		if err != reactor.ErrWouldBlock || co.Dying() {
			return n, err
		}
		c.Want(reactor.Readable)
		co.Park()
	}
}

// tap keeps what is read from a connection.
type tap struct {
	net.Conn
	read bytes.Buffer
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Write(p[:n])
	return n, err
}

// TestOneRecord: a head and a small body go out as one record.
func TestOneRecord(t *testing.T) {
	loop := startLoop(t)
	fd, raw := pair(t)
	wire := &tap{Conn: raw}
	result := serve(t, loop, fd, func(co *reactor.Coroutine, c *reactor.Conn) error {
		if _, err := await(co, c, make([]byte, 10)); err != nil {
			return err
		}
		if n, err := c.TryWrite2(bytes.Repeat([]byte("h"), 300), bytes.Repeat([]byte("b"), 3000)); n != 3300 || err != nil {
			return fmt.Errorf("wrote %d: %w", n, err)
		}
		return nil
	})
	client := tls.Client(wire, &tls.Config{InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	wire.read.Reset()
	if _, err := client.Write([]byte("go")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(client); err != nil || len(got) != 3300 {
		t.Fatalf("%d bytes: %v", len(got), err)
	}
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for b := wire.read.Bytes(); len(b) >= 5; {
		n := int(b[3])<<8 | int(b[4])
		sizes, b = append(sizes, n), b[min(len(b), 5+n):]
	}
	large := 0
	for _, n := range sizes {
		if n > 1000 {
			large++
		}
	}
	if large != 1 {
		t.Errorf("records of %v bytes, want all of the message in one", sizes)
	}
}

// TestQuiet: bytes that came together with others are neither overlooked nor lost.
func TestQuiet(t *testing.T) {
	loop := startLoop(t)
	fd, raw := pair(t)
	result := serve(t, loop, fd, func(co *reactor.Coroutine, c *reactor.Conn) error {
		buf := make([]byte, 100)
		n, err := await(co, c, buf)
		if err != nil || string(buf[:n]) != "first" {
			return fmt.Errorf("read %q: %w", buf[:n], err)
		}
		for range 2 { // to look must not use it up
			if c.Quiet() {
				return errors.New("quiet, while a record is there")
			}
		}
		n, err = await(co, c, buf)
		if err != nil || string(buf[:n]) != "second" {
			return fmt.Errorf("read %q: %w", buf[:n], err)
		}
		if !c.Quiet() {
			return errors.New("not quiet, while nothing is there")
		}
		if n, err := c.TryRead(buf); n != 0 || err != reactor.ErrWouldBlock {
			return fmt.Errorf("read %d: %w", n, err)
		}
		_, err = c.TryWrite([]byte("."))
		return err
	})
	both := &joined{Conn: raw}
	client := tls.Client(both, &tls.Config{InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	both.hold = true
	client.Write([]byte("first"))
	client.Write([]byte("second"))
	both.hold = false
	raw.Write(both.held)
	client.Read(make([]byte, 1))
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// joined sends several writes as one.
type joined struct {
	net.Conn
	hold bool
	held []byte
}

func (j *joined) Write(p []byte) (int, error) {
	if j.hold {
		j.held = append(j.held, p...)
		return len(p), nil
	}
	return j.Conn.Write(p)
}

// TestBrokenRecord: a record that was changed on its way ends the session, and the peer is
// told why.
func TestBrokenRecord(t *testing.T) {
	loop := startLoop(t)
	fd, raw := pair(t)
	result := serve(t, loop, fd, func(co *reactor.Coroutine, c *reactor.Conn) error {
		_, err := await(co, c, make([]byte, 100))
		if err == nil {
			return errors.New("a broken record was taken")
		}
		if _, again := c.TryRead(make([]byte, 100)); again == nil || again == reactor.ErrWouldBlock {
			return fmt.Errorf("after %w it goes on", err)
		}
		return nil
	})
	both := &joined{Conn: raw}
	client := tls.Client(both, &tls.Config{InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	both.hold = true
	client.Write([]byte("hello"))
	both.held[len(both.held)-1] ^= 1
	raw.Write(both.held)
	var alert *net.OpError
	if _, err := client.Read(make([]byte, 1)); !errors.As(err, &alert) || alert.Op != "remote error" {
		t.Errorf("the client got %v, want an alert", err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// TestTimeout: a handshake ends at its deadline.
func TestTimeout(t *testing.T) {
	loop := startLoop(t)
	fd, _ := pair(t)
	result := make(chan error, 1)
	loop.Submit(func() {
		c := new(reactor.Conn)
		if err := loop.Add(c, fd, nil); err != nil {
			result <- err
			return
		}
		loop.Go(&task{t, func(co *reactor.Coroutine) {
			c.Own(co)
			var timer reactor.Timer
			timer.Init(co.Wake)
			loop.Set(&timer, 50*time.Millisecond)
			_, err := tlsconn.Server(co, c, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}, loop.Now()+int64(50*time.Millisecond))
			c.Close()
			result <- err
		}})
	})
	if err := <-result; err != tlsconn.ErrTimeout {
		t.Errorf("got %v, want %v", err, tlsconn.ErrTimeout)
	}
}
