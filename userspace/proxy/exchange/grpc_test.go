package exchange

import (
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

func callOf(t *testing.T, fields string) *message.Request {
	t.Helper()
	r := new(http1.Request)
	if n, err := r.Parse([]byte("POST /a.B/C HTTP/1.1\r\nHost: x\r\n"+fields+"\r\n"), message.Limits{}); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	return &r.Request
}

// TestCallsOfGRPC: gRPC over HTTP/2 is told from everything else, gRPC-Web included.
func TestCallsOfGRPC(t *testing.T) {
	for value, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/gRPC;x=y": true,
		"application/grpc-web": false, "application/grpc-web+proto": false, "application/grpcx": false,
		"application/json": false, "application/grp": false, "": false,
	} {
		if got := isGRPC(callOf(t, "Content-Type: "+value+"\r\n")); got != want {
			t.Errorf("%q is a call: %t, want %t", value, got, want)
		}
	}
	if isGRPC(callOf(t, "")) {
		t.Error("a request without a type is a call")
	}
}

// TestDeadlines: a deadline that is not valid is none, and a long one has an end.
func TestDeadlines(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1S": time.Second, "250m": 250 * time.Millisecond, "3M": 3 * time.Minute, "2H": 2 * time.Hour,
		"5u": 5 * time.Microsecond, "7n": 7, "99999999H": 24 * time.Hour, "99999999M": 24 * time.Hour,
		"0S": 0, "": 0, "S": 0, "1": 0, "1s": 0, "-1S": 0, "+1S": 0, "1.5S": 0, "123456789S": 0, "1S ": time.Second,
	} {
		if got := grpcDeadline(callOf(t, "grpc-timeout: "+value+"\r\n")); got != want {
			t.Errorf("%q is %v, want %v", value, got, want)
		}
	}
}

// TestGRPCStatus: whatever a pod says, it is one of a fixed number of codes.
func TestGRPCStatus(t *testing.T) {
	for value, want := range map[string]string{
		"": "", "0": "ok", "5": "not_found", "16": "unauthenticated", "17": "other", "007": "permission_denied",
		"99999999999999999999": "other", "-1": "other", "x": "other", "1 ": "other",
	} {
		s := readGRPCStatus([]byte(value))
		if s.String() != want || int(s) >= GRPCStatuses {
			t.Errorf("%q is %q (%d), want %q", value, s, s, want)
		}
	}
	for status, want := range map[int]int{400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14, 408: 2, 500: 2, 413: 2} {
		if got := grpcCode(status); got != want {
			t.Errorf("HTTP %d is %d, want %d", status, got, want)
		}
	}
}
