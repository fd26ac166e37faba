// Package http3 is the HTTP/3 front end (RFC 9114), on quic-go.
//
// quic-go runs on goroutines of its own, exchanges on the worker's reactor. A request has
// a foot in both: its goroutine writes what the exchange has to say, a second one reads the
// body if there is one, and each tells the reactor by Loop.Submit when it has got on. When the
// exchange has ended, the request's goroutine drops what is left of the body (leftover.go).
// Nothing is queued without bound: at most two pieces of body wait for the pod, and the
// exchange's next words wait until the last ones were written.
package http3

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

// Limits of what a client can make the proxy hold of a body, in bytes: a stream's receive window,
// which grows with what the path can carry while the pod takes the body. quic-go gives a
// connection's window back as bytes are read, not as they come, so that it is as large as all its
// streams may need (connectionWindow): a body that no pod reads must stop no other request.
const (
	firstStreamWindow = 64 << 10
	maxStreamWindow   = 512 << 10
)

const (
	// unprovenPerSecond is Server.UnprovenPerSecond if nothing else is said.
	unprovenPerSecond = 200
)

// Server serves the HTTP/3 connections of one worker.
type Server struct {
	worker *exchange.Worker
	log    zerolog.Logger
	stats  *Stats

	// UnprovenPerSecond is how many connections a second are begun with clients that have
	// not proved their address; beyond it they must (RFC 9000 section 8.1.2, Retry), so that
	// forged addresses cost a packet and not a handshake. Set before Listen.
	UnprovenPerSecond int64

	// MaxUnused is how many connections that have not had a request one source may have. Set
	// before Listen.
	MaxUnused int

	http       http3.Server
	crowd      crowd
	ids        quic.ConnectionIDGenerator
	transports []*quic.Transport
	attempts   attempts
}

// Stats are a worker's counts; anybody may read.
type Stats struct {
	Connections atomic.Uint64 // handshakes done
	Open        atomic.Int64
	Requests    atomic.Uint64
	Active      atomic.Int64
	Refused     atomic.Uint64 // connections, as there were too many, of all or of their source
	Retried     atomic.Uint64 // clients that had to prove their address

	HandshakesFailed [len(HandshakeFaults)]atomic.Uint64
	Errors           [len(Faults)]atomic.Uint64 // connections ended for a breach of the protocol
}

// New makes a server. ids makes the connection ids by which packets find this worker; nil:
// random ones.
func New(w *exchange.Worker, stats *Stats, ids quic.ConnectionIDGenerator, log zerolog.Logger) *Server {
	s := &Server{worker: w, log: log, stats: stats, ids: ids, UnprovenPerSecond: unprovenPerSecond, MaxUnused: maxUnused}
	s.http = http3.Server{
		Handler:     http.HandlerFunc(s.serve),
		ConnContext: s.opened,
	}
	return s
}

// Listen serves the connections that come in by a socket, which it takes over.
func (s *Server) Listen(socket net.PacketConn) error {
	settings := &s.worker.Config.Load().Settings
	// Above it quic-go answers 431 itself, which is in no log: up to it this package does.
	s.http.MaxHeaderBytes = maxFieldSection(settings.MaxHead)
	t := &quic.Transport{Conn: socket, ConnectionIDGenerator: s.ids, VerifySourceAddress: s.mustProve, ConnContext: s.begun}
	c := s.quicConfig()
	c.GetConfigForClient = func(*quic.ClientInfo) (*quic.Config, error) { return s.quicConfig(), nil }
	listener, err := t.Listen(&tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: s.configFor}, c)
	if err != nil {
		return err
	}
	s.transports = append(s.transports, t)
	go func() {
		if err := s.http.ServeListener(listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, quic.ErrServerClosed) {
			s.log.Error().Err(err).Msg("HTTP/3 is no longer served; HTTP/2 is")
		}
	}()
	return nil
}

// maxFieldSection returns how many bytes of fields are decoded where a head may have max.
func maxFieldSection(max int) int { return 4 * max }

// connectionWindow returns how many bytes of all streams may be on their way or kept here. As
// quic-go tells the client of more only once a quarter of it was read, it is twice what the
// streams can fill.
func connectionWindow(streams int) uint64 { return 2 * uint64(streams+1) * maxStreamWindow }

const (
	// silence is how long a client may be silent at the least before it counts as gone.
	// --idle-timeout, which may be less, is for connections without a request (connection.expire).
	silence = 30 * time.Second
	// keepAlive is after how long a silent client is asked whether it is there. Half of its own
	// idle time-out is the most, so that its library does not end a connection whose answer is
	// still to come (RFC 9114 section 5.1 leaves that to clients, of which many do not care).
	keepAlive = 20 * time.Second
)

// quicConfig returns what connections that begin now are held to.
func (s *Server) quicConfig() *quic.Config {
	settings := &s.worker.Config.Load().Settings
	window := connectionWindow(settings.MaxStreams)
	return &quic.Config{
		HandshakeIdleTimeout:           settings.HeadTimeout,
		MaxIdleTimeout:                 max(settings.IdleTimeout, silence),
		KeepAlivePeriod:                keepAlive,
		InitialStreamReceiveWindow:     firstStreamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: window,
		MaxConnectionReceiveWindow:     window,
		MaxIncomingStreams:             int64(settings.MaxStreams),
		MaxIncomingUniStreams:          8, // control and QPACK; clients open three
	}
}

// configFor is asked for each handshake, so that certificates change without touching open
// connections.
func (s *Server) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	c := s.worker.Config.Load().TLS.QUIC
	if c.GetConfigForClient != nil {
		if own, err := c.GetConfigForClient(hello); own != nil || err != nil {
			return own, err
		}
	}
	return c, nil
}

// mustProve reports whether a client has to prove its address first.
func (s *Server) mustProve(a net.Addr) bool {
	if s.attempts.within(time.Now().Unix(), s.UnprovenPerSecond) && !s.crowd.suspicious(a) {
		return false
	}
	s.stats.Retried.Add(1)
	return true
}

// attempts counts within the current second.
type attempts struct{ second, count atomic.Int64 }

func (a *attempts) within(second, limit int64) bool {
	if a.second.Swap(second) != second {
		a.count.Store(0)
	}
	return a.count.Add(1) <= limit
}

func addrPort(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		p := u.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

// Open returns the number of connections.
func (s *Server) Open() int { return int(s.stats.Open.Load()) }

// Drain tells the clients to go elsewhere with their next requests (GOAWAY), and ends each
// connection with its last request or at the latest when ctx ends.
func (s *Server) Drain(ctx context.Context) { s.http.Shutdown(ctx) }

// Close ends all connections and closes the sockets.
func (s *Server) Close() {
	s.http.Close()
	for _, t := range s.transports {
		t.Close()
		t.Conn.Close()
	}
	s.transports = nil
}
