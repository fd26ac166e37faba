package config

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/observe/tracing"
	"github.com/kerngate/kerngate/userspace/proxy/pod/names"
	"github.com/kerngate/kerngate/userspace/proxy/rules/compress"
	"github.com/kerngate/kerngate/userspace/text/logformat"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Settings of the whole proxy; every value is set.
type Settings struct {
	HeadTimeout     time.Duration     // to read a request head, and for a TLS handshake
	IdleTimeout     time.Duration     // between requests of a connection
	ConnectTimeout  time.Duration     // to a pod
	FirstConnect    time.Duration     // the same, while another pod can be asked
	ResponseTimeout time.Duration     // between bytes of a response
	BodyTimeout     time.Duration     // between bytes of a request body
	TunnelTimeout   time.Duration     // between bytes, either way, after an upgrade
	MaxBody         int64             // bytes, 0: no limit
	MaxHead         int               // bytes of a request's head, or of its trailers
	MaxResponseHead int               // bytes of a response's head, or of its trailers
	MaxFields       int               // of one head or trailer section
	AccessLogSample uint32            // 0 off, 1 every request, n one of n
	AccessLogFormat *logformat.Format // nil: JSON
	DrainTimeout    time.Duration
	TrustedProxies  Prefixes // whose X-Forwarded-* and Forwarded are believed
	ForwardedFor    string   // lower-case name of the header that alone says who their clients are; "": X-Forwarded-For and its like
	ProxyHeaderFrom Prefixes // whose connections must begin with a PROXY header
	Guard           *names.Guard

	Listeners     []Listener
	HTTPSPorts    []uint16 // local ports whose connections are TLS, where no listener is known
	TLSMinVersion uint16   // tls.VersionTLS12 or tls.VersionTLS13
	TLSSuites     []uint16 // of TLS 1.2, nil: those of crypto/tls
	HSTS          []byte   // Strict-Transport-Security of answers over TLS, nil: none
	RedirectPort  uint16   // of the https URLs that clear-text requests are sent to
	HTTP3         bool     // serve QUIC on HTTPSPorts, and say so in Alt-Svc
	DisableHTTP2  bool
	SkMsg         bool              // ask the kernel to join connections to pods of this node
	RetryPercent  int               // of requests in flight that may be retries
	Compression   *compress.Rules   // of responses, where a route has none of its own
	MaxStreams    int               // of one HTTP/2 or HTTP/3 connection
	Trace         *tracing.Settings // nil: requests are not traced
	Proxies       uint32            // that share limits of requests, this one among them
	// MaxConnections bounds the clients' TCP connections; 0: by the limit of descriptors.
	MaxConnections int

	// MaxConnectionsPerSource bounds those of one address, or of one /64, to a worker; 0: no bound.
	MaxConnectionsPerSource int
	// MinRequestRate is what a request's body must come to on average, in bytes a second, once
	// the proxy has waited for it for half of BodyTimeout; 0: no minimum.
	MinRequestRate int64
	// MinResponseRate is what a client must take of a response, in bytes a second on average over
	// each half of ResponseTimeout that the proxy waits for it; 0: no minimum.
	MinResponseRate int64
	// PublicHTTPSPort is the port by which clients reach HTTPSPorts; 0: the same.
	PublicHTTPSPort uint16
	PublicAltSvc    []byte // Alt-Svc where that is set

	// Of request bodies that are gathered because they have no length, in bytes: of one
	// request (0: they are not gathered) and of all of a worker.
	RequestBuffer, RequestBuffers int64
	Large                         Large // what becomes of those that are larger
}

// Large is what becomes of a request body without a length that is too large for memory.
type Large uint8

const (
	LargeSpool   Large = iota // it goes to a file; where there is no folder for it, as LargeRefuse
	LargeRefuse               // the answer is 411
	LargeChunked              // the pod gets it in chunks
)

func largeOf(p *feedpb.Settings) Large {
	switch {
	case p.LargeRequestsChunked:
		return LargeChunked
	case p.LargeRequestsRefused:
		return LargeRefuse
	}
	return LargeSpool
}

// RequestLimits returns what bounds the head of a request. All of it may be the request line.
func (s *Settings) RequestLimits() message.Limits {
	return message.Limits{RequestLine: s.MaxHead, Head: s.MaxHead, Fields: s.MaxFields}
}

// Listener is an address and port at which the proxy is reached.
type Listener struct {
	Name    string
	Address netip.AddrPort
	TLS     bool // connections begin with a handshake
}

// IsTLS reports whether connections to a local address begin with a handshake.
func (s *Settings) IsTLS(local netip.AddrPort) bool {
	for i := range s.Listeners {
		if s.Listeners[i].Address == local {
			return s.Listeners[i].TLS
		}
	}
	return slices.Contains(s.HTTPSPorts, local.Port())
}

// DefaultSettings returns what is in force where the agent says nothing.
func DefaultSettings() Settings {
	return Settings{
		HeadTimeout:     15 * time.Second,
		IdleTimeout:     75 * time.Second,
		ConnectTimeout:  5 * time.Second,
		FirstConnect:    250 * time.Millisecond,
		ResponseTimeout: 60 * time.Second,
		BodyTimeout:     60 * time.Second,
		TunnelTimeout:   time.Hour,
		MaxHead:         message.DefaultLimits.Head,
		MaxResponseHead: message.DefaultLimits.Head,
		MaxFields:       message.DefaultLimits.Fields,
		DrainTimeout:    240 * time.Second,
		TLSMinVersion:   tls.VersionTLS12,
		RedirectPort:    443,
		MaxStreams:      128,
		RetryPercent:    20,
		Compression:     &compress.Rules{},
		Proxies:         1,
		RequestBuffer:   4 << 20,
		RequestBuffers:  64 << 20,
	}
}

func settings(p *feedpb.Settings) (Settings, error) {
	ms := func(v uint32, def time.Duration) time.Duration {
		return cmp.Or(time.Duration(v)*time.Millisecond, def)
	}
	d := DefaultSettings()
	s := Settings{
		HeadTimeout:     ms(p.HeadTimeoutMs, d.HeadTimeout),
		IdleTimeout:     ms(p.IdleTimeoutMs, d.IdleTimeout),
		ConnectTimeout:  ms(p.ConnectTimeoutMs, d.ConnectTimeout),
		FirstConnect:    ms(p.FirstConnectTimeoutMs, d.FirstConnect),
		ResponseTimeout: ms(p.ResponseTimeoutMs, d.ResponseTimeout),
		BodyTimeout:     ms(p.BodyTimeoutMs, d.BodyTimeout),
		TunnelTimeout:   ms(p.TunnelTimeoutMs, d.TunnelTimeout),
		MaxBody:         int64(min(p.MaxBodyBytes, 1<<62)),
		MaxHead:         cmp.Or(int(p.MaxHeadBytes), d.MaxHead),
		MaxResponseHead: min(cmp.Or(int(p.MaxResponseHeadBytes), d.MaxResponseHead), message.MaxHead),
		MaxFields:       cmp.Or(int(min(p.MaxFields, 1<<16)), d.MaxFields),
		AccessLogSample: p.AccessLogSample,
		DrainTimeout:    ms(p.DrainTimeoutMs, d.DrainTimeout),
		HSTS:            []byte(p.Hsts),
		HTTP3:           p.Http3,
		DisableHTTP2:    p.DisableHttp2,
		MaxStreams:      cmp.Or(int(min(p.MaxStreams, 1<<30)), d.MaxStreams),
		MaxConnections:  int(min(p.MaxConnections, 1<<30)),
		Proxies:         max(p.Proxies, 1),
		SkMsg:           p.SkMsg,
		RetryPercent:    cmp.Or(int(min(p.RetryPercent, 100)), d.RetryPercent),
		RequestBuffer:   d.RequestBuffer,
		RequestBuffers:  cmp.Or(int64(min(p.RequestBufferTotal, 1<<62)), d.RequestBuffers),
		Large:           largeOf(p),
		MinRequestRate:  int64(p.MinRequestRate),
		MinResponseRate: int64(p.MinResponseRate),

		MaxConnectionsPerSource: int(min(p.MaxConnectionsPerSource, 1<<30)),
	}
	if p.RequestBufferBytes != nil {
		s.RequestBuffer = int64(min(*p.RequestBufferBytes, 1<<62))
	}
	var errs [11]error
	s.TrustedProxies, errs[0] = parsePrefixes("trusted proxies", p.TrustedProxies)
	s.ProxyHeaderFrom, errs[1] = parsePrefixes("PROXY header from", p.ProxyHeaderFrom)
	s.HTTPSPorts, errs[2] = parsePorts(p)
	s.TLSMinVersion, errs[3] = parseVersion(p.TlsMinVersion)
	s.TLSSuites, errs[4] = parseSuites(p.TlsSuites)
	s.AccessLogFormat, errs[5] = logformat.Parse(p.AccessLogFormat)
	s.Compression, errs[6] = compress.Compile(p.Compression)
	s.Trace, errs[7] = tracing.Compile(p.TraceEndpoint, p.TraceRatio, p.TraceTrust)
	s.Listeners, errs[8] = parseListeners(p.Listeners)
	s.Guard, errs[9] = parseGuard(p)
	s.ForwardedFor, errs[10] = rule.ForwardedFor(p.ForwardedForHeader)
	if err := errors.Join(errs[:]...); err != nil {
		return Settings{}, err
	}
	if s.PublicHTTPSPort = uint16(p.PublicHttpsPort); s.PublicHTTPSPort != 0 {
		s.PublicAltSvc = fmt.Appendf(nil, `h3=":%d"; ma=86400`, s.PublicHTTPSPort)
	}
	s.RedirectPort = cmp.Or(s.PublicHTTPSPort, uint16(p.RedirectPort), d.RedirectPort)
	if !rule.Printable(p.Hsts) {
		return Settings{}, fmt.Errorf("HSTS %q cannot be the value of a field", p.Hsts)
	}
	return s, nil
}

func parseListeners(list []*feedpb.Listener) (out []Listener, err error) {
	for _, l := range list {
		address, ok := netip.AddrFromSlice(l.Address)
		if !ok || l.Port > 65535 {
			return nil, fmt.Errorf("listener %s: %x with port %d is no address", l.Name, l.Address, l.Port)
		}
		out = append(out, Listener{Name: l.Name, Address: netip.AddrPortFrom(address.Unmap(), uint16(l.Port)), TLS: l.Tls})
	}
	return out, nil
}

func parsePorts(p *feedpb.Settings) (ports []uint16, err error) {
	for _, n := range append(slices.Clone(p.HttpsPorts), p.RedirectPort, p.PublicHttpsPort) {
		if n > 65535 {
			return nil, fmt.Errorf("%d is not a port", n)
		}
	}
	for _, n := range p.HttpsPorts {
		ports = append(ports, uint16(n))
	}
	return ports, nil
}

func parseVersion(name string) (uint16, error) {
	switch name {
	case "", "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("TLS version %q: there are 1.2 and 1.3", name)
}

// parseSuites reads names of cipher suites of TLS 1.2. Those of TLS 1.3 cannot be chosen,
// and those that are not secure are not to be had.
func parseSuites(names []string) (ids []uint16, err error) {
	for _, name := range names {
		i := slices.IndexFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("TLS cipher suite %q is not known, or not secure", name)
		}
		if s := tls.CipherSuites()[i]; slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			ids = append(ids, s.ID)
		}
	}
	if len(names) > 0 && ids == nil {
		return nil, errors.New("no TLS cipher suite of TLS 1.2 is left; leave the list empty, or ask for TLS 1.3 as the minimum")
	}
	return ids, nil
}

func parseGuard(p *feedpb.Settings) (*names.Guard, error) {
	g := &names.Guard{}
	for _, text := range p.OwnAddresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("own addresses: %w", err)
		}
		g.Own = append(g.Own, a.Unmap())
	}
	for _, text := range p.AllowedDestinations {
		prefix, err := rule.Prefix(text)
		if err != nil {
			return nil, fmt.Errorf("allowed destinations: %w", err)
		}
		g.Allowed = append(g.Allowed, prefix)
	}
	return g, nil
}
