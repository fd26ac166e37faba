package model

// RequestBuffering says whether a request's body is read before a pod is chosen, or passed
// on to the pod as it comes.
type RequestBuffering uint8

const (
	// BufferAuto reads the body only where it has no length and the pod speaks HTTP/1.1:
	// many applications take a body without a length for an empty one.
	BufferAuto RequestBuffering = iota
	BufferOn                    // also a body that has a length, if it fits
	BufferOff                   // never: the pods are known to take chunks
)

func (b RequestBuffering) String() string { return [...]string{"auto", "on", "off"}[b] }
