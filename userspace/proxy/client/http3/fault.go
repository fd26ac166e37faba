package http3

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// HandshakeFaults are the reasons for which no HTTP/3 connection came of a client's first
// packets. Their names are those of TLS over TCP.
var HandshakeFaults = [...]string{
	faultTimeout:  "timeout",
	faultClosed:   "closed",
	faultVersion:  "version",
	faultProtocol: "protocol",
	faultAlert:    "alert",
	faultInvalid:  "invalid",
}

const (
	faultTimeout  = iota // not done in HeadTimeout
	faultClosed          // the client gave up
	faultVersion         // the client has no TLS 1.3
	faultProtocol        // the client does not offer h3
	faultAlert           // the client has refused, most often our certificate
	faultInvalid         // anything that QUIC or TLS does not allow
)

// Fault is a breach of HTTP/3 or QUIC by a client for which its connection was closed.
type Fault struct {
	Token string
	code  uint64
	quic  bool // code is one of RFC 9000 section 20.1, else of RFC 9114 section 8.1 or RFC 9204 section 6
}

// Faults lists every Fault. The last stands for the codes that have none of their own.
var Faults = [...]Fault{
	{"general_protocol_error", uint64(http3.ErrCodeGeneralProtocolError), false},
	{"stream_creation_error", uint64(http3.ErrCodeStreamCreationError), false},
	{"closed_critical_stream", uint64(http3.ErrCodeClosedCriticalStream), false},
	{"frame_unexpected", uint64(http3.ErrCodeFrameUnexpected), false},
	{"frame_error", uint64(http3.ErrCodeFrameError), false},
	{"id_error", uint64(http3.ErrCodeIDError), false},
	{"settings_error", uint64(http3.ErrCodeSettingsError), false},
	{"missing_settings", uint64(http3.ErrCodeMissingSettings), false},
	{"excessive_load", uint64(http3.ErrCodeExcessiveLoad), false}, // see connection.takenBack
	{"flow_control_error", uint64(quic.FlowControlError), true},
	{"stream_limit_error", uint64(quic.StreamLimitError), true},
	{"stream_state_error", uint64(quic.StreamStateError), true},
	{"final_size_error", uint64(quic.FinalSizeError), true},
	{"frame_encoding_error", uint64(quic.FrameEncodingError), true},
	{"protocol_violation", uint64(quic.ProtocolViolation), true},
	{"other", 0, true},
}

// connecting is what is known of a connection from its first packet on.
type connecting struct {
	opened atomic.Bool // its handshake is done

	// Of crowd.
	source netip.Addr
	unused bool
	conn   *connection
}

type connectingKey struct{}

// begun refuses connections that would be too many, and has the end of one counted by its cause.
func (s *Server) begun(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	c := &connecting{source: sourceOf(info.RemoteAddr)}
	if !s.enter(c) {
		s.stats.Refused.Add(1)
		return nil, errFull
	}
	context.AfterFunc(ctx, func() {
		s.leave(c)
		s.ended(c, context.Cause(ctx))
	})
	return context.WithValue(ctx, connectingKey{}, c), nil
}

// ended counts the end of a connection if it is a failure.
func (s *Server) ended(c *connecting, cause error) {
	if !c.opened.Load() {
		fault := handshakeFault(cause)
		s.stats.HandshakesFailed[fault].Add(1)
		s.log.Debug().Str("reason", HandshakeFaults[fault]).Err(cause).Msg("QUIC handshake failed")
		return
	}
	if fault, ok := breach(cause); ok {
		s.stats.Errors[fault].Add(1)
		s.log.Debug().Str("reason", Faults[fault].Token).Err(cause).Msg("an HTTP/3 client broke the protocol")
	}
}

// handshakeFault classifies why a handshake was not done.
func handshakeFault(cause error) int {
	const protocolVersion, noApplicationProtocol = 70, 120 // alerts, RFC 8446 section 6
	var transport *quic.TransportError
	switch {
	case errors.As(cause, new(*quic.IdleTimeoutError)), errors.As(cause, new(*quic.HandshakeTimeoutError)):
		return faultTimeout
	case !errors.As(cause, &transport):
		return faultClosed
	case transport.Remote && transport.ErrorCode.IsCryptoError():
		return faultAlert
	case transport.Remote:
		return faultClosed
	case transport.ErrorCode == 0x100+noApplicationProtocol:
		return faultProtocol
	case transport.ErrorCode == 0x100+protocolVersion:
		return faultVersion
	}
	return faultInvalid
}

// breach returns the index in Faults of what a client did for which this side has closed its
// connection. It reports false if the connection ended otherwise.
func breach(cause error) (int, bool) {
	var application *quic.ApplicationError
	var transport *quic.TransportError
	code, isQUIC := uint64(0), false
	switch {
	case errors.As(cause, &application):
		code = uint64(application.ErrorCode)
		if application.Remote || code == uint64(http3.ErrCodeNoError) {
			return 0, false
		}
	case errors.As(cause, &transport):
		code, isQUIC = uint64(transport.ErrorCode), true
		if transport.Remote || transport.ErrorCode == quic.NoError {
			return 0, false
		}
	default:
		return 0, false
	}
	last := len(Faults) - 1
	for i, f := range Faults[:last] {
		if f.code == code && f.quic == isQUIC {
			return i, true
		}
	}
	return last, true
}
