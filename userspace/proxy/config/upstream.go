package config

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// Upstream is how a route's pods are spoken to, as the Ingress says it. Equal ones are one
// pointer in all Snapshots that come of each other.
type Upstream struct {
	HTTP2       bool  // by prior knowledge, or ALPN over TLS; else HTTP/1.1
	GRPC        bool  // the proxy's own errors are told as grpc-status
	ProxyHeader uint8 // version of the PROXY header that begins each connection, 0: none
	TLS         bool
	UpstreamTLS // with TLS
}

// UpstreamTLS is what a TLS connection to a pod is made with.
type UpstreamTLS struct {
	Verify      bool
	Authority   string // id, "": the system's
	ServerName  string // SNI, and what the certificate must be for; "": the request's host
	Certificate string // id, "": none

	MinVersion, MaxVersion uint16 // of TLS; 0: 1.2, and what crypto/tls has
	suites                 string // of TLS 1.2, each ID a character; "": those of crypto/tls
}

// clearText is HTTP/1.1 in clear text, which most pods speak.
var clearText = &Upstream{}

// ClearText is the Transport of HTTP/1.1 in clear text.
var ClearText = &Transport{Upstream: clearText}

// Transport is an Upstream with what its ids stand for in a Snapshot. Connections to pods
// are shared by those who have the same pointer: a certificate or authority that changes
// makes another one.
type Transport struct {
	*Upstream
	// Config is what TLS connections are made with, but for ServerName. nil: clear text.
	Config *tls.Config
	// Missing is the id of what is not in the Snapshot: no connection can be made. "":
	// all is there.
	Missing string

	authority   *Authority
	certificate *tls.Certificate
}

// Transport returns how connections for an Upstream of this Snapshot are made.
func (s *Snapshot) Transport(u *Upstream) *Transport {
	if u == clearText {
		return ClearText
	}
	return s.upstreams.transports[u]
}

// upstreams are those of a Snapshot.
type upstreams struct {
	known      map[Upstream]*Upstream
	transports map[*Upstream]*Transport
}

// take returns the Upstream that p describes. Those of before are taken over.
func (s *upstreams) take(p *feedpb.Upstream, before *upstreams) (*Upstream, error) {
	if p == nil {
		return clearText, nil
	}
	if p.ProxyHeader > 2 {
		return nil, fmt.Errorf("PROXY header version %d: there are 1 and 2", p.ProxyHeader)
	}
	u := Upstream{HTTP2: p.Protocol == feedpb.Upstream_HTTP2, GRPC: p.Grpc, ProxyHeader: uint8(p.ProxyHeader)}
	if t := p.Tls; t != nil {
		u.TLS = true
		u.UpstreamTLS = UpstreamTLS{Verify: t.Verify, Authority: t.Authority, ServerName: t.ServerName, Certificate: t.Certificate}
		if err := u.readVersions(t); err != nil {
			return nil, err
		}
	}
	if u == *clearText {
		return clearText, nil
	}
	if known := s.known[u]; known != nil {
		return known, nil
	}
	known := before.known[u]
	if known == nil {
		known = &u
	}
	s.known[u] = known
	return known, nil
}

// readVersions reads which versions and suites of TLS are spoken to the pods.
func (u *UpstreamTLS) readVersions(t *feedpb.UpstreamTLS) (err error) {
	if t.MinVersion != "" {
		if u.MinVersion, err = parseVersion(t.MinVersion); err != nil {
			return err
		}
	}
	if t.MaxVersion != "" {
		if u.MaxVersion, err = parseVersion(t.MaxVersion); err != nil {
			return err
		}
	}
	if u.MaxVersion != 0 && u.MaxVersion < u.MinVersion {
		return fmt.Errorf("TLS to pods from %s to %s: there is no such version", t.MinVersion, t.MaxVersion)
	}
	ids, err := parseSuites(t.Suites)
	for _, id := range ids { // they lie below 0xd800, where characters that are none begin
		u.suites += string(rune(id))
	}
	return err
}

// extend returns upstreams to which more can be added while s stays as it is. A whole new
// configuration begins with none.
func (s *upstreams) extend(whole bool) upstreams {
	next := upstreams{known: map[Upstream]*Upstream{}}
	if !whole {
		maps.Copy(next.known, s.known)
	}
	return next
}

// resolve makes the transports, keeping those of before for which nothing has changed.
func (s *upstreams) resolve(before *upstreams, known *TLS) {
	s.transports = make(map[*Upstream]*Transport, len(s.known))
	for _, u := range s.known {
		t := &Transport{Upstream: u}
		if u.TLS {
			t.resolve(known)
		}
		if old := before.transports[u]; old != nil && old.authority == t.authority && old.certificate == t.certificate && old.Missing == t.Missing {
			t = old
		}
		s.transports[u] = t
	}
}

// resolve makes what TLS connections to the pods have in common.
func (t *Transport) resolve(known *TLS) {
	t.Config = &tls.Config{
		MinVersion:                  cmp.Or(t.MinVersion, tls.VersionTLS12),
		MaxVersion:                  t.MaxVersion,
		InsecureSkipVerify:          !t.Verify, // pods' own certificates are seldom for a name
		NextProtos:                  []string{"http/1.1"},
		DynamicRecordSizingDisabled: true,
	}
	for _, id := range t.suites {
		t.Config.CipherSuites = append(t.Config.CipherSuites, uint16(id))
	}
	if t.HTTP2 {
		t.Config.NextProtos = []string{"h2"}
	}
	if t.Verify && t.UpstreamTLS.Authority != "" {
		t.authority = known.Authority(t.UpstreamTLS.Authority)
		if t.authority == nil || t.authority.Pool == nil {
			t.Missing = t.UpstreamTLS.Authority
			return
		}
		t.Config.RootCAs = t.authority.Pool
	}
	if id := t.UpstreamTLS.Certificate; id != "" {
		if t.certificate = known.Certificate(id); t.certificate == nil {
			t.Missing = id
			return
		}
		t.Config.Certificates = []tls.Certificate{*t.certificate}
	}
}
