package http2

import (
	"sync/atomic"
	"time"
)

// Limit is something that a client may not do without end. Its token stands in the metric
// kerngate_proxy_http2_cut_total and in the debug data of the GOAWAY frame.
type Limit uint8

const (
	LimitResets       Limit = iota // requests taken back before they were answered (rapid reset)
	LimitRefused                   // streams opened beyond the number allowed
	LimitMalformed                 // requests that are not valid
	LimitContinuation              // CONTINUATION frames of one header block
	LimitHeaderBlock               // bytes of one header block
	LimitHeaderTime                // time to complete a header block
	LimitSettings                  // SETTINGS frames
	LimitPings                     // PING frames while nothing is sent
	LimitEmptyData                 // DATA frames without data
	LimitPriority                  // PRIORITY frames
	LimitWindows                   // WINDOW_UPDATE frames beyond what the data sent explains
	LimitOther                     // frames of no known type
	LimitTinyWindow                // windows that make data go out in tiny frames
	LimitStalled                   // responses whose window stays shut
	LimitBacklog                   // bytes that the client does not read
	Limits
)

// limits holds what a connection may do at once (burst) and from then on (per second). Zero
// per second: counted elsewhere, the first time is the last.
var limits = [Limits]struct {
	token     string
	burst     uint32
	perSecond uint32
}{
	LimitResets:       {"resets", 400, 50},
	LimitRefused:      {"refused_streams", 400, 50},
	LimitMalformed:    {"malformed_requests", 100, 10},
	LimitContinuation: {"continuation_frames", 0, 0},
	LimitHeaderBlock:  {"header_block", 0, 0},
	LimitHeaderTime:   {"header_block_time", 0, 0},
	LimitSettings:     {"settings_frames", 100, 5},
	LimitPings:        {"ping_frames", 200, 10},
	LimitEmptyData:    {"empty_data_frames", 100, 10},
	LimitPriority:     {"priority_frames", 500, 50},
	LimitWindows:      {"window_update_frames", 1000, 100},
	LimitOther:        {"unknown_frames", 500, 50},
	LimitTinyWindow:   {"tiny_windows", 500, 50},
	LimitStalled:      {"stalled_windows", 0, 0},
	LimitBacklog:      {"backlog", 0, 0},
}

// String returns the limit's stable token.
func (l Limit) String() string { return limits[l].token }

// Stats counts what a worker's HTTP/2 connections came to; the worker writes, anybody reads.
type Stats struct {
	Connections atomic.Uint64         // that spoke HTTP/2
	Streams     atomic.Uint64         // requests
	Refused     atomic.Uint64         // streams beyond the number allowed
	Errors      atomic.Uint64         // connections ended for a breach of the protocol
	Cut         [Limits]atomic.Uint64 // connections ended for a Limit
}

// debts is how much of each limit's burst a connection has used.
type debts struct {
	used [Limits]uint32
	at   int64 // loop time up to which they were forgiven
}

// charge counts one more and reports whether the connection is within its limit.
func (d *debts) charge(l Limit, now int64) bool {
	if now-d.at >= int64(time.Second) {
		seconds := (now - d.at) / int64(time.Second)
		d.at += seconds * int64(time.Second)
		for i := range d.used {
			d.used[i] -= uint32(min(int64(d.used[i]), seconds*int64(limits[i].perSecond)))
		}
	}
	d.used[l]++
	return d.used[l] <= limits[l].burst
}
