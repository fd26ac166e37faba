// Package feed carries the conversation between the agent and its proxies (and
// kerngatectl) over the agent's unix socket: what feedpb says, each message preceded by
// its length as a protobuf varint, with descriptors as SCM_RIGHTS.
//
// The proxy calls Dial, kerngatectl calls Ask, the agent calls Listen. Peers are named
// by the kernel (SO_PEERCRED), never by what they say. Memory is bounded: messages have
// a largest size, a buffer grows only as bytes really arrive, and a peer that does not
// read what it is sent is disconnected; it comes back and is given a snapshot.
package feed

import (
	"errors"
	"fmt"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// Versions of the conversation that this build speaks. A change that an older party
// cannot ignore raises Version; MinVersion follows one release later, so that agent and
// proxy may be one version apart in either direction.
//
//	1: the first
//	2: a configuration may come in parts (Config.more)
//	3: listening sockets outlive their proxy (Listeners, Leaving, Inherit)
const (
	MinVersion = 1
	Version    = 3

	// ListenersVersion is the first version that knows Listeners, Leaving and Inherit.
	ListenersVersion = 3
)

// Limits.
const (
	// MaxToAgent is the size in bytes of the largest message that the agent accepts:
	// a proxy only introduces itself, acknowledges and refuses.
	MaxToAgent = 64 << 10
	// MaxFromAgent is the size in bytes of the largest message that a proxy accepts.
	// A snapshot of 100,000 hosts of two routes each takes about 15 MiB; a configuration
	// may have several messages (MaxConfig).
	MaxFromAgent = 64 << 20
	// MaxDescriptors is how many descriptors one party may pass in a conversation:
	// 64 workers of 4 sockets, with room for the maps of a later version.
	MaxDescriptors = 512

	// handshakeTimeout bounds the wait for the first message in both directions.
	handshakeTimeout = 5 * time.Second
	// writeTimeout is how long a peer may leave its receive buffer full.
	writeTimeout = 10 * time.Second
)

// ErrClosed is returned by operations on a conversation that this side has ended.
var ErrClosed = errors.New("feed: conversation closed")

// RejectError is the agent's refusal to talk. Reason says what to do about it.
type RejectError struct{ Reason string }

func (e *RejectError) Error() string { return "agent refused: " + e.Reason }

// negotiate returns the highest version that both parties speak. The error's text is
// sent to the peer as it is.
func negotiate(hello *feedpb.Hello) (uint32, error) {
	version := min(hello.MaxVersion, Version)
	if version < max(hello.MinVersion, MinVersion) {
		return 0, fmt.Errorf("the proxy (build %q) speaks feed versions %d to %d, the agent %d to %d: upgrade the older of the two, one release at a time",
			hello.Build, hello.MinVersion, hello.MaxVersion, MinVersion, Version)
	}
	return version, nil
}
