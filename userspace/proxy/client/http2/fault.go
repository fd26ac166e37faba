package http2

// Fault is a breach of the protocol that ends a connection (RFC 9113 section 5.4.1). Its token
// stands in the metric kerngate_proxy_http2_errors_total and in the debug data of the GOAWAY
// frame.
type Fault uint8

const (
	FaultPreface Fault = iota
	FaultFirstFrame
	FaultFrameSize
	FaultFrame
	FaultIdleStream
	FaultClosedStream
	FaultFlowControl
	FaultSetting
	FaultPush
	FaultInterrupted
	FaultContinuation
	FaultHeaderBlock
	Faults
)

var faults = [Faults]struct{ token, text string }{
	FaultPreface:      {"no_preface", "the connection does not begin with the client preface"},
	FaultFirstFrame:   {"no_settings", "the first frame is not SETTINGS"},
	FaultFrameSize:    {"frame_too_large", "a frame is larger than 16 KiB"},
	FaultFrame:        {"malformed_frame", "a frame's length, padding or content is not valid"},
	FaultIdleStream:   {"idle_stream", "a frame is for a stream that was never opened"},
	FaultClosedStream: {"closed_stream", "HEADERS came on a stream that is closed"},
	FaultFlowControl:  {"flow_control", "more DATA came than the connection's window allows, or a window exceeds 2^31-1"},
	FaultSetting:      {"invalid_setting", "a value in SETTINGS is not valid"},
	FaultPush:         {"push_promise", "a client sent PUSH_PROMISE"},
	FaultInterrupted:  {"interrupted_header_block", "another frame came between HEADERS and its CONTINUATION"},
	FaultContinuation: {"continuation_without_headers", "CONTINUATION came without HEADERS"},
	FaultHeaderBlock:  {"undecodable_header_block", "a header block is not valid HPACK"},
}

// String returns the fault's stable token.
func (f Fault) String() string { return faults[f].token }

// Text returns the sentence for people.
func (f Fault) Text() string { return faults[f].text }

// Refusal says why a stream was answered with REFUSED_STREAM, after which the client may
// send the request again.
type Refusal uint8

const (
	RefusedTooMany  Refusal = iota // the connection has as many streams as it may have
	RefusedDraining                // the connection is being drained
	Refusals
)

// String returns the refusal's stable token.
func (r Refusal) String() string { return [...]string{"too_many", "draining"}[r] }
