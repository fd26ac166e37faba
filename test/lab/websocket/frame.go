// Package websocket reads and writes WebSocket frames (RFC 6455), as far as the lab's pods
// and clients need them.
package websocket

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Opcodes of RFC 6455 section 5.2.
const (
	Text   = 1
	Binary = 2
	Close  = 8
	Ping   = 9
)

const maxPayload = 16 << 20

// Accept is the Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (section 4.2.2).
func Accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Frame is an unfragmented message or a control frame.
type Frame struct {
	Opcode  byte
	Mask    []byte // 4 bytes from a client, nil from a server
	Payload []byte // unmasked
}

// Append appends the frame's wire form to b.
func (f Frame) Append(b []byte) []byte {
	b = append(b, 0x80|f.Opcode)
	masked := byte(0)
	if f.Mask != nil {
		masked = 0x80
	}
	switch n := len(f.Payload); {
	case n < 126:
		b = append(b, masked|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
	}
	b = append(b, f.Mask...)
	start := len(b)
	b = append(b, f.Payload...)
	mask(b[start:], f.Mask)
	return b
}

func mask(payload, key []byte) {
	if key == nil {
		return
	}
	for i := range payload {
		payload[i] ^= key[i%4]
	}
}

// Read reads one frame.
func Read(r io.Reader) (Frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Opcode: head[0] & 0x0f}
	length := uint64(head[1] & 0x7f)
	var long [8]byte
	switch length {
	case 126:
		if _, err := io.ReadFull(r, long[6:]); err != nil {
			return f, err
		}
		length = binary.BigEndian.Uint64(long[:])
	case 127:
		if _, err := io.ReadFull(r, long[:]); err != nil {
			return f, err
		}
		length = binary.BigEndian.Uint64(long[:])
	}
	if length > maxPayload {
		return f, fmt.Errorf("a WebSocket frame of %d bytes is too long", length)
	}
	if head[1]&0x80 != 0 {
		f.Mask = make([]byte, 4)
		if _, err := io.ReadFull(r, f.Mask); err != nil {
			return f, err
		}
	}
	f.Payload = make([]byte, length)
	_, err := io.ReadFull(r, f.Payload)
	mask(f.Payload, f.Mask)
	return f, err
}

// Client is the client's end of a WebSocket.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
	key  uint32
}

// Open asks for a WebSocket on a fresh connection. If it is refused, the error holds the
// status, and the connection is closed.
func Open(conn net.Conn, host, path string) (*Client, error) {
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", path, host, key)
	if err != nil {
		conn.Close()
		return nil, err
	}
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("read the answer to a WebSocket request: %w", err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, fmt.Errorf("WebSocket refused with status %d", response.StatusCode)
	}
	if got := response.Header.Get("Sec-WebSocket-Accept"); got != Accept(key) {
		conn.Close()
		return nil, fmt.Errorf("wrong Sec-WebSocket-Accept %q", got)
	}
	_ = conn.SetDeadline(time.Time{})
	return &Client{conn: conn, in: in}, nil
}

// CloseError is a close frame in place of an answer.
type CloseError struct {
	Code uint16 // RFC 6455 section 7.4; 0: none was given
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("the WebSocket was closed with code %d", e.Code)
}

// Echo sends a message and returns an error unless the same comes back in time: a
// *CloseError if the other side says good-bye.
func (c *Client) Echo(message []byte, limit time.Duration) error {
	_ = c.conn.SetDeadline(time.Now().Add(limit))
	c.key += 0x9e3779b9
	f := Frame{Opcode: Binary, Mask: binary.BigEndian.AppendUint32(nil, c.key), Payload: message}
	if _, err := c.conn.Write(f.Append(nil)); err != nil {
		return err
	}
	got, err := Read(c.in)
	if err != nil {
		return err
	}
	if got.Opcode == Close {
		e := new(CloseError)
		if len(got.Payload) >= 2 {
			e.Code = binary.BigEndian.Uint16(got.Payload)
		}
		return e
	}
	if got.Opcode != Binary || string(got.Payload) != string(message) {
		return fmt.Errorf("echo of %d bytes came back as opcode %d with %d bytes", len(message), got.Opcode, len(got.Payload))
	}
	return nil
}

// Close says good-bye, waits a moment for the answer, and closes the connection.
func (c *Client) Close() error {
	_ = c.conn.SetDeadline(time.Now().Add(time.Second))
	f := Frame{Opcode: Close, Mask: []byte{1, 2, 3, 4}, Payload: []byte{0x03, 0xe8}} // 1000: normal
	if _, err := c.conn.Write(f.Append(nil)); err == nil {
		_, _ = Read(c.in)
	}
	return c.conn.Close()
}
