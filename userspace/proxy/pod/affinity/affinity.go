// Package affinity makes and reads the values of the cookies that keep clients at a pod.
//
// A value is 16 bytes in base64url, signed under a key that all proxies of the cluster have,
// and holds no address and no name: whoever sees it learns nothing of the pods, and nobody
// can make one. There are two kinds:
//
//   - one names a pod: it is the MAC of the service's name and the pod's address. A proxy
//     finds it among those of the pods that the service has;
//   - one names a seat, a number from 0 to 65535 that is hashed to a pod like any value, and
//     carries the MAC of the service's name and that number. When pods come, a part of the
//     seats is theirs.
//
// Because the service is part of both, a cookie also says which one, main or canary, it was
// given out for. Everything that was computed is kept: a request costs no MAC.
package affinity

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
)

// Value is what a cookie says.
type Value [16]byte

var encoding = base64.RawURLEncoding.Strict()

// textSize is the length of a Value's text.
const textSize = (len(Value{})*8 + 5) / 6

// Parse reads the text of a value. It reports false for what Append has not written.
func Parse(text []byte) (v Value, ok bool) {
	if len(text) != textSize {
		return v, false
	}
	for _, c := range text { // the decoder skips line ends
		if c == '\n' || c == '\r' {
			return v, false
		}
	}
	n, err := encoding.Decode(v[:], text)
	return v, err == nil && n == len(v)
}

// Append appends the text of a value.
func (v Value) Append(dst []byte) []byte { return encoding.AppendEncode(dst, v[:]) }

// Service is what values belong to.
type Service struct {
	ID   state.ServiceID
	Name string // "namespace/name:port"
}

// Keeper knows the values of services. It belongs to one worker. The zero value is ready.
type Keeper struct {
	key   [32]byte
	pods  map[state.ServiceID]*pods
	seats []seatEntry // by a hash of service and seat; what falls on the same is replaced
}

// pods are the values of one service's pods.
type pods struct {
	name   string
	group  *balance.Group
	values []Value // parallel to group.Members
	// index leads by a value's first half to its place. The other half is compared in
	// constant time, so that answers' times do not lead to a whole value.
	index map[[8]byte]int
}

type seatEntry struct {
	service Service
	seat    uint16
	value   Value
}

const seatEntries = 4096

// use takes over the key that is in force, and forgets what was computed with another.
func (k *Keeper) use(key []byte) {
	if k.pods != nil && subtle.ConstantTimeCompare(k.key[:], key) == 1 {
		return
	}
	copy(k.key[:], key)
	k.pods, k.seats = map[state.ServiceID]*pods{}, nil
}

// Pod returns the member of the service's group that a value names.
func (k *Keeper) Pod(key []byte, s Service, group *balance.Group, v Value) (balance.Member, bool) {
	k.use(key)
	p := k.of(s, group)
	at, ok := p.index[[8]byte(v[:8])]
	if !ok || subtle.ConstantTimeCompare(p.values[at][8:], v[8:]) != 1 {
		return balance.Member{}, false
	}
	return p.group.Members[at], true
}

// ForPod returns the value that names a member of the service's group.
func (k *Keeper) ForPod(key []byte, s Service, group *balance.Group, id state.BackendID) (Value, bool) {
	k.use(key)
	p := k.of(s, group)
	at, ok := group.Place(id)
	if !ok {
		return Value{}, false
	}
	return p.values[at], true
}

// of returns the values of a service's pods, computing those of the ones that are new.
func (k *Keeper) of(s Service, group *balance.Group) *pods {
	old := k.pods[s.ID]
	if old != nil && old.group == group && old.name == s.Name {
		return old
	}
	p := &pods{name: s.Name, group: group, values: make([]Value, len(group.Members)), index: make(map[[8]byte]int, len(group.Members))}
	for i, m := range group.Members {
		if old != nil && old.name == s.Name {
			if at, ok := old.group.Place(m.ID); ok && old.group.Members[at].Address == m.Address {
				p.values[i] = old.values[at]
			}
		}
		if p.values[i] == (Value{}) {
			address := m.Address.Addr().As16()
			p.values[i] = k.sign("pod", s.Name, binary.BigEndian.AppendUint16(address[:], m.Address.Port()))
		}
		p.index[[8]byte(p.values[i][:8])] = i
	}
	k.pods[s.ID] = p
	return p
}

// Seat returns the seat that a value names.
func (k *Keeper) Seat(key []byte, s Service, v Value) (seat uint16, ok bool) {
	seat = binary.BigEndian.Uint16(v[:])
	want := k.ForSeat(key, s, seat)
	return seat, subtle.ConstantTimeCompare(want[:], v[:]) == 1
}

// ForSeat returns the value that names a seat.
func (k *Keeper) ForSeat(key []byte, s Service, seat uint16) Value {
	k.use(key)
	if k.seats == nil {
		k.seats = make([]seatEntry, seatEntries)
	}
	e := &k.seats[(SeatHash(seat)+uint64(s.ID))%seatEntries]
	if e.service != s || e.seat != seat {
		v := k.sign("seat", s.Name, binary.BigEndian.AppendUint16(nil, seat))
		copy(v[2:], v[:])
		binary.BigEndian.PutUint16(v[:], seat)
		*e = seatEntry{s, seat, v}
	}
	return e.value
}

// SeatHash returns the hash by which a seat is led to a pod.
func SeatHash(seat uint16) uint64 {
	return balance.Hash([]byte{'s', 'e', 'a', 't', byte(seat >> 8), byte(seat)})
}

// FindSeat returns a seat that leads to the backend, the first from a random one on. It
// reports false if no seat does, as may be where there are more pods than seats.
func FindSeat(g *balance.Group, id state.BackendID, random uint16) (uint16, bool) {
	for i := range 1 << 16 {
		if seat := random + uint16(i); g.Leads(SeatHash(seat)) == id {
			return seat, true
		}
	}
	return 0, false
}

func (k *Keeper) sign(kind, service string, what []byte) (v Value) {
	mac := hmac.New(sha256.New, k.key[:])
	mac.Write([]byte("kerngate affinity " + kind + "\x00" + service + "\x00"))
	mac.Write(what)
	var sum [sha256.Size]byte
	copy(v[:], mac.Sum(sum[:0]))
	return v
}
