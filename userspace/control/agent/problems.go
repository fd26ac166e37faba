package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/userspace/model"
)

// origin is who found a problem; each replaces only its own.
type origin int

const (
	fromSource origin = iota
	fromCompile
	fromApply
	fromProxy
	fromCertificates
	origins
)

// problemSet is every problem known at this moment and since when.
type problemSet struct {
	log   zerolog.Logger
	by    [origins][]model.Problem
	since map[model.Problem]time.Time
}

// set replaces the problems of one origin, and logs what is new and what is over.
func (s *problemSet) set(from origin, problems []model.Problem) {
	if slices.Equal(s.by[from], problems) {
		return
	}
	s.by[from] = problems
	now := map[model.Problem]bool{}
	for _, p := range s.all() {
		now[p] = true
		if _, known := s.since[p]; !known {
			s.since[p] = time.Now()
			s.log.Warn().Stringer("object", p.Object).Stringer("severity", p.Severity).Str("reason", p.Reason).Msg(p.Message)
		}
	}
	for p := range maps.Keys(s.since) {
		if !now[p] {
			delete(s.since, p)
			s.log.Info().Stringer("object", p.Object).Str("reason", p.Reason).Msg("problem is over: " + p.Message)
		}
	}
}

func (s *problemSet) all() []model.Problem {
	return slices.Concat(s.by[:]...)
}
