package http3_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// wire is a client's connection whose frames the test writes and reads itself: it sees what a
// client sees before its library has made something of it.
type wire struct {
	t    testing.TB
	conn *quic.Conn
}

func (s *site) dial(t testing.TB) *wire {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}
	c, err := quic.DialAddr(ctx, strings.TrimPrefix(s.url, "https://"), config, &quic.Config{MaxIncomingUniStreams: 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseWithError(0x100, "") })
	control, err := c.OpenUniStream()
	if err == nil {
		_, err = control.Write([]byte{0, 4, 0}) // a control stream, with SETTINGS that set nothing
	}
	if err != nil {
		t.Fatal(err)
	}
	return &wire{t, c}
}

// call is one request, whose body is yet to be written.
type call struct {
	*quic.Stream
	t testing.TB
}

func frame(kind uint64, payload []byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload))), payload...)
}

const (
	dataFrame    = 0
	headersFrame = 1
)

// ask sends a request's head.
func (w *wire) ask(method, host, path string, fields ...string) *call {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := w.conn.OpenStreamSync(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := s.Write(w.head(method, host, path, fields...)); err != nil {
		w.t.Fatal(err)
	}
	return &call{s, w.t}
}

// head makes a request's HEADERS frame.
func (w *wire) head(method, host, path string, fields ...string) []byte {
	var block bytes.Buffer
	e := qpack.NewEncoder(&block)
	fields = append([]string{":method", method, ":scheme", "https", ":authority", host, ":path", path}, fields...)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(qpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return frame(headersFrame, block.Bytes())
}

// body writes a piece of the request's body.
func (x *call) body(p []byte) error {
	_, err := x.Write(frame(dataFrame, p))
	return err
}

// wireMessage is what has come of a response.
type wireMessage struct {
	heads [][]qpack.HeaderField // interim ones, the final one, trailers
	body  []byte
}

func (m *wireMessage) field(head int, name string) string {
	if head >= len(m.heads) {
		return ""
	}
	for _, f := range m.heads[head] {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// status returns the final one.
func (m *wireMessage) status() string {
	status := ""
	for i := range m.heads {
		if s := m.field(i, ":status"); s != "" {
			status = s
		}
	}
	return status
}

// read reads the response up to the end of the stream, which is the error if it is not nil.
func (x *call) read() (m wireMessage, err error) {
	in := quicvarint.NewReader(x.Stream)
	for {
		kind, err := quicvarint.Read(in)
		if err == io.EOF {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		n, err := quicvarint.Read(in)
		if err != nil {
			return m, errors.Join(errors.New("the stream ends in a frame's head"), err)
		}
		p := make([]byte, n)
		if got, err := io.ReadFull(x.Stream, p); err != nil {
			if kind == dataFrame {
				m.body = append(m.body, p[:got]...)
			}
			return m, fmt.Errorf("the stream ends after %d of a frame's %d bytes: %w", got, n, err)
		}
		switch kind {
		case dataFrame:
			m.body = append(m.body, p...)
		case headersFrame:
			var head []qpack.HeaderField
			for next := qpack.NewDecoder().Decode(p); ; {
				f, err := next()
				if err == io.EOF {
					break
				}
				if err != nil {
					return m, err
				}
				head = append(head, f)
			}
			m.heads = append(m.heads, head)
		}
	}
}

// resetBy returns the code of a reset by the proxy, 0 if err is something else.
func resetBy(err error) uint64 {
	var e *quic.StreamError
	if errors.As(err, &e) && e.Remote {
		return uint64(e.ErrorCode)
	}
	return 0
}
