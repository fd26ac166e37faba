package policy

import "github.com/kerngate/kerngate/userspace/feed/feedpb"

// Buffering says whether a request's body is read before a pod is chosen; see
// model.RequestBuffering.
type Buffering uint8

const (
	BufferAuto = Buffering(feedpb.RequestBuffering_BUFFER_AUTO)
	BufferOn   = Buffering(feedpb.RequestBuffering_BUFFER_ON)
	BufferOff  = Buffering(feedpb.RequestBuffering_BUFFER_OFF)
)
