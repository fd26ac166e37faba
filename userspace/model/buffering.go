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

// Of the files in which a proxy keeps request bodies that are too large for memory, in bytes.
const (
	DefaultSpool = 1 << 30 // all of them, if nothing else is said
	// LeastSpool is what a file takes of the total at least, and the step by which it takes more:
	// so the total bounds the number of files, too, and descriptors with it.
	LeastSpool = 1 << 20
)
