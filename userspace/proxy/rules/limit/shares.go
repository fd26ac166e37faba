package limit

import "sync"

// Shares divide something of which there is only so much among those who use it. Each may hold as
// much as is left for the others: one alone half of it, and whoever comes next still finds room.
type Shares struct {
	Most int

	mu    sync.Mutex
	total int
	held  map[string]int
}

// Take reports whether one more is to be had. Each that is goes back by Return.
func (s *Shares) Take(who string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[who] >= s.Most-s.total {
		return false
	}
	if s.held == nil {
		s.held = map[string]int{}
	}
	s.held[who]++
	s.total++
	return true
}

// Return gives one back.
func (s *Shares) Return(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.held[who]--; s.held[who] == 0 {
		delete(s.held, who)
	}
}
