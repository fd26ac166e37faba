package skmsg

// Counters tell what became of connections and messages, since the programs were loaded.
type Counters struct {
	Asked      uint64 // connections for which the proxy asked
	Joined     uint64 // whose pod was found on this node
	Full       uint64 // that stay plain for want of room
	PastTCP    uint64 // messages put into the receiver's queue
	ByTCP      uint64 // messages of joined connections that went by TCP
	WindowFull uint64 // directions that changed to TCP because too much lay unread
	NoPeer     uint64 // because the other end was not there
}

// Counters reads them, summed over the CPUs.
func (p *Programs) Counters() (c Counters, err error) {
	for reason, to := range map[skmsgKgJoinReason]*uint64{
		skmsgKgJoinReasonKG_JOIN_ASKED:       &c.Asked,
		skmsgKgJoinReasonKG_JOIN_JOINED:      &c.Joined,
		skmsgKgJoinReasonKG_JOIN_FULL:        &c.Full,
		skmsgKgJoinReasonKG_JOIN_PAST_TCP:    &c.PastTCP,
		skmsgKgJoinReasonKG_JOIN_BY_TCP:      &c.ByTCP,
		skmsgKgJoinReasonKG_JOIN_WINDOW_FULL: &c.WindowFull,
		skmsgKgJoinReasonKG_JOIN_NO_PEER:     &c.NoPeer,
	} {
		perCPU, err := p.objects.maps.Counters.Get(uint32(reason))
		if err != nil {
			return c, err
		}
		for _, n := range perCPU {
			*to += n
		}
	}
	return c, nil
}
