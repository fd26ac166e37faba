package overload

import "net/netip"

// Shares tells who holds most of something that runs out, so that whoever takes too much of
// it loses first, and neither a newcomer nor somebody who holds little. It is of one worker,
// and has no lock. The zero value is ready.
//
// Finding the source that holds most takes the same time however many there are: an attack
// by many sources must not make that dear.
type Shares struct {
	sources map[netip.Addr]*source
	bySize  []sourceList // sources that hold so many; those that came to it first come first
	most    int          // the last of bySize that is not empty
	exempt  source       // of nobody in particular: never held to be too much
	free    *source
}

type source struct {
	address    netip.Addr
	n          int
	prev, next *source
	oldest     *Claim
	newest     *Claim
}

type sourceList struct{ first, last *source }

// Claim is a part that somebody holds. Holder says whose it is.
type Claim struct {
	Holder     any
	source     *source
	prev, next *Claim
}

// Source returns the address that a client's connections are counted by: of IPv6 the /64,
// any address of which whoever has one of them can use.
func Source(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// Held reports whether the claim is one.
func (c *Claim) Held() bool { return c.source != nil }

// Take notes that a source holds one part more. The zero address is exempt: it stands for
// clients that cannot be told apart.
func (s *Shares) Take(c *Claim, from netip.Addr) {
	s.Drop(c)
	o := &s.exempt
	if from.IsValid() {
		o = s.of(from)
		s.unlist(o)
	}
	o.n++
	s.list(o)
	c.source, c.prev, c.next = o, o.newest, nil
	if o.newest != nil {
		o.newest.next = c
	} else {
		o.oldest = c
	}
	o.newest = c
}

// Drop takes a claim back. It may be none.
func (s *Shares) Drop(c *Claim) {
	o := c.source
	if o == nil {
		return
	}
	s.detach(c)
	if o != &s.exempt {
		s.unlist(o)
	}
	o.n--
	s.list(o)
	if o.n == 0 && o != &s.exempt {
		delete(s.sources, o.address)
		*o = source{next: s.free}
		s.free = o
	}
}

func (s *Shares) detach(c *Claim) {
	o := c.source
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		o.oldest = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		o.newest = c.prev
	}
	c.source, c.prev, c.next = nil, nil, nil
}

func (s *Shares) of(address netip.Addr) *source {
	if o := s.sources[address]; o != nil {
		return o
	}
	o := s.free
	if o == nil {
		o = new(source)
	} else {
		s.free = o.next
	}
	*o = source{address: address}
	if s.sources == nil {
		s.sources = map[netip.Addr]*source{}
	}
	s.sources[address] = o
	return o
}

// list puts a source among those that hold as many.
func (s *Shares) list(o *source) {
	if o == &s.exempt || o.n == 0 {
		return
	}
	for len(s.bySize) <= o.n {
		s.bySize = append(s.bySize, sourceList{})
	}
	l := &s.bySize[o.n]
	o.prev, o.next = l.last, nil
	if l.last != nil {
		l.last.next = o
	} else {
		l.first = o
	}
	l.last = o
	s.most = max(s.most, o.n)
}

func (s *Shares) unlist(o *source) {
	if o.n == 0 {
		return
	}
	l := &s.bySize[o.n]
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		l.first = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	} else {
		l.last = o.prev
	}
	o.prev, o.next = nil, nil
	for s.most > 0 && s.bySize[s.most].first == nil {
		s.most--
	}
}

// Of returns how many parts a source holds.
func (s *Shares) Of(address netip.Addr) int {
	if o := s.sources[address]; o != nil {
		return o.n
	}
	return 0
}

// Oldest returns the first claim that a source still holds, nil if it holds none.
func (s *Shares) Oldest(address netip.Addr) *Claim {
	if o := s.sources[address]; o != nil {
		return o.oldest
	}
	return nil
}

// Worst returns the oldest claim of the source that holds most, and how much that is. Those
// that are exempt come last, and count as if each were another's. nil: nobody holds anything.
func (s *Shares) Worst() (*Claim, int) {
	if s.most > 0 {
		return s.bySize[s.most].first.oldest, s.most
	}
	if s.exempt.oldest != nil {
		return s.exempt.oldest, 1
	}
	return nil, 0
}

// Renew makes a claim its source's newest, so that another one is found as the oldest.
func (s *Shares) Renew(c *Claim) {
	o := c.source
	if o == nil || o.newest == c {
		return
	}
	s.detach(c)
	c.source, c.prev = o, o.newest
	o.newest.next = c
	o.newest = c
}
