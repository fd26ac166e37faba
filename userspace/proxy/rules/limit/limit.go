// Package limit counts what clients do and says when it is enough: requests in a time, and
// requests at once. All workers of a proxy share one Limiter.
//
// Its memory is bounded, whoever comes: a table of fixed size, in which a newcomer takes
// the place of whoever has been idle for longest among a few. An attacker with very many
// addresses can thereby make clients be forgotten, which lets them do more, never less.
package limit

import (
	"hash/fnv"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
)

const (
	ways = 4 // places that a key can be at
	// Sets is how many groups of ways there are by default: 65,536 clients in 1.5 MiB.
	Sets = 1 << 14
)

// Limiter counts. Use New to make one.
type Limiter struct {
	seed maphash.Seed
	mask uint64
	rows atomic.Pointer[[]row] // made when the first limit asks
	once sync.Once
	sets int

	turns  [64]sync.Mutex // to give rows away
	atOnce [64]counts
}

// row is one client under one rule. The two words are written apart: at worst a client who is
// just taking the place of a busy one is counted as new.
type row struct {
	key  atomic.Uint64
	full atomic.Int64 // nanoseconds: when the allowance is whole again; 0: never used
}

type counts struct {
	mu sync.Mutex
	n  map[uint64]uint32
	_  [48]byte // a cache line of its own
}

// New makes a limiter with a table of sets, a power of two.
func New(sets int) *Limiter {
	l := &Limiter{seed: maphash.MakeSeed(), mask: uint64(sets - 1), sets: sets}
	for i := range l.atOnce {
		l.atOnce[i].n = map[uint64]uint32{}
	}
	return l
}

// Scope is a rule for which clients are counted by themselves.
type Scope uint64

// ScopeOf returns the one of a name. It is always the same, so that a new configuration
// does not forgive anybody.
func ScopeOf(name string) Scope {
	h := fnv.New64a()
	h.Write([]byte(name))
	return Scope(h.Sum64())
}

// key mixes scope and client. IPv6 clients count by /64, which is what one customer gets.
func (l *Limiter) key(s Scope, client netip.Addr) uint64 {
	client = client.Unmap()
	b := client.As16()
	if !client.Is4() {
		clear(b[8:])
	}
	return (maphash.Bytes(l.seed, b[:]) ^ uint64(s)*0x9e3779b97f4a7c15) | 1 // never 0: that is an empty row
}

// Rate is a bound on requests in a time, by the generic cell rate algorithm: each request
// uses up Interval, and a client may be ahead of time by Tolerance.
type Rate struct {
	Interval  int64 // nanoseconds between requests at the rate
	Tolerance int64 // nanoseconds: Interval times the burst
}

// Allow reports whether a request at time now (nanoseconds of any clock that only goes
// forward and starts above 0) is within the rate, and counts it if so.
func (l *Limiter) Allow(s Scope, client netip.Addr, r Rate, now int64) bool {
	key := l.key(s, client)
	row := l.find(key, now)
	for {
		full := row.full.Load()
		begin := max(full, now)
		if begin-now > r.Tolerance {
			return false
		}
		if row.full.CompareAndSwap(full, begin+r.Interval) {
			return true
		}
	}
}

// find returns the row of a key: its own, or the one that has been idle for longest.
func (l *Limiter) find(key uint64, now int64) *row {
	l.once.Do(func() {
		rows := make([]row, l.sets*ways)
		l.rows.Store(&rows)
	})
	at := (key >> 16 & l.mask) * ways
	set := (*l.rows.Load())[at : at+ways]
	if r := own(set, key); r != nil {
		return r
	}
	// One at a time, or a client who comes twice at once would get two rows.
	turn := &l.turns[at/ways%uint64(len(l.turns))]
	turn.Lock()
	defer turn.Unlock()
	if r := own(set, key); r != nil {
		return r
	}
	oldest := &set[0]
	for i := range set {
		if set[i].full.Load() < oldest.full.Load() {
			oldest = &set[i]
		}
	}
	// Of one that has been idle the allowance is whole, as a newcomer's is.
	if oldest.full.Load() > now {
		oldest.full.Store(0)
	}
	oldest.key.Store(key)
	return oldest
}

func own(set []row, key uint64) *row {
	for i := range set {
		if set[i].key.Load() == key {
			return &set[i]
		}
	}
	return nil
}

// Begin reports whether another request of the client may run, if most at once are
// allowed, and counts it if so. Each Begin that reports true has one End.
func (l *Limiter) Begin(s Scope, client netip.Addr, most uint32) bool {
	key := l.key(s, client)
	c := &l.atOnce[key>>58]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[key] >= most {
		return false
	}
	c.n[key]++
	return true
}

// End takes a request back.
func (l *Limiter) End(s Scope, client netip.Addr) {
	key := l.key(s, client)
	c := &l.atOnce[key>>58]
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.n[key]; n > 1 {
		c.n[key] = n - 1
	} else {
		delete(c.n, key) // so that the map holds no more than what is in flight
	}
}
