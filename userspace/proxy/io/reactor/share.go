package reactor

// Quantum is how many bytes one party moves in a turn of the loop before others have theirs: over
// TLS about a quarter of a millisecond's work. Two ends that are both fast would keep everybody
// else waiting for as long as neither blocks.
const Quantum = 256 << 10

// splicedCheaper is how many bytes that are spliced count as one: they are neither copied nor
// encrypted.
const splicedCheaper = 4

// Share is what a party has had of a turn.
type Share struct {
	turn  int64 // of the loop, in which
	moved int   // so many bytes were moved
	due   bool  // the party is to be woken in the next turn
}

// Add counts bytes that were moved.
func (s *Share) Add(l *Loop, n int) {
	if s.turn != l.now {
		s.turn, s.moved = l.now, 0
	}
	s.moved += n
}

// AddSpliced counts bytes that were moved by a Splice.
func (s *Share) AddSpliced(l *Loop, n int64) { s.Add(l, int((n+splicedCheaper-1)/splicedCheaper)) }

// Spent reports whether the party has had its share of this turn. Then wake is called in the next
// one, and has to call Woken.
func (s *Share) Spent(l *Loop, wake func()) bool {
	if s.moved < Quantum || s.turn != l.now {
		return false
	}
	if !s.due {
		s.due = true
		l.Submit(wake)
	}
	return true
}

// Woken says that wake was called.
func (s *Share) Woken() { s.due = false }
