package model

// Compression of responses, where the client takes it and the response allows it.
type Compression struct {
	Encodings []string // in order of preference: "zstd", "br", "gzip"; none: no compression
	Types     []string // media types, lower case; none: those that are known to gain
	MinBytes  uint64   // shorter responses are left as they are
}

// Substitutions replace literal texts in bodies of responses that the pod has not encoded.
type Substitutions struct {
	Replace []Substitution
	Once    bool     // each text is replaced where it is found first, and nowhere else
	Types   []string // media types, lower case, or "*"; none: text/html
	// KeepModified leaves Last-Modified in the response.
	KeepModified bool
}

// Substitution is a text that is compared without case, and the template that takes its place.
type Substitution struct{ From, To string }

// Pace bounds how fast a response is sent to a client, each by itself.
type Pace struct {
	BytesPerSecond uint64
	After          uint64 // bytes that are sent without a bound
}

// Trace is what a route wants of tracing otherwise than the proxy's settings say.
type Trace struct {
	Enabled   *bool  // nil: as the settings say
	Operation string // template: the span's name, "": method and route
	Trust     *bool  // continue the client's trace; nil: as the settings say
}
