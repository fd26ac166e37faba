package exchange

// turnQuantum is how much of a response is moved in one turn of the loop before others have
// theirs, in bytes: over TLS about a quarter of a millisecond's work. A pod and a client that are
// both fast would keep everybody else waiting for as long as neither blocks.
const turnQuantum = 256 << 10

// movedInTurn counts bytes of the response.
func (x *Exchange) movedInTurn(n int) {
	if now := x.worker.Loop.Now(); x.turn != now {
		x.turn, x.turnBytes = now, 0
	}
	x.turnBytes += n
}

// restsTurn reports whether the response has had its part of this turn. It goes on in the next.
func (x *Exchange) restsTurn() bool {
	if x.turnBytes < turnQuantum || x.turn != x.worker.Loop.Now() {
		return false
	}
	x.worker.Loop.Submit(x.goOn)
	return true
}
