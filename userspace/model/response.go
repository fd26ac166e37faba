package model

// Compression of responses, where the client takes it and the response allows it.
type Compression struct {
	Encodings []string // in order of preference: "zstd", "br", "gzip"; none: no compression
	Types     []string // media types, lower case; none: those that are known to gain
	MinBytes  uint64   // shorter responses are left as they are
}

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
