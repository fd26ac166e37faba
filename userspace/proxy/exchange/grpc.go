package exchange

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// GRPCStatus is how a gRPC call ended: 1 more than its status code, as 0 says that nobody
// told.
type GRPCStatus uint8

// GRPCStatuses is how many there are: none, the codes of gRPC, and all other numbers.
const GRPCStatuses = 1 + len(grpcCodes) + 1

var grpcCodes = [...]string{
	"ok", "cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found",
	"already_exists", "permission_denied", "resource_exhausted", "failed_precondition", "aborted",
	"out_of_range", "unimplemented", "internal", "unavailable", "data_loss", "unauthenticated",
}

// String returns the code's name in lower case, "" for none.
func (s GRPCStatus) String() string {
	switch {
	case s == 0:
		return ""
	case int(s) <= len(grpcCodes):
		return grpcCodes[s-1]
	}
	return "other"
}

// readGRPCStatus reads the value of grpc-status.
func readGRPCStatus(v []byte) GRPCStatus {
	n := 0
	for _, c := range v {
		if c < '0' || c > '9' || len(v) > 9 {
			return GRPCStatus(GRPCStatuses - 1)
		}
		n = n*10 + int(c-'0')
	}
	if len(v) == 0 {
		return 0
	}
	return GRPCStatus(min(n, len(grpcCodes)) + 1)
}

// isGRPC reports whether the request is a call of gRPC over HTTP/2 (not of gRPC-Web, whose
// clients understand HTTP's own status).
func isGRPC(r *message.Request) bool {
	const prefix = "application/grpc"
	v := r.Value(message.FieldContentType)
	if len(v) < len(prefix) || !foldPrefix(v, prefix) {
		return false
	}
	return len(v) == len(prefix) || v[len(prefix)] == '+' || v[len(prefix)] == ';'
}

// call is what is known of a request as a call of gRPC.
type call struct {
	on        bool          // it is one, or its pods speak gRPC
	genuine   bool          // it is one
	deadline  time.Duration // of the client, 0: none
	openEnded bool          // the head of its response did not say how long the body is
}

// identifyCall finds out whether the request is a call of gRPC. Where the Ingress says that
// pods speak gRPC everything else is passed on as one, but gets errors of HTTP: health checks go
// by the status, and clients of gRPC-Web translate it.
func identifyCall(r *message.Request, u *config.Upstream) call {
	switch {
	case r.Present.Has(message.FieldContentType) && isGRPC(r):
		return call{on: true, genuine: true, deadline: grpcDeadline(r)}
	case u != nil && u.GRPC:
		return call{on: true}
	}
	return call{}
}

// grpcDeadline returns how long the client waits for the call (grpc-timeout), 0 if it does
// not say.
func grpcDeadline(r *message.Request) time.Duration {
	v := r.Lookup("grpc-timeout")
	if len(v) < 2 || len(v) > 9 {
		return 0
	}
	n, err := strconv.ParseUint(string(v[:len(v)-1]), 10, 32)
	if err != nil {
		return 0
	}
	var unit time.Duration
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	}
	const longest = 24 * time.Hour
	if unit > 0 && n > uint64(longest/unit) {
		return longest
	}
	return time.Duration(n) * unit
}

// grpcCode translates a status of HTTP for a client of gRPC, as its "HTTP to gRPC Status
// Code Mapping" says.
func grpcCode(status int) int {
	switch status {
	case http.StatusBadRequest:
		return 13 // INTERNAL
	case http.StatusUnauthorized:
		return 16 // UNAUTHENTICATED
	case http.StatusForbidden:
		return 7 // PERMISSION_DENIED
	case http.StatusNotFound:
		return 12 // UNIMPLEMENTED
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}

// late reports whether the call's own deadline has passed.
func (x *Exchange) late() bool {
	return x.call.deadline > 0 && x.worker.Loop.Clock()-x.Outcome.Start >= int64(x.call.deadline)
}

// grpcFault returns the code for what went wrong here or at the pod. The codes for a stream
// that the pod has reset are those of gRPC's "HTTP2 Transport Mapping".
func (x *Exchange) grpcFault(reason Reason, detail string) int {
	if x.late() && (reason == UpstreamTimeout || detail == "cancel") {
		return 4 // DEADLINE_EXCEEDED: the pod knows the call's deadline, too
	}
	if reason == SignIn || reason == ExternalDenied && x.Outcome.Status == http.StatusUnauthorized {
		return 16 // UNAUTHENTICATED: a call cannot be sent elsewhere to sign in
	}
	if reason != UpstreamReset && reason != UpstreamAborted {
		return grpcCode(reason.Status())
	}
	switch detail {
	case "cancel":
		return 1 // CANCELLED
	case "enhance_your_calm":
		return 8 // RESOURCE_EXHAUSTED
	case "inadequate_security":
		return 7 // PERMISSION_DENIED
	case "", "refused_stream":
		return 14 // UNAVAILABLE
	}
	return 13 // INTERNAL
}

var (
	nameContentType = []byte("content-type")
	nameGRPCStatus  = []byte("grpc-status")
	nameGRPCMessage = []byte("grpc-message")
	typeGRPC        = []byte("application/grpc")
)

// grpcFields appends the fields that say how a call has failed, and notes it.
func (x *Exchange) grpcFields(dst []message.Field, reason Reason, detail string) []message.Field {
	code := x.grpcFault(reason, detail)
	text := append(append([]byte(reason.String()), ": "...), reason.Text()...)
	if detail != "" {
		text = append(append(append(text, " ("...), detail...), ')')
	}
	x.Outcome.GRPC = GRPCStatus(code + 1)
	return append(dst,
		message.Field{Name: nameGRPCStatus, Value: strconv.AppendInt(nil, int64(code), 10), ID: message.FieldGRPCStatus},
		message.Field{Name: nameGRPCMessage, Value: bytes.ReplaceAll(text, []byte("%"), []byte("%25"))},
	)
}

// replyGRPC answers a call that fails here as a server of gRPC would: status 200, and a
// head that has the call's status and no body behind it (Trailers-Only).
func (x *Exchange) replyGRPC(reason Reason, detail string) {
	r := &x.reply.head
	r.Reset()
	r.Minor, r.KeepAlive = 1, true
	r.Status, r.Body = http.StatusOK, message.BodyNone
	r.Fields = append(r.Fields, message.Field{Name: nameContentType, Value: typeGRPC, ID: message.FieldContentType})
	r.Fields = x.grpcFields(r.Fields, reason, detail)
	r.Present = message.Fields(message.FieldContentType, message.FieldGRPCStatus)
	x.down.Respond(r)
	x.down.End(nil)
}

// speaksGRPC reports whether the client understands the errors of gRPC.
func (x *Exchange) speaksGRPC() bool { return x.call.genuine && x.Connection.Protocol != HTTP1 }

// endGRPC ends a call whose response breaks off with its status in trailers, if it is such a
// response.
func (x *Exchange) endGRPC(reason Reason) bool {
	if !x.call.openEnded || !x.speaksGRPC() || x.attempt.phase != passBody || reason == ClientAborted {
		return false
	}
	x.reply.head.Reset()
	x.reply.head.Fields = x.grpcFields(x.reply.head.Fields, reason, x.Outcome.Detail)
	x.down.End(x.reply.head.Fields)
	return true
}

// noteGRPC keeps the status that stands among fields.
func (o *Outcome) noteGRPC(fields []message.Field) {
	for i := range fields {
		if fields[i].ID == message.FieldGRPCStatus {
			o.GRPC = readGRPCStatus(fields[i].Value)
			return
		}
	}
}
