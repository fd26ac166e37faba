package exchange

import (
	"io"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// endless is a pod whose response is always there.
type endless struct {
	Upstream
	left  int
	piece []byte
}

func (e *endless) Source() (*reactor.Conn, int64) { return nil, 0 }
func (e *endless) Trailers() []message.Field      { return nil }
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

func (d *taker) Pending() bool       { return false }
func (d *taker) Blocked() bool       { return false }
func (d *taker) Flush() error        { return nil }
func (d *taker) WriteBody(p []byte)  { d.taken += len(p) }
func (d *taker) End([]message.Field) {}

// inTurns has move called once in each turn of a loop until done, and returns in how many turns
// it was, and how much of taken it moved in one at most.
func inTurns(t *testing.T, x *Exchange, taken *int, move func() (Reason, bool), done func() bool) (turns, largest int) {
	t.Helper()
	loop := x.worker.Loop
	x.alarm.wake = func() {
		x.turns.request.Woken()
		x.turns.response.Woken()
		before := *taken
		reason, ok := move()
		turns++
		largest = max(largest, *taken-before)
		if !ok {
			t.Errorf("it ended by %v", reason)
		}
		if !ok || done() {
			loop.Stop()
		}
	}
	loop.Submit(x.alarm.wake)
	if err := loop.Run(); err != nil {
		t.Fatal(err)
	}
	return turns, largest
}

const turnPiece, turnSize = 16 << 10, 10 << 20

// TestResponsesTakeTurns: however fast pod and client are, others have their turn.
func TestResponsesTakeTurns(t *testing.T) {
	loop, err := reactor.New(reactor.Stats{})
	if err != nil {
		t.Fatal(err)
	}
	down := &taker{}
	x := &Exchange{worker: &Worker{Loop: loop}, Request: new(message.Request), down: down,
		attempt: attempt{phase: passBody, sent: true, up: &endless{left: turnSize, piece: make([]byte, turnPiece)}}}
	turns, largest := inTurns(t, x, &down.taken, func() (Reason, bool) {
		_, reason, ok := x.moveResponse()
		return reason, ok
	}, func() bool { return x.attempt.phase == finished })
	if down.taken != turnSize || turns < turnSize/reactor.Quantum || largest > reactor.Quantum+turnPiece {
		t.Errorf("%d bytes in %d turns, at most %d in one", down.taken, turns, largest)
	}
}

// eager is a client whose request's body is always there.
type eager struct {
	Downstream
	left  int
	piece []byte
}

func (d *eager) Source() (*reactor.Conn, int64) { return nil, 0 }
func (d *eager) Trailers() []message.Field      { return nil }
func (d *eager) ReadBody() ([]byte, error) {
	if d.left == 0 {
		return nil, io.EOF
	}
	n := min(d.left, len(d.piece))
	d.left -= n
	return d.piece[:n], nil
}

// swallower is a pod that takes everything at once.
type swallower struct {
	Upstream
	taken int
}

func (u *swallower) Pending() bool       { return false }
func (u *swallower) Blocked() bool       { return false }
func (u *swallower) WriteBody(p []byte)  { u.taken += len(p) }
func (u *swallower) End([]message.Field) {}

// TestRequestsTakeTurns is the same for uploads.
func TestRequestsTakeTurns(t *testing.T) {
	loop, err := reactor.New(reactor.Stats{})
	if err != nil {
		t.Fatal(err)
	}
	up := &swallower{}
	x := &Exchange{worker: &Worker{Loop: loop}, Request: new(message.Request), conf: config.Empty(), attempt: attempt{up: up},
		down: &eager{left: turnSize, piece: make([]byte, turnPiece)}}
	turns, largest := inTurns(t, x, &up.taken, func() (Reason, bool) {
		_, reason, ok := x.moveRequest()
		return reason, ok
	}, func() bool { return x.attempt.sent })
	if up.taken != turnSize || turns < turnSize/reactor.Quantum || largest > reactor.Quantum+turnPiece {
		t.Errorf("%d bytes in %d turns, at most %d in one", up.taken, turns, largest)
	}
}

// TestSplicedResponsesRest: a response that is spliced ends its turn as others do.
func TestSplicedResponsesRest(t *testing.T) {
	loop, err := reactor.New(reactor.Stats{})
	if err != nil {
		t.Fatal(err)
	}
	woken := 0
	x := &Exchange{worker: &Worker{Loop: loop}}
	x.alarm.wake = func() {
		woken++
		loop.Stop()
	}
	loop.Submit(func() {
		x.turns.response.AddSpliced(loop, 4*reactor.Quantum)
		x.turns.request.AddSpliced(loop, 4*reactor.Quantum)
		// Neither is open: one that moved anything would crash.
		if moved, _, ok := x.spliceResponse(false); moved || !ok {
			t.Error("the response went on")
		}
		if moved, _, ok := x.spliceRequest(false); moved || !ok {
			t.Error("the request went on")
		}
	})
	if err := loop.Run(); err != nil {
		t.Fatal(err)
	}
	if woken == 0 {
		t.Error("nothing goes on in the next turn")
	}
}
