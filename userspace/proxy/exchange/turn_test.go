package exchange

import (
	"io"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// endless is a pod whose response is always there.
type endless struct {
	Upstream
	left  int
	piece []byte
}

func (e *endless) Source() (*reactor.Conn, int64) { return nil, 0 }
func (e *endless) Trailers() []http1.Field        { return nil }
func (e *endless) Finish()                        {}
func (e *endless) ReadBody() ([]byte, error) {
	n := min(e.left, len(e.piece))
	if e.left -= n; e.left == 0 {
		return e.piece[:n], io.EOF
	}
	return e.piece[:n], nil
}

// taker is a client who takes everything at once.
type taker struct {
	Downstream
	taken int
}

func (d *taker) Pending() bool      { return false }
func (d *taker) Blocked() bool      { return false }
func (d *taker) Flush() error       { return nil }
func (d *taker) WriteBody(p []byte) { d.taken += len(p) }
func (d *taker) End([]http1.Field)  {}

// TestResponsesTakeTurns: however fast pod and client are, others have their turn.
func TestResponsesTakeTurns(t *testing.T) {
	loop, err := reactor.New(reactor.Stats{})
	if err != nil {
		t.Fatal(err)
	}
	const size = 10 << 20
	down := &taker{}
	turns, largest := 0, 0
	x := &Exchange{worker: &Worker{Loop: loop}, Request: new(http1.Request), down: down, phase: passBody, reqDone: true,
		up: &endless{left: size, piece: make([]byte, 16<<10)}}
	x.goOn = func() {
		before := down.taken
		_, reason, ok := x.moveResponse()
		turns++
		largest = max(largest, down.taken-before)
		switch {
		case !ok:
			t.Errorf("it ended by %v", reason)
			loop.Stop()
		case x.phase == finished:
			loop.Stop()
		}
	}
	loop.Submit(x.goOn)
	if err := loop.Run(); err != nil {
		t.Fatal(err)
	}
	if down.taken != size || turns < size/turnQuantum || largest > turnQuantum+16<<10 {
		t.Errorf("%d bytes in %d turns, at most %d in one", down.taken, turns, largest)
	}
}
