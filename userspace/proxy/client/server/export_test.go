package server

import "time"

// SetHandshakeBudget is for measuring what the budget does. Called on the loop's thread.
func (s *Server) SetHandshakeBudget(d time.Duration) { s.budget.Set(d) }

// MaxHandshakesPerSource is how many handshakes of one client a worker has under way at most.
const MaxHandshakesPerSource = maxHandshakesPerSource
