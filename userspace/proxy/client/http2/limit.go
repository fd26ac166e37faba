package http2

import (
	"sync/atomic"

	"github.com/kerngate/kerngate/userspace/proxy/io/leaky"
)

// Limit is something that a client may not do without end. Its token stands in the metric
// kerngate_proxy_http2_cut_total and in the debug data of the GOAWAY frame.
type Limit uint8

const (
	LimitResets Limit = iota
	LimitRefused
	LimitMalformed
	LimitContinuation
	LimitHeaderBlock
	LimitHeaderTime
	LimitSettings
	LimitPings
	LimitEmptyData
	LimitPriority
	LimitWindows
	LimitOther
	LimitTinyWindow
	LimitStalled
	LimitBacklog
	Limits
)

// limits holds what a connection may do at once (burst) and from then on (per second). A
// burst of zero: it is measured where it happens, and the first time is the last.
var limits = [Limits]struct {
	token string
	rate  leaky.Rate
	text  string
}{
	LimitResets:       {"resets", leaky.Rate{Burst: 400, PerSecond: 50}, "requests taken back before they were answered (rapid reset)"},
	LimitRefused:      {"refused_streams", leaky.Rate{Burst: 400, PerSecond: 50}, "streams opened beyond the number allowed"},
	LimitMalformed:    {"malformed_requests", leaky.Rate{Burst: 100, PerSecond: 10}, "requests, or frames of one, that are not valid, or whose head is too large"},
	LimitContinuation: {"continuation_frames", leaky.Rate{Burst: 0, PerSecond: 0}, "more than 10 CONTINUATION frames in a header block"},
	LimitHeaderBlock:  {"header_block", leaky.Rate{Burst: 0, PerSecond: 0}, "a header block, or a string in it, of more than 4 times the largest head"},
	LimitHeaderTime:   {"header_block_time", leaky.Rate{Burst: 0, PerSecond: 0}, "a header block that is not complete within the head time-out"},
	LimitSettings:     {"settings_frames", leaky.Rate{Burst: 100, PerSecond: 5}, "SETTINGS frames, and acknowledgements that are not owed"},
	LimitPings:        {"ping_frames", leaky.Rate{Burst: 200, PerSecond: 10}, "PING frames while nothing is sent, and answers to none"},
	LimitEmptyData:    {"empty_data_frames", leaky.Rate{Burst: 100, PerSecond: 10}, "DATA frames without data"},
	LimitPriority:     {"priority_frames", leaky.Rate{Burst: 500, PerSecond: 50}, "PRIORITY frames"},
	LimitWindows:      {"window_update_frames", leaky.Rate{Burst: 1000, PerSecond: 100}, "WINDOW_UPDATE frames beyond one per KiB of data sent"},
	LimitOther:        {"unknown_frames", leaky.Rate{Burst: 500, PerSecond: 50}, "frames of no known type, and frames for requests that have ended"},
	LimitTinyWindow:   {"tiny_windows", leaky.Rate{Burst: 500, PerSecond: 50}, "windows that let only some bytes of a response out"},
	LimitStalled:      {"stalled_windows", leaky.Rate{Burst: 10, PerSecond: 0}, "responses given up because their window stayed shut, and none sent whole since"},
	LimitBacklog:      {"backlog", leaky.Rate{Burst: 0, PerSecond: 0}, "nothing read of what was sent for the response time-out"},
}

// Text returns the sentence for people.
func (l Limit) Text() string { return limits[l].text }

// Burst returns how much of it is allowed at once.
func (l Limit) Burst() int64 { return limits[l].rate.Burst }

// Rate returns how much of it is allowed per second once the burst is used up.
func (l Limit) Rate() int64 { return limits[l].rate.PerSecond }

// String returns the limit's stable token.
func (l Limit) String() string { return limits[l].token }

// Stats counts what a worker's HTTP/2 connections came to; the worker writes, anybody reads.
type Stats struct {
	Connections atomic.Uint64           // that spoke HTTP/2
	Streams     atomic.Uint64           // requests
	Refused     [Refusals]atomic.Uint64 // streams
	Errors      [Faults]atomic.Uint64   // connections ended for a breach of the protocol
	Cut         [Limits]atomic.Uint64   // connections ended for a Limit
}

// credit is what a client may send because of what this side has sent, and is not charged.
type credit struct {
	settings, pings int // acknowledgements
	resets          int // for streams that have ended
}

// debts is how much of each limit's burst a connection has used.
type debts [Limits]leaky.Bucket

// charge counts one more at a loop time and reports whether the connection is within its limit.
func (d *debts) charge(l Limit, now int64) bool { return d[l].Take(1, now, limits[l].rate) }
