package upstream

import "time"

// pingEvery is the least time between two PINGs on a connection that stays silent: servers
// take more for an attack (grpc-go allows two within five minutes).
const pingEvery = 5 * time.Minute

// interval is how often a session looks after itself.
func (s *session) interval() time.Duration {
	return max(min(s.pool.IdleTime, s.pool.Silence, s.pool.PingWait)/2, 10*time.Millisecond)
}

// tick ends a session that nobody uses, and asks one that was silent for too long although
// requests are open whether it lives.
func (s *session) tick() {
	l := s.pool.loop
	now := l.Now()
	switch {
	case s.state == dialing, s.state == ended:
		s.kick()
		return
	case len(s.streams) == 0:
		if now-s.idleFrom >= int64(s.pool.IdleTime) {
			s.retire()
		}
	case s.pingAt != 0:
		if now-s.pingAt >= int64(s.pool.PingWait) {
			s.kick()
		}
	case now-s.heardAt >= int64(s.pool.Silence) && now >= s.nextPing:
		s.pingAt, s.nextPing = now, now+int64(pingEvery)
		s.framer.WritePing(false, [8]byte{'k', 'e', 'r', 'n', 'g', 'a', 't', 'e'})
		s.kick()
	}
	l.Set(&s.timer, s.interval())
}

func timeLeft(deadline, now int64) time.Duration { return time.Duration(deadline - now) }
