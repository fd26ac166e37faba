// Package tickets holds the keys by which proxies encrypt TLS session tickets. They are the
// same for every proxy of a cluster, so that a client resumes its session at whichever
// node, worker or generation it meets, and they change, so that one that leaks opens the
// sessions of hours, not of years.
//
// There are three at a time. The next one is made known a whole interval before it is
// used, so that no proxy meets a ticket whose key it has not heard of; the previous one is
// kept for an interval, for the tickets that are still with clients.
package tickets

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// Interval is how long a key is used for new tickets.
	Interval = 12 * time.Hour
	// KeySize is the size of a key in bytes.
	KeySize = 32
)

// Key is a secret. However it is printed, it does not show.
type Key [KeySize]byte

// String hides the key, like the methods below.
func (Key) String() string { return "(ticket key)" }

// GoString hides the key from %#v.
func (Key) GoString() string { return "(ticket key)" }

// Format hides the key from verbs that look into arrays, such as %x and %d.
func (Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(ticket key)") }

// MarshalText hides the key from encoders.
func (Key) MarshalText() ([]byte, error) { return []byte("(ticket key)"), nil }

// Ring is the keys of one interval.
type Ring struct {
	Next, Current, Previous Key
	Rotated                 time.Time // when Current came into use, to the second
	// Affinity signs the cookies that keep clients at a pod. It stays: clients come back
	// after weeks. Zero in a ring of a version that knew none.
	Affinity Key
}

// New returns a ring of random keys.
func New(now time.Time) Ring {
	return Ring{Next: random(), Current: random(), Previous: random(), Rotated: now.UTC().Truncate(time.Second), Affinity: random()}
}

func random() (k Key) {
	rand.Read(k[:]) // never fails
	return k
}

// Due reports whether it is time to rotate.
func (r Ring) Due(now time.Time) bool { return now.Sub(r.Rotated) >= Interval }

// Rotate returns the ring of the next interval.
func (r Ring) Rotate(now time.Time) Ring {
	return Ring{Next: random(), Current: r.Next, Previous: r.Current, Rotated: now.UTC().Truncate(time.Second), Affinity: r.Affinity}
}

// Complete returns the ring with what one of an older version lacks.
func (r Ring) Complete() Ring {
	if r.Affinity == (Key{}) {
		r.Affinity = random()
	}
	return r
}

// Keys returns the keys as proxies take them: first the one for new tickets, then the
// others that tickets may be encrypted with.
func (r Ring) Keys() [][]byte {
	return [][]byte{slices.Clone(r.Current[:]), slices.Clone(r.Next[:]), slices.Clone(r.Previous[:])}
}

// Names of the parts of a ring where it is stored.
const (
	partNext     = "next"
	partCurrent  = "current"
	partPrevious = "previous"
	partRotated  = "rotated"
	partAffinity = "affinity"
)

// Data returns the ring as a Secret holds it.
func (r Ring) Data() map[string][]byte {
	return map[string][]byte{
		partNext: slices.Clone(r.Next[:]), partCurrent: slices.Clone(r.Current[:]), partPrevious: slices.Clone(r.Previous[:]),
		partRotated: []byte(r.Rotated.Format(time.RFC3339)), partAffinity: slices.Clone(r.Affinity[:]),
	}
}

// Parse reads what Data returned. Its errors hold none of it.
func Parse(data map[string][]byte) (Ring, error) {
	var r Ring
	for name, key := range map[string]*Key{partNext: &r.Next, partCurrent: &r.Current, partPrevious: &r.Previous} {
		if len(data[name]) != KeySize {
			return Ring{}, fmt.Errorf("%s: %d bytes, not %d", name, len(data[name]), KeySize)
		}
		copy(key[:], data[name])
	}
	if key, there := data[partAffinity]; there {
		if len(key) != KeySize {
			return Ring{}, fmt.Errorf("%s: %d bytes, not %d", partAffinity, len(key), KeySize)
		}
		copy(r.Affinity[:], key)
	}
	var err error
	if r.Rotated, err = time.Parse(time.RFC3339, string(data[partRotated])); err != nil {
		return Ring{}, errors.New(partRotated + ": is not a time")
	}
	return r, nil
}

// InMemory sends rings that live as long as ctx: for an agent that has no cluster to share
// them with.
func InMemory(ctx context.Context, out chan<- Ring) {
	ring := New(time.Now())
	for {
		select {
		case out <- ring:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(Interval):
			ring = ring.Rotate(time.Now())
		case <-ctx.Done():
			return
		}
	}
}
